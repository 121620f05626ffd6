"""What Caddy refuses in public before anybody has set a password or asked for Grafana."""

import os
import re
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests
import yaml

import doors
from binaries import debian_package
from dolcevita.config import UserError
from waiting import free_port, until

ROOT = Path(__file__).parents[2]
PORTS = ("8080", "8443", "8081", "8082")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def ports(tmp_path: Path, log: Path) -> Iterator[dict[str, int]]:
    """A Caddy on the repository's Caddyfile, without users; its ports by those of the container."""
    try:
        program = debian_package("sid", "caddy") / "bin/caddy"
    except UserError as error:
        pytest.skip(str(error))
    free = {port: free_port() for port in PORTS}
    users = tmp_path / "users"
    users.touch()
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    default = compose["services"]["caddy"]["environment"]["PUBLIC_GRAFANA"]
    grafana = default.removeprefix("${PUBLIC_GRAFANA:-").removesuffix("}")
    text = (ROOT / "caddy/Caddyfile").read_text().replace("/run/secrets/public_users", str(users))
    file = tmp_path / "Caddyfile"
    file.write_text(_on(free, text))
    environment = {"PUBLIC_HOST": "localhost", "PUBLIC_GRAFANA": _on(free, grafana)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "run", "--config", file, "--adapter", "caddyfile"],
            stdout=output,
            stderr=output,
            env={
                **os.environ,
                **environment,
                "HOME": str(tmp_path),
                "XDG_DATA_HOME": str(tmp_path),
            },
        )
    try:
        until(lambda: _code(free["8081"]) == 200, log.read_text, within=30)
        until(lambda: _has_its_certificate(free["8443"]), log.read_text, within=30)
        yield free
    finally:
        process.terminate()
        process.wait(10)


def _on(free: dict[str, int], text: str) -> str:
    return re.sub(r"\b80[48]\d\b|\b8443\b", lambda found: str(free[found[0]]), text)


def _has_its_certificate(port: int) -> bool:
    """Whether Caddy has made it, which it begins after it answers without TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        context.wrap_socket(plain, server_hostname="localhost").close()
        return True
    return False


def _code(port: int, host: str = "127.0.0.1") -> int:
    try:
        return requests.get(
            f"http://127.0.0.1:{port}/", headers={"Host": host}, allow_redirects=False, timeout=5
        ).status_code
    except requests.RequestException:
        return 0


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_without_users_nobody_sees_the_page_of_everything(ports: dict[str, int]) -> None:
    url = f"https://localhost:{ports['8443']}/"
    for auth in (None, ("", ""), ("marie", "")):
        assert requests.get(url, auth=auth, verify=False, timeout=10).status_code == 401


def test_a_request_that_never_ends_is_ended(ports: dict[str, int]) -> None:
    with socket.create_connection(("127.0.0.1", ports["8080"]), timeout=15) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")
        while connection.recv(1000):
            pass


def test_without_its_name_nobody_in_public_reaches_grafana(ports: dict[str, int]) -> None:
    unknown = _code(ports["8080"], "nobody.invalid")
    assert _code(ports["8080"], "grafana.invalid") == unknown == 404
    assert _code(ports["8080"], "localhost") == 308
    assert _code(ports["8082"], f"grafana.invalid:{ports['8082']}") == 401


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_the_log_of_a_failure_tells_no_token_and_no_password(
    ports: dict[str, int], log: Path
) -> None:
    """No exporter is here: each request fails."""
    asked = f"https://localhost:{ports['8443']}"
    for path in (doors.MARIE, f"/ping/{doors.TOKEN}?token={doors.TOKEN}"):
        headers = {"Referer": f"{asked}{doors.MARIE}", "Cookie": doors.TOKEN}
        answer = requests.get(
            asked + path, auth=("marie", doors.TOKEN), headers=headers, verify=False, timeout=60
        )
        assert answer.status_code == 502
    until(lambda: log.read_text().count("exporter") >= 2, log.read_text, within=5)
    assert doors.TOKEN not in log.read_text()
