"""Both processors: every locked package of the images has a wheel, with its hash, for each."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-browser.lock")

PYTHON = "3.13"
"""Of PYTHON_IMAGE in exporter/Dockerfile, whose Debian has glibc 2.41."""

PLATFORMS = ("manylinux2014", "manylinux_2_28", "manylinux_2_34")


@pytest.mark.soak
@pytest.mark.parametrize("processor", ["aarch64", "x86_64"])
@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_a_wheel(processor: str, lock: str, tmp_path: Path) -> None:
    assert f"PYTHON_IMAGE=docker.io/library/python:{PYTHON}." in (ROOT / ".env.example").read_text()
    result = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes", "--no-deps"),
            *("--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"),
            *(f"--platform={platform}_{processor}" for platform in PLATFORMS),
            *("--dest", tmp_path, "--requirement", ROOT / lock),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert len([*tmp_path.glob("*.whl")]) == (ROOT / lock).read_text().count("==")
