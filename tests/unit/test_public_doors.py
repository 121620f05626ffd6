"""What is open in public: every route of the exporter is judged, and nginx keeps to it, too."""

import asyncio
import http.client
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

import doors
from dolcevita.exporter.app import Exporter
from dolcevita.exporter.live import Live
from waiting import free_port, until

ROOT = Path(__file__).parents[2]

NGINX = """
daemon off; master_process off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{exporter}; location / {{ return 200 $request_uri; }} }}
    server {{
        listen 127.0.0.1:{port};
        {documented}
    }}
}}
"""


def test_each_route_of_the_exporter_is_judged_to_be_public_or_not() -> None:
    for resource in _router().resources():
        pattern = re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(resource.canonical))
        assert any(re.fullmatch(pattern, path) for path in doors.PUBLIC), resource.canonical


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[int]:
    """The port of an nginx with the lines of docs/docker.md; what it lets through is answered."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if not program:
        pytest.skip("no nginx on this machine")
    guide = (ROOT / "docs/docker.md").read_text()
    documented = guide.partition("```nginx\n")[2].partition("```")[0]
    (tmp_path / "users").write_text("marie:{PLAIN}open\n")
    exporter, port = free_port(), free_port()
    documented = documented.replace("/etc/nginx/users", str(tmp_path / "users"))
    documented = documented.replace("127.0.0.1:9714", f"127.0.0.1:{exporter}")
    (tmp_path / "nginx.conf").write_text(
        NGINX.format(folder=tmp_path, exporter=exporter, port=port, documented=documented)
    )
    process = subprocess.Popen([program, "-c", tmp_path / "nginx.conf"], stderr=subprocess.DEVNULL)
    try:
        until(lambda: _get(port, "/status/x")[0] == 200, "nginx", within=15)
        yield port
    finally:
        process.kill()
        process.wait()


def test_the_documented_nginx_lets_the_world_see_no_more_than_caddy(nginx: int) -> None:
    for path, judged in doors.PUBLIC.items():
        expected = {"open": (200, path), "password": (401, ""), "shut": (404, "")}[judged]
        assert _get(nginx, path) == expected
    assert _get(nginx, "/", "bWFyaWU6b3Blbg==") == (200, "/")
    for path in doors.TRICKS:
        through = _get(nginx, path)[1]
        assert not through or _page(through) in ("", "/ping/{token}", "/status/{owner}/{token}")


def _page(path: str) -> str:
    """The route that the exporter would serve a path by, '' for none."""
    resolved = asyncio.run(_router().resolve(make_mocked_request("GET", path)))
    return resolved.route.resource.canonical if resolved.route.resource else ""


def _router() -> web.UrlDispatcher:
    return Exporter(Live(ROOT / "sites.yml", ROOT / "people.yml")).app().router


def _get(port: int, path: str, credentials: str = "") -> tuple[int, str]:
    """Status and, of what came through, the path that was asked for."""
    headers = {"Authorization": f"Basic {credentials}"} if credentials else {}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
        except OSError:
            return 0, ""
        text = answer.read().decode()
        return answer.status, text if answer.status == 200 else ""
