"""Which programs the stack takes: those of the PATH when they will do."""

import os
from pathlib import Path

import pytest

from dolcevita.config import UserError
from dolcevita.stack.packages import find_programs, programs_on

GOOD = {"prometheus": "2.42.0", "promtool": "2.42.0", "alertmanager": "0.25.0", "amtool": "0.25.0"}


def install(folder: Path, versions: dict[str, str]) -> str:
    """Programs that answer --version as the real ones do; the PATH that finds them."""
    folder.mkdir(exist_ok=True)
    for name, version in versions.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\necho '{name}, version {version} (branch: HEAD)'\n")
        program.chmod(0o755)
    return str(folder)


def test_the_oldest_supported_versions_of_the_path_are_taken(tmp_path: Path) -> None:
    path = install(tmp_path, GOOD)
    assert find_programs(tmp_path / "data", search=path).prometheus == tmp_path / "prometheus"


def test_debians_name_of_alertmanager_is_known(tmp_path: Path) -> None:
    versions = {**GOOD, "prometheus-alertmanager": "0.33.1"}
    del versions["alertmanager"]
    found = programs_on(install(tmp_path, versions))
    assert not isinstance(found, str)
    assert found.alertmanager == tmp_path / "prometheus-alertmanager"


@pytest.mark.parametrize(
    ("versions", "words"),
    [
        ({**GOOD, "prometheus": "2.41.9"}, "prometheus is 2.41, older than 2.42"),
        ({**GOOD, "alertmanager": "0.24.0"}, "alertmanager is 0.24, older than 0.25"),
        ({**GOOD, "prometheus": "unknown"}, "does not tell its version"),
        ({"prometheus": "3.0.0"}, "no promtool on the PATH"),
        ({}, "no prometheus on the PATH"),
    ],
)
def test_what_will_not_do_is_said(versions: dict[str, str], words: str, tmp_path: Path) -> None:
    assert words in str(programs_on(install(tmp_path, versions)))


def test_without_debians_tools_the_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        UserError, match=r"install Prometheus 2\.42 and Alertmanager 0\.25 or later"
    ):
        find_programs(tmp_path / "data")


def test_a_failed_download_says_apts_words_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("apt-get", "dpkg-deb"):
        (tmp_path / name).write_text("#!/bin/sh\necho 'E: no such source' >&2\nexit 100\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}/nowhere")
    said: list[str] = []
    with pytest.raises(UserError, match="apt-get could not get the packages: E: no such source"):
        find_programs(tmp_path / "data", said.append)
    assert "downloading the distribution's packages" in said[0]
    assert not list((tmp_path / "data").glob("packages*"))
