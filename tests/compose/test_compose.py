"""The compose file as it stands, in a real engine: `dolcevita up`, an outage, an edit, the end."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

import images
from waiting import free_port, until

ROOT = Path(__file__).parents[2]
SERVICES = ("exporter", "courier", "alertmanager", "prometheus")

# Every request to stdout, which the engine keeps.
RECEIVER = """
import http.server
class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        print(self.path + " " + body, flush=True)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args):
        pass
http.server.HTTPServer(("", 80), Receiver).serve_forever()
"""

SITES = {
    "defaults": {"every": "5s", "timeout": "2s"},
    "sites": [{"name": "shop", "url": "http://shop/"}],
}
PEOPLE = {
    "providers": [{"name": "infogerance", "notify": [{"webhook": "http://receiver/provider"}]}],
    "owners": [
        {
            "name": "marie",
            "timezone": "Europe/Paris",
            "notify": [{"webhook": "http://receiver/owner"}],
        }
    ],
}

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("compose")]


class Stack:
    """A project folder, `dolcevita up` in it, and a shop and a receiver in its network."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.name = f"dolcevita-{os.getpid()}-{folder.name}"
        self.ports = {name: free_port() for name in (*SERVICES, "grafana")}
        self.environment = {
            **environment,
            **{f"{name.upper()}_PORT": str(port) for name, port in self.ports.items()},
            "EXPORTER_IMAGE": f"dolcevita-test/exporter:{self.name}",
            "GRAFANA_IMAGE": "dolcevita-test/none-such:1",
            "COMPOSE_PROJECT_NAME": self.name,
            "DOLCEVITA_RUNTIME": "docker",
        }
        for name in (
            *("docker-compose.yml", ".dockerignore", "exporter", "prometheus", "alertmanager"),
            *("grafana", "requirements.lock", "pyproject.toml", "README.md"),
        ):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        self.edit("sites.yml", SITES)
        self.edit("people.yml", PEOPLE)
        # Others may not read who is told: the containers get the group.
        (folder / "people.yml").chmod(0o640)
        self.up: subprocess.Popen[bytes] | None = None
        self.seconds_to_well = 0.0

    def edit(self, name: str, content: dict[str, Any]) -> None:
        """As editors save: a new file takes the name of the old one."""
        scratch = self.folder / f"{name}.new"
        scratch.write_text(yaml.safe_dump(content))
        scratch.replace(self.folder / name)

    def docker(self, *words: str) -> str:
        result = subprocess.run(
            ["docker", *words],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    def start(self) -> None:
        with (self.folder / "output").open("wb") as output:
            self.up = subprocess.Popen(
                [Path(sys.executable).with_name("dolcevita"), "up"],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def is_well(self) -> bool:
        assert self.up
        assert self.up.poll() is None, self.output()
        return "everything is well" in self.output()

    def run_beside(self, name: str, program: str) -> None:
        """A container in the stack's network, called `name` there."""
        self.docker(
            *("run", "--detach", "--name", f"{self.name}-{name}", "--network-alias", name),
            *("--network", f"{self.name}_default", images.PYTHON, "python3", "-u", "-c", program),
        )

    def received(self, path: str) -> list[tuple[str, list[str]]]:
        """(status, alert names) of every notification sent to `path`."""
        found = []
        for line in self.docker("logs", f"{self.name}-receiver").splitlines():
            where, _, body = line.partition(" ")
            if where == path:
                message = json.loads(body)
                names = [alert["labels"]["alertname"] for alert in message["alerts"]]
                found.append((message["status"], names))
        return found

    def query(self, expression: str) -> list[dict[str, Any]]:
        answer = requests.get(
            f"http://127.0.0.1:{self.ports['prometheus']}/api/v1/query",
            params={"query": expression},
            timeout=5,
        )
        return list(answer.json()["data"]["result"])

    def remove(self) -> None:
        if self.up and self.up.poll() is None:
            self.up.terminate()
            self.up.wait(120)
        for name in ("shop", "receiver"):
            subprocess.run(["docker", "rm", "--force", f"{self.name}-{name}"], check=False)
        self.docker("compose", "down", "--volumes", "--remove-orphans")
        subprocess.run(
            ["docker", "rmi", self.environment["EXPORTER_IMAGE"]], capture_output=True, check=False
        )


@pytest.fixture(scope="module")
def stack(docker: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack that is well; in its network a shop that answers, and a receiver."""
    folder = tmp_path_factory.mktemp("stack")
    # What pytest makes, its owner alone may enter; the containers run as another user.
    folder.chmod(0o755)
    made = Stack(folder, docker)
    try:
        made.docker("compose", "create", "--build", *SERVICES)
        made.run_beside("receiver", RECEIVER)
        made.run_beside(
            "shop", "import http.server as h; h.test(h.SimpleHTTPRequestHandler, port=80)"
        )
        made.start()
        began = time.monotonic()
        until(made.is_well, made.output, within=120)
        made.seconds_to_well = time.monotonic() - began
        yield made
    finally:
        made.remove()


def test_the_stack_is_well_within_a_minute_and_says_where_to_look(stack: Stack) -> None:
    assert stack.seconds_to_well <= 60
    assert "Grafana is skipped" in stack.output()
    for name in ("exporter", "prometheus", "alertmanager"):
        assert f"http://127.0.0.1:{stack.ports[name]}/" in stack.output()
    healthy = "{{.Name}} {{.State.Health.Status}} {{.Config.User}}"

    def states() -> set[str]:
        containers = stack.docker("compose", "ps", "--quiet", *SERVICES).split()
        return set(stack.docker("inspect", "--format", healthy, *containers).splitlines())

    expected = {f"/{stack.name}-{name}-1 healthy 65534:65534" for name in SERVICES}
    until(lambda: states() == expected, "every container healthy, as nobody", within=30)


def test_an_outage_pages_the_provider_and_tells_both_of_its_end(stack: Stack) -> None:
    until(lambda: stack.query('probe_success{site="shop"} == 1'), "the shop seen up", within=60)
    stack.docker("stop", "--time", "0", f"{stack.name}-shop")
    page = ("firing", ["SiteDown"])
    until(lambda: page in stack.received("/provider"), "the provider's page", within=60)
    stack.docker("start", f"{stack.name}-shop")
    recovery = ("resolved", ["SiteDown"])
    until(lambda: recovery in stack.received("/provider"), "the provider's recovery", within=180)
    good_news = ("firing", ["IncidentResolved"])
    until(lambda: good_news in stack.received("/owner"), "the owner's good news", within=180)
    assert stack.received("/owner") == [good_news]
    assert stack.received("/provider").count(page) == 1


def test_an_edit_that_replaces_the_file_is_followed_within_ten_seconds(stack: Stack) -> None:
    until(lambda: stack.query("up"), "Prometheus' first scrape", within=60)
    sites = [*SITES["sites"], {"name": "second", "url": "http://shop/second"}]
    stack.edit("sites.yml", {**SITES, "sites": sites})
    until(lambda: stack.query('probe_success{site="second"}'), "the new site", within=10)
    status = f"http://127.0.0.1:{stack.ports['alertmanager']}/api/v2/status"
    started = datetime.fromisoformat(requests.get(status, timeout=5).json()["uptime"])
    # Before its --dispatch.start-delay is over, Alertmanager does not answer a reload.
    until(
        lambda: datetime.now(UTC) - started > timedelta(seconds=30),
        "the end of Alertmanager's start",
        within=35,
    )
    people = json.loads(json.dumps(PEOPLE))
    people["owners"][0]["name"] = "jeanne"
    stack.edit("people.yml", people)
    until(
        lambda: "owner/jeanne" in requests.get(status, timeout=5).json()["config"]["original"],
        "the new owner in Alertmanager",
        within=10,
    )


def test_the_compiled_file_with_its_secrets_is_its_owners_alone(stack: Stack) -> None:
    mode = stack.docker(
        *("compose", "exec", "-T", "courier", "stat", "--format", "%a %u"),
        "/var/lib/dolcevita/alertmanager.yml",
    )
    assert mode.split() == ["600", "65534"]


def test_a_signal_stops_every_container(stack: Stack) -> None:
    assert stack.up
    stack.up.terminate()
    assert stack.up.wait(60) == 0
    assert stack.docker("compose", "ps", "--quiet", "--status", "running").split() == []


def test_an_engine_without_the_images_falls_back_and_says_why(
    docker: dict[str, str], tmp_path: Path
) -> None:
    """The native stack then stops at a port that is taken: it need not run here."""
    made = Stack(tmp_path, {**docker, "PYTHON_IMAGE": "dolcevita-test/none-such:1"})
    made.environment["DOLCEVITA_RUNTIME"] = "auto"
    with socket.create_server(("127.0.0.1", made.ports["exporter"])):
        made.start()
        assert made.up
        assert made.up.wait(300) == 1
    said = made.output().splitlines()
    reason = "running native, without Docker: the exporter's image cannot be built: "
    assert any(line.startswith(reason) for line in said)
    assert said[-1].startswith(f"port {made.ports['exporter']} of 127.0.0.1")
