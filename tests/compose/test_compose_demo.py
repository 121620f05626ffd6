"""The demo in a real engine, once: the evening comes true, and nothing is left of it."""

import subprocess
import sys
from pathlib import Path

import pytest

from dolcevita.demo.docker import PROJECT

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("compose"),
]


def test_the_evening_comes_true_in_containers(docker: dict[str, str], tmp_path: Path) -> None:
    result = subprocess.run(
        [Path(sys.executable).with_name("dolcevita"), "demo", "--auto"],
        cwd=ROOT,
        env={
            **docker,
            "DOLCEVITA_DATA": str(tmp_path),
            "DOLCEVITA_RUNTIME": "docker",
            "LC_ALL": "C",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    print(result.stdout)
    log = tmp_path / "demo/logs/compose.log"
    assert result.returncode == 0, result.stderr + (log.read_text() if log.exists() else "")
    told = [line for line in result.stdout.splitlines() if " phone: " in line]
    assert len(told) == 3
    assert "DOWN la-boutique: no connection" in told[0]
    assert "UP la-boutique" in told[1]
    assert "Marie's phone: la-boutique was down" in told[2]
    label = f"label=com.docker.compose.project={PROJECT}"
    for kind in (("ps", "--all"), ("volume", "ls"), ("network", "ls")):
        command = ["docker", *kind, "--quiet", "--filter", label]
        assert not subprocess.run(command, env=docker, capture_output=True, check=True).stdout
