"""Where the stack's variables come from, and the sentence each mistake gets."""

from pathlib import Path

import pytest

from dolcevita.config import UserError
from dolcevita.stack.settings import DEFAULTS, read_settings


def test_defaults_are_relative_to_the_project_folder(tmp_path: Path) -> None:
    settings = read_settings(tmp_path, {})
    assert settings.sites == tmp_path / "sites.yml"
    assert settings.people == tmp_path / "people.yml"
    assert settings.status == tmp_path / "status.yml"
    assert settings.data == tmp_path / ".stack"
    assert settings.runtime == "auto"
    assert settings.url("exporter") == "http://127.0.0.1:9714"


def test_the_environment_goes_before_the_env_file(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "# ours\n\nEXPORTER_PORT=1111\nexport COURIER_PORT = '2222'  # quoted\n"
        'DOLCEVITA_SITES="my sites.yml"\nSOMETHING_ELSE=x\nGRAFANA_PORT=\n'
    )
    settings = read_settings(tmp_path, {"EXPORTER_PORT": "3333", "PROMETHEUS_PORT": ""})
    assert settings.ports == {
        "exporter": 3333,
        "courier": 2222,
        "prometheus": 9090,
        "alertmanager": 9093,
        "grafana": 3000,
    }
    assert settings.sites == tmp_path / "my sites.yml"


@pytest.mark.parametrize(
    ("environ", "sentence"),
    [
        ({"EXPORTER_PORT": "x"}, "EXPORTER_PORT is 'x', expected a port number from 1 to 65535"),
        ({"GRAFANA_PORT": "0"}, "GRAFANA_PORT is '0', expected a port number from 1 to 65535"),
        ({"GRAFANA_PORT": "65536"}, "GRAFANA_PORT is '65536', expected a port number"),
        ({"COURIER_PORT": "9714"}, "COURIER_PORT and EXPORTER_PORT are both 9714"),
        ({"DOLCEVITA_RUNTIME": "podman"}, "expected one of: auto, native, docker"),
        ({"GRAFANA_LANGUAGE": "de"}, "GRAFANA_LANGUAGE is 'de', expected one of: en, fr"),
    ],
)
def test_a_wrong_value_is_named(environ: dict[str, str], sentence: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=sentence):
        read_settings(tmp_path, environ)


def test_a_line_of_the_env_file_that_is_none_is_named_with_its_number(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("EXPORTER_PORT=1\nEXPORTER_PORT 2\n")
    with pytest.raises(UserError, match=r"\.env:2: found 'EXPORTER_PORT 2', expected NAME=value"):
        read_settings(tmp_path, {})


def test_the_example_env_file_shows_the_defaults() -> None:
    lines = (Path(__file__).parents[2] / ".env.example").read_text().splitlines()
    shown = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    assert shown == dict(DEFAULTS)
