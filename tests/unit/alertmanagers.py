"""A real Alertmanager on a compiled configuration, and a receiver that records what arrives."""

import json
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests

from binaries import version_ends
from dolcevita.config import UserError
from dolcevita.stack.packages import Programs
from waiting import free_port, until

ROOT = Path(__file__).parents[2]


def programs(end: str) -> Programs:
    """The "oldest" or "newest" version end; skips the test where it is not to be had."""
    try:
        return version_ends()[end]
    except UserError as error:
        pytest.skip(str(error))


@dataclass
class Receiver:
    """An HTTP server that keeps the JSON of every POST, by path, and answers what it is told to."""

    port: int
    posts: list[tuple[str, Any]] = field(default_factory=list)
    answer: Callable[[str], int] = lambda path: 200

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def at(self, path: str) -> list[Any]:
        return [body for posted, body in list(self.posts) if posted == f"/{path}"]

    def told(self, path: str) -> list[tuple[str, str, list[str]]]:
        """(status, alert name, sites) of each notification, as Alertmanager's webhook sent it."""
        return [
            (
                alerts[0]["status"],
                alerts[0]["labels"]["alertname"],
                sorted(alert["labels"].get("site", "") for alert in alerts),
            )
            for alerts in (body["alerts"] for body in self.at(path))
        ]


@contextmanager
def receiving() -> Iterator[Receiver]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = receiver.answer(self.path)
            if status < 300:
                receiver.posts.append((self.path, json.loads(body)))
            self.send_response(status)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 512  # Hundreds of people may be told at once.

    server = Server(("127.0.0.1", 0), Handler)
    receiver = Receiver(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Running:
    """One Alertmanager process with its data, which can be killed and started again."""

    def __init__(self, found: Programs, config: Path, data: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._command = [
            str(found.alertmanager),
            f"--config.file={config}",
            f"--storage.path={data}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
            "--data.retention=1200h",
            "--data.maintenance-interval=250ms",
        ]
        self._log = data.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        until(self._ready, "Alertmanager is ready")

    def kill(self, number: int = signal.SIGKILL) -> None:
        assert self._process is not None
        self._process.send_signal(number)
        self._process.wait(20)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        try:
            return requests.get(f"{self.url}/-/ready", timeout=2).ok
        except requests.ConnectionError:
            return False

    def post(self, *alerts: dict[str, Any]) -> None:
        requests.post(f"{self.url}/api/v2/alerts", json=alerts, timeout=5).raise_for_status()

    def reload(self) -> None:
        requests.post(f"{self.url}/-/reload", timeout=20).raise_for_status()

    def last_reload(self) -> float:
        """Unix time of the last reload that worked."""
        metrics = requests.get(f"{self.url}/metrics", timeout=5).text
        name = "alertmanager_config_last_reload_success_timestamp_seconds"
        found = re.search(rf"^{name} (\S+)", metrics, re.MULTILINE)
        assert found
        return float(found[1])

    def firing(self, name: str) -> list[dict[str, Any]]:
        query = {"filter": f'alertname="{name}"'}
        answer = requests.get(f"{self.url}/api/v2/alerts", params=query, timeout=5)
        found: list[dict[str, Any]] = answer.json()
        return found


@contextmanager
def alertmanager(found: Programs, config: Path, folder: Path) -> Iterator[Running]:
    running = Running(found, config, folder / "alertmanager-data")
    try:
        running.start()
        yield running
    finally:
        running.kill()


def alert(name: str, lasts: float = 120, age: float = 0, **labels: str) -> dict[str, Any]:
    """An alert as Prometheus posts it: it runs out after `lasts` seconds if not sent again."""
    now = datetime.now(UTC)
    severity = {"Watchdog": "none", "IncidentResolved": "info"}.get(name, "critical")
    return {
        "labels": {"alertname": name, "severity": severity, **labels},
        "annotations": {},
        "startsAt": (now - timedelta(seconds=age)).isoformat(),
        "endsAt": (now + timedelta(seconds=lasts)).isoformat(),
    }


def project(folder: Path, receiver: Receiver) -> Path:
    """A project folder: the repository's base file and templates, people who use `receiver`."""
    shutil.copytree(ROOT / "alertmanager", folder / "alertmanager")
    (folder / "prometheus/rules").mkdir(parents=True)
    (folder / "prometheus/prometheus.yml").write_text("")
    (folder / "sites.yml").write_text("sites: [https://www.example.com]\n")
    (folder / "people.yml").write_text(
        "providers:\n"
        f"  - {{name: infogerance, notify: [{{webhook: '{receiver.url('provider')}'}}]}}\n"
        "owners:\n"
        f"  - {{name: marie, notify: [{{webhook: '{receiver.url('owner')}'}}]}}\n"
    )
    return folder
