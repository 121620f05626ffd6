"""Receivers that record what arrives: one web hook for everybody, told apart by path."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Message:
    """One delivery of Alertmanager; `at` is unix seconds."""

    at: float
    to: str
    payload: dict[str, Any]

    @property
    def status(self) -> str:
        return str(self.payload["status"])

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return list(self.payload["alerts"])

    def of(self, label: str) -> list[str]:
        """The values of one label, in the order of the alerts."""
        return [alert["labels"].get(label, "") for alert in self.alerts]

    def __str__(self) -> str:
        what = ", ".join(
            f"{a['status']} {a['labels']['alertname']}/{a['labels'].get('site', '')}"
            for a in self.alerts
        )
        return f"{self.at:.1f} {self.to}: {what}"


class Inbox:
    """What has arrived so far, oldest first."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.all: list[Message] = []

    def address(self, name: str) -> str:
        """The web hook of a person."""
        return f"{self.url}/{name}"

    def to(self, name: str, alertname: str = "", status: str = "") -> list[Message]:
        """What a person was sent, of one alert and status where given."""
        return [
            message
            for message in self.all
            if message.to == name
            and (not alertname or alertname in message.of("alertname"))
            and (not status or message.status == status)
        ]

    def log(self) -> str:
        """Everything, a line each, for a failed assertion."""
        return "\n".join(str(message) for message in self.all)


@contextmanager
def inbox(address: str = "127.0.0.1") -> Iterator[Inbox]:
    """An Inbox that listens on a free port of `address` while the context lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            name = self.path.strip("/")
            received.all.append(Message(time.time(), name, json.loads(body)))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            """Nothing on the terminal."""

    server = ThreadingHTTPServer((address, 0), Handler)
    received = Inbox(f"http://{address}:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield received
    finally:
        server.shutdown()
        server.server_close()
