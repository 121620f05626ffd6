"""Caddy, which speaks every version of HTTP."""

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from binaries import debian_package
from dolcevita.config import UserError
from waiting import free_port, until

EVERY_VERSION = ("h1", "h2", "h3")


@contextmanager
def caddy(folder: Path, pair: Path, protocols: tuple[str, ...] = EVERY_VERSION) -> Iterator[int]:
    """A port on 127.0.0.1 that says `fine` over TLS, with the certificate and key in `pair`."""
    try:
        program = debian_package("sid", "caddy") / "bin/caddy"
    except UserError as error:
        pytest.skip(str(error))
    port, plain = free_port(), free_port()
    answer = [{"handle": [{"handler": "static_response", "body": "fine"}]}]
    config = {
        "admin": {"disabled": True},
        "apps": {
            "http": {
                "servers": {
                    "secure": {
                        "listen": [f"127.0.0.1:{port}"],
                        "protocols": protocols,
                        "routes": answer,
                        "automatic_https": {"disable": True},
                        "tls_connection_policies": [{}],
                    },
                    "plain": {"listen": [f"127.0.0.1:{plain}"], "routes": answer},
                }
            },
            "tls": {"certificates": {"load_files": [{"certificate": str(pair), "key": str(pair)}]}},
        },
    }
    folder.mkdir(exist_ok=True)
    (folder / "caddy.json").write_text(json.dumps(config))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [program, "run", "--config", folder / "caddy.json"],
            stdout=log,
            stderr=log,
            env={**os.environ, "HOME": str(folder), "XDG_DATA_HOME": str(folder)},
        )
    try:
        until(lambda: _answers(plain), lambda: (folder / "log").read_text(), within=30)
        yield port
    finally:
        process.terminate()
        process.wait(10)


def _answers(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/", timeout=1).ok
    except requests.RequestException:
        return False
