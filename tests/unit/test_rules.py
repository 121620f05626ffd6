"""The rules' own unit tests, run by the promtool of both version ends."""

import subprocess
from pathlib import Path

import pytest

from dolcevita.stack.packages import Programs

PROMETHEUS = Path(__file__).parent.parent.parent / "prometheus"
TESTS = sorted(PROMETHEUS.glob("tests/*.test.yml"))


@pytest.mark.parametrize("file", TESTS, ids=lambda path: path.stem)
def test_rules_do_what_their_tests_say(programs: Programs, file: Path) -> None:
    run = subprocess.run(
        [programs.promtool, "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr


def test_prometheus_accepts_its_configuration(programs: Programs) -> None:
    run = subprocess.run(
        [programs.promtool, "check", "config", PROMETHEUS / "prometheus.yml"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
