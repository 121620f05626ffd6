"""What the compose file and the native stack must have in common, and what it must not let out."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dolcevita.stack import docker, native
from dolcevita.stack.settings import DEFAULTS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def services() -> dict[str, dict[str, Any]]:
    loaded = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return dict(loaded["services"])


def test_prometheus_and_alertmanager_run_with_the_native_flags(
    services: dict[str, dict[str, Any]],
) -> None:
    assert set(native.PROMETHEUS_FLAGS) <= set(services["prometheus"]["command"])
    flags = {*native.ALERTMANAGER_FLAGS, native.START_DELAY_FLAG}
    assert flags <= set(services["alertmanager"]["command"])


def test_every_published_port_is_local_and_has_the_documented_default(
    services: dict[str, dict[str, Any]],
) -> None:
    for name in docker.PUBLISHED:
        variable = f"{name.upper()}_PORT"
        inside = native.COMPOSE_PORTS[name]
        expected = f"127.0.0.1:${{{variable}:-{DEFAULTS[variable]}}}:{inside}"
        assert services[name]["ports"] == [expected]
    published = {name for name, service in services.items() if "ports" in service}
    assert published == {*docker.PUBLISHED, "caddy"}
    assert services["caddy"]["profiles"] == ["public"]


def test_every_service_restarts_has_few_rights_limits_and_bounded_logs(
    services: dict[str, dict[str, Any]],
) -> None:
    for name, service in services.items():
        assert service["restart"] == ("no" if name in docker.ONCE else "unless-stopped")
        assert service["read_only"] is True
        assert service["mem_limit"]
        assert service["cpus"]
        assert service["pids_limit"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["logging"]["options"] == {"max-size": "10m", "max-file": "2"}


def test_where_the_processor_is_short_watching_goes_first(
    services: dict[str, dict[str, Any]],
) -> None:
    assert {name for name, service in services.items() if service.get("cpu_shares")} == {
        "grafana",
        "caddy",
    }


def test_each_service_sees_only_what_it_reads(services: dict[str, dict[str, Any]]) -> None:
    mounts = {
        name: [volume.partition(":")[0] for volume in service["volumes"]]
        for name, service in services.items()
    }
    assert mounts == {
        "exporter": ["./"],
        "courier": ["./", "compiled"],
        "alertmanager": ["./alertmanager", "compiled", "alertmanager"],
        "prometheus": ["./prometheus", "prometheus"],
        "grafana": ["./grafana", "grafana"],
        "caddy": ["./caddy", "caddy"],
        "caddy-data": ["caddy"],
    }


def test_only_neighbours_share_a_network(services: dict[str, dict[str, Any]]) -> None:
    members: dict[str, set[str]] = {}
    for name, service in services.items():
        for network in service.get("networks", ()):
            members.setdefault(network, set()).add(name)
    assert members == {
        "probing": {"prometheus", "exporter"},
        "alerting": {"prometheus", "alertmanager", "courier"},
        "maintenance": {"exporter", "alertmanager"},
        "dashboards": {"prometheus", "grafana"},
        "status": {"exporter", "caddy"},
        "front": {"grafana", "caddy"},
    }


NATIVE_ALONE = {"DOLCEVITA_DATA", "DOLCEVITA_RUNTIME", "COURIER_PORT"}
"""A container's data lie in volumes, and the courier's port is not published."""

OF_COMPOSE = {"COMPOSE_PROFILES", "PYTHON_IMAGE"}
"""The first is Compose's own, the second for the build."""

EXAMPLES = {"PUBLIC_HOST", "PUBLIC_GRAFANA", "DOLCEVITA_GROUP"}
"""What these show is no default, but what one would set."""


def test_each_variable_of_the_example_is_known_with_and_without_docker() -> None:
    """With a # it is Docker's alone; what it shows is the default of the compose file."""
    example = (ROOT / ".env.example").read_text()
    shown = dict(re.findall(r"^(\w+)=(.*)$", example, re.MULTILINE))
    of_docker = dict(re.findall(r"^# ([A-Z_]+)=(\S*)$", example, re.MULTILINE))
    text = (ROOT / "docker-compose.yml").read_text()
    read = dict(re.findall(r"\$\{(\w+):-((?:[^{}]|\{[^{}]*\})*)\}", text))
    assert set(re.findall(r"\$\{?(\w+)", text)) == {*read, "EXPORTER_PORT"}
    assert set(shown) == set(DEFAULTS)
    assert (set(shown) - NATIVE_ALONE) | (set(of_docker) - OF_COMPOSE) == set(read)
    for name in set(read) & set(shown) - {"DOLCEVITA_EXTERNAL_URL"}:
        assert read[name] == shown[name]
    for name in set(read) & set(of_docker) - EXAMPLES:
        assert read[name] == of_docker[name]


def test_the_example_env_file_names_the_pinned_images(
    services: dict[str, dict[str, Any]],
) -> None:
    example = (ROOT / ".env.example").read_text()
    for service in services.values():
        variable, _, image = service["image"].removeprefix("${").removesuffix("}").partition(":-")
        assert f"# {variable}={image}\n" in example
    dockerfile = (ROOT / "exporter/Dockerfile").read_text()
    assert dockerfile.count("ARG PYTHON_IMAGE=") == 1
    base = dockerfile.partition("ARG ")[2].partition("\n")[0]
    assert f"# {base}\n" in example
    for line in re.findall(r"^# [A-Z]+_IMAGE=.*$", example, re.MULTILINE):
        if "EXPORTER_IMAGE" not in line:
            assert re.search(r":v?\d+\.\d+\.\d+(-|$)", line), f"{line}: not one version"
