"""A project folder with the repository's own compose file, and what tests do to its containers."""

import os
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from dolcevita.demo.project import quicken
from waiting import free_port, until

ROOT = Path(__file__).parents[2]
SERVICES = ("exporter", "courier", "alertmanager", "prometheus")
COPIED = (
    *("docker-compose.yml", ".dockerignore", "exporter", "prometheus", "alertmanager", "grafana"),
    *("caddy", "secrets", "requirements.lock", "requirements-build.lock"),
    *("requirements-browser.lock", "pyproject.toml", "README.md"),
)
PORTS = ("EXPORTER", "COURIER", "PROMETHEUS", "ALERTMANAGER", "GRAFANA")
PORTS_IN_PUBLIC = ("PUBLIC_HTTP", "PUBLIC_HTTPS")


class Project:
    """A folder of its own, on ports of its own, and its containers."""

    def __init__(
        self, folder: Path, environment: Mapping[str, str], sites: str, people: str
    ) -> None:
        self.folder = folder
        self.name = f"dolcevita-{os.getpid()}-{folder.name}"
        # What pytest makes, its owner alone may enter; the containers run as another user.
        folder.chmod(0o755)
        self.ports = {name: free_port() for name in (*PORTS, *PORTS_IN_PUBLIC)}
        self.environment = {
            **environment,
            **{f"{name}_PORT": str(port) for name, port in self.ports.items()},
            "COMPOSE_PROJECT_NAME": self.name,
            "DOLCEVITA_RUNTIME": "docker",
        }
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, folder / name)
        self.sites = folder / "sites.yml"
        self.sites.write_text(sites)
        self.people = folder / "people.yml"
        self.people.write_text(people)
        # Others may not read who is told: the containers get the group.
        self.people.chmod(0o640)
        self.environment["DOLCEVITA_GROUP"] = str(self.people.stat().st_gid)

    def quicken(self) -> None:
        """Let time pass quickly, as the integration tests do."""
        quicken(self.folder / "prometheus/prometheus.yml")

    def replace(self, path: Path, text: str) -> None:
        """As editors save: a new file takes the name of the old one, and its mode."""
        scratch = path.with_suffix(".new")
        scratch.write_text(text)
        if path.exists():
            scratch.chmod(path.stat().st_mode)
        scratch.replace(path)

    def docker(self, *words: str | Path) -> str:
        """Run docker to its end: what it printed. Fails the test with what it said."""
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

    def compose(self, *words: str) -> str:
        return self.docker("compose", *words)

    def start(self, *services: str) -> None:
        self.compose("up", "--detach", "--no-build", *services)

    def remove(self) -> None:
        self.compose("--profile", "public", "down", "--volumes", "--remove-orphans", "--timeout=0")

    def container(self, service: str) -> str:
        return f"{self.name}-{service}-1"

    def pid(self, service: str) -> int:
        """The process of a container as this machine sees it, 0 while there is none."""
        state = self.docker("inspect", "--format={{.State.Pid}}", self.container(service))
        return int(state)

    def program(self, service: str) -> int:
        """The process that does the work: where Docker puts its init before it, the child."""
        process = Path("/proc") / str(pid := self.pid(service))
        if (process / "comm").read_text().strip() != "docker-init":
            return pid
        return int((process / "task" / str(pid) / "children").read_text().split()[0])

    def kill(self, service: str) -> None:
        """SIGKILL from outside, as a crash: after `docker kill` the engine would not restart it."""
        os.kill(self.pid(service), signal.SIGKILL)

    def logs(self, service: str) -> str:
        words = ("logs", "--no-color", "--no-log-prefix", service)
        result = subprocess.run(
            ["docker", "compose", *words],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return result.stdout

    def url(self, component: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[component.upper()]}{path}"

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query; nothing while Prometheus does not answer."""
        try:
            answer = requests.get(
                self.url("prometheus", "/api/v1/query"), params={"query": expression}, timeout=5
            )
        except requests.RequestException:
            return []
        return list(answer.json()["data"]["result"]) if answer.ok else []

    def number(self, expression: str) -> float:
        """The first value of an instant query, 0 without any."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else 0.0

    def alertmanager_runs_on(self) -> str:
        """The configuration that Alertmanager has, '' while it does not answer."""
        try:
            url = self.url("alertmanager", "/api/v2/status")
            return str(requests.get(url, timeout=5).json()["config"]["original"])
        except requests.RequestException:
            return ""

    def seen_up(self, count: int) -> None:
        until(
            lambda: self.number("count(probe_success == 1)") >= count,
            lambda: f"{count} sites up; {self.query('probe_success')}",
            within=90,
        )
