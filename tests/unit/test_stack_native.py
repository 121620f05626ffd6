"""The prometheus.yml that a native Prometheus gets, and the check of ports."""

import dataclasses
import socket
from pathlib import Path

import yaml

from dolcevita.stack import checks, native
from dolcevita.stack.settings import Settings, read_settings
from waiting import free_port

ROOT = Path(__file__).parents[2]
PORTS = {
    "EXPORTER_PORT": "1001",
    "COURIER_PORT": "1002",
    "PROMETHEUS_PORT": "1003",
    "ALERTMANAGER_PORT": "1004",
    "GRAFANA_PORT": "1005",
}


def settings(folder: Path) -> Settings:
    return read_settings(folder, PORTS)


def test_addresses_and_paths_become_local(tmp_path: Path) -> None:
    text = """
    rule_files: [rules/*.yml, /etc/other.yml]
    alerting: {alertmanagers: [{static_configs: [{targets: ["alertmanager:9093"]}]}]}
    scrape_configs:
      - job_name: "exporter:9714/"
        scrape_interval: 5s
        honor_labels: true
        http_sd_configs: [{url: "http://exporter:9714/sd?x=1"}]
        basic_auth: {username: u, password_file: secret}
      - job_name: others
        static_configs: [{targets: ["courier:9715", "localhost:9090", "elsewhere:9714"]}]
        file_sd_configs: [{files: [targets/*.yml]}]
    """
    config = yaml.safe_load(native.native_prometheus_config(text, settings(tmp_path)))
    folder = tmp_path / "prometheus"
    assert config == {
        "rule_files": [f"{folder}/rules/*.yml", "/etc/other.yml"],
        "alerting": {
            "alertmanagers": [{"static_configs": [{"targets": ["127.0.0.1:1004"]}]}],
        },
        "scrape_configs": [
            {
                "job_name": "exporter:9714/",
                "scrape_interval": "5s",
                "honor_labels": True,
                "http_sd_configs": [{"url": "http://127.0.0.1:1001/sd?x=1"}],
                "basic_auth": {"username": "u", "password_file": f"{folder}/secret"},
            },
            {
                "job_name": "others",
                "static_configs": [
                    {"targets": ["127.0.0.1:1002", "127.0.0.1:1003", "elsewhere:9714"]}
                ],
                "file_sd_configs": [{"files": [f"{folder}/targets/*.yml"]}],
            },
        ],
    }


def test_the_shipped_configuration_names_no_compose_host_any_more(tmp_path: Path) -> None:
    shipped = (ROOT / "prometheus/prometheus.yml").read_text()
    generated = native.native_prometheus_config(shipped, settings(tmp_path))
    for component, port in native.COMPOSE_PORTS.items():
        assert f"{component}:{port}" not in generated


def test_text_that_is_no_yaml_is_left_for_prometheus_to_refuse(tmp_path: Path) -> None:
    places = settings(tmp_path)
    places.data.mkdir()
    places.prometheus_config.parent.mkdir()
    places.prometheus_config.write_text("global: [")
    native.write_prometheus_config(places)
    assert (places.data / "prometheus.yml").read_text() == "global: ["


def test_a_taken_port_gets_one_sentence_that_names_the_variable(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        places = dataclasses.replace(
            settings(tmp_path), ports={"exporter": port, "courier": free_port()}
        )
        assert list(checks.taken_ports(places, ["exporter", "courier"])) == [
            f"port {port} of 127.0.0.1, meant for exporter, cannot be used (address already in "
            "use): stop what holds it, or set EXPORTER_PORT to another one"
        ]
