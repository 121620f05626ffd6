"""The real stack on free ports, each component to be started, killed and stopped by itself."""

import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import requests

from dolcevita.demo.project import quicken
from dolcevita.stack import checks, native
from dolcevita.stack.packages import Programs
from dolcevita.stack.settings import Settings, read_settings
from dolcevita.stack.supervisor import Component
from waiting import free_port, until

REPOSITORY = Path(__file__).parent.parent.parent
PORTS = ("EXPORTER", "PROMETHEUS", "ALERTMANAGER", "COURIER", "GRAFANA")


class Stack:
    """A project folder with the repository's own configuration, and the processes on it.

    The commands are those of `dolcevita up`; here the test, not a supervisor, keeps them.
    """

    def __init__(
        self, folder: Path, programs: Programs, sites: str, people: str, quick: bool = True
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        for part in ("prometheus", "alertmanager"):
            shutil.copytree(REPOSITORY / part, folder / part)
        if quick:
            quicken(folder / "prometheus/prometheus.yml")
        self.sites = folder / "sites.yml"
        self.people = folder / "people.yml"
        self.sites.write_text(sites)
        self.people.write_text(people)
        ports = {f"{name}_PORT": str(free_port()) for name in PORTS}
        self.settings: Settings = read_settings(folder, {"DOLCEVITA_DATA": "data", **ports})
        self.settings.data.mkdir(mode=0o700)
        self.prometheus_url = self.settings.url("prometheus")
        self.alertmanager_url = self.settings.url("alertmanager")
        self.exporter_url = self.settings.url("exporter")
        self.components = self._components(programs, self.settings)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def _components(self, programs: Programs, settings: Settings) -> dict[str, Component]:
        before = os.environ["PATH"]
        os.environ["PATH"] = f"{programs.prometheus.parent}{os.pathsep}{before}"
        try:
            config, compiled = checks.compiled_alertmanager(settings)
            found = native.prepare(settings, config, compiled, lambda line: None)
        finally:
            os.environ["PATH"] = before
        return {component.name: component for component in found if component.name != "grafana"}

    def start(self, *names: str) -> None:
        """Start the components, all without names, and wait until they are well."""
        wanted = names or tuple(self.components)
        for name in wanted:
            component = self.components[name]
            with (self.folder / f"{name}.log").open("ab") as log:
                self.processes[name] = subprocess.Popen(
                    component.command,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=self.folder,
                    env={**os.environ, **component.environment},
                    start_new_session=True,
                )
        for name in wanted:
            until(lambda name=name: self.well(name), f"{name} is well", within=60)  # type: ignore[misc]

    def well(self, name: str) -> bool:
        with suppress(urllib.error.URLError, OSError):
            return bool(
                urllib.request.urlopen(self.components[name].health, timeout=1).status == 200
            )
        return False

    def kill(self, *names: str) -> None:
        """SIGKILL, as a power cut or the kernel's memory killer would."""
        for name in names:
            self._end(name, signal.SIGKILL)

    def noted(self, receiver: str) -> None:
        """Wait until Alertmanager's log on disk says that it told this receiver something: what
        it told just before a kill it may tell again."""
        log = self.settings.data / "alertmanager/nflog"
        name = receiver.encode()
        until(lambda: log.exists() and name in log.read_bytes(), f"{receiver} is noted")

    def stop(self) -> None:
        for name in list(self.processes):
            self._end(name, signal.SIGKILL)

    def _end(self, name: str, number: int) -> None:
        process = self.processes.pop(name)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        process.wait()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        answer = requests.get(
            f"{self.prometheus_url}/api/v1/query", params={"query": expression}, timeout=10
        )
        answer.raise_for_status()
        return list(answer.json()["data"]["result"])

    def seen_up(self, count: int) -> None:
        """Wait until Prometheus has seen `count` sites up."""
        until(
            lambda: any(
                float(sample["value"][1]) >= count
                for sample in self.query("count(probe_success == 1)")
            ),
            f"{count} sites up",
            within=60,
        )
