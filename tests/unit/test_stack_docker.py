"""When Docker is used, and what is said when it cannot be: with a stand-in for its command."""

import json
import os
from pathlib import Path

import pytest

from dolcevita.stack import docker
from dolcevita.stack.settings import read_settings

SERVICES = ("exporter", "courier", "alertmanager", "prometheus", "grafana")
CONFIG = json.dumps({"services": {name: {"image": f"image/{name}"} for name in SERVICES}})

ALL_WELL = f"""
case "$*" in
  *"compose"*"config"*) echo '{CONFIG}' ;;
esac
exit 0
"""


@pytest.fixture
def find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> "Find":
    return Find(tmp_path, monkeypatch)


class Find:
    """Asks with a `docker` command that is this shell script, after the words `before`."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.said: list[str] = []
        (folder / "bin").mkdir()
        (folder / ".stack").mkdir()
        (folder / "people.yml").touch()
        monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")

    def __call__(self, before: str, **environ: str) -> docker.Stack | str:
        command = self.folder / "bin/docker"
        command.write_text(f"#!/bin/sh\n{before}\n{ALL_WELL}")
        command.chmod(0o755)
        return docker.find(read_settings(self.folder, environ), self.said.append)


def test_an_engine_that_has_all_images_runs_every_service(find: Find) -> None:
    stack = find("")
    assert isinstance(stack, docker.Stack)
    assert set(stack.services) == set(SERVICES)


@pytest.mark.parametrize(
    ("before", "reason"),
    [
        ('[ "$1" = version ] && exit 1', "no Docker engine answers"),
        ('[ "$1 $2" = "compose version" ] && exit 1', "docker has no compose plugin"),
        (
            'case "$*" in *config*) echo "no file" >&2; exit 1;; esac',
            "docker compose refuses the compose file: no file",
        ),
        (
            'case "$*" in *" build exporter"|*inspect*image/exporter) '
            'echo "no base" >&2; exit 1;; esac',
            "the exporter's image cannot be built: no base",
        ),
        (
            'case "$*" in *pull*image/prometheus|*inspect*image/prometheus) '
            'echo "no route" >&2; exit 1;; esac',
            "the image image/prometheus cannot be pulled: no route",
        ),
    ],
)
def test_what_keeps_docker_from_running_the_stack_is_said(
    before: str, reason: str, find: Find
) -> None:
    assert find(before) == reason


def test_grafana_is_skipped_when_only_its_image_is_missing(find: Find) -> None:
    stack = find('case "$*" in *image/grafana) echo "no route" >&2; exit 1;; esac')
    assert isinstance(stack, docker.Stack)
    assert set(stack.services) == set(SERVICES) - {"grafana"}
    assert find.said[-1] == "Grafana is skipped, its image cannot be pulled: no route"


def test_a_build_that_fails_falls_back_on_the_image_built_before(find: Find) -> None:
    assert isinstance(
        find('case "$*" in *" build exporter") echo offline >&2; exit 1;; esac'), docker.Stack
    )
    assert find.said[-1] == "it cannot be built again, the one built before is used: offline"


def test_files_outside_the_project_are_mounted_where_they_are(
    find: Find, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "people.yml").touch()
    stack = find(
        "",
        DOLCEVITA_PEOPLE=str(elsewhere / "people.yml"),
        DOLCEVITA_STATUS=str(elsewhere / "page.yml"),
    )
    assert isinstance(stack, docker.Stack)
    assert stack.environment["DOLCEVITA_SITES"] == "sites.yml"
    assert stack.environment["DOLCEVITA_PEOPLE"] == str(elsewhere / "people.yml")
    assert stack.environment["DOLCEVITA_STATUS"] == str(elsewhere / "page.yml")
    override = (find.folder / ".stack/compose.yml").read_text()
    assert f"{elsewhere}:{elsewhere}:ro" in override
