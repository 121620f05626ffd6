"""The exporter's image with Chromium in it, as the compose file runs it."""

import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

import images
from engine import Engine
from project import Project
from town import INSIDE
from waiting import until

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("compose")]

PAGES = {
    "/": "<!doctype html><title>Shop</title><h1>Open</h1>",
    "/broken": "<!doctype html><title>Shop</title><script>console.error('no cart')</script>",
}


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        page = PAGES.get(self.path)
        self.send_response(404 if page is None else 200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write((page or "").encode())

    def log_message(self, *words: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def project(own_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """A running exporter with a browser, which watches two of PAGES."""
    server = ThreadingHTTPServer((own_engine.address(), 0), Pages)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shop = f"browser+http://{INSIDE}:{server.server_address[1]}"
    expect = {"console_errors": 0}
    sites = [
        {"name": "good", "url": f"{shop}/", "expect": expect},
        {"name": "broken", "url": f"{shop}/broken", "expect": expect},
    ]
    timing = {"every": "1m", "timeout": "30s"}
    environment = {
        **own_engine.environment,
        "EXPORTER_IMAGE": images.BROWSER,
        "EXPORTER_VARIANT": "browser",
        "EXPORTER_MEMORY": "1g",
    }
    made = Project(
        tmp_path_factory.mktemp("browser"),
        environment,
        yaml.safe_dump({"defaults": timing, "sites": sites}),
        "providers: [{name: infogerance, notify: [{webhook: 'http://127.0.0.1:9/'}]}]\n"
        "owners: [{name: marie, timezone: Europe/Paris, notify: [{email: marie@example.com}]}]\n",
    )
    try:
        made.compose("build", "exporter")
        made.start("exporter")
        until(lambda: _answers(made), lambda: made.logs("exporter"), within=60)
        yield made
    finally:
        made.remove()
        server.shutdown()


def _answers(project: Project) -> bool:
    try:
        return requests.get(project.url("exporter", "/-/healthy"), timeout=1).ok
    except requests.RequestException:
        return False


def _probe(project: Project, site: str) -> dict[str, float]:
    answer = requests.get(project.url("exporter", f"/probe?site={site}"), timeout=60)
    families = text_string_to_metric_families(answer.text)
    return {
        sample.labels.get("reason", sample.name): sample.value
        for family in families
        for sample in family.samples
    }


def test_a_page_is_well_in_a_browser_without_rights_or_a_disk(project: Project) -> None:
    seen = _probe(project, "good")
    assert seen["probe_success"] == 1, project.logs("exporter")
    assert seen["probe_browser_largest_contentful_paint_seconds"] > 0
    pid = project.program("exporter")
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert set(status["Uid"].split()) == {"65534"}
    assert (status["NoNewPrivs"], status["CapBnd"]) == ("1", "0000000000000000")


def test_an_error_on_the_console_fails_with_a_picture(project: Project) -> None:
    seen = _probe(project, "broken")
    assert seen["probe_success"] == 0
    assert seen["content"] == 1
    picture = requests.get(project.url("exporter", "/site/broken?format=png"), timeout=10)
    assert picture.content.startswith(b"\x89PNG")


def test_the_small_image_refuses_the_same_file_and_says_what_to_do(project: Project) -> None:
    mount = f"{project.folder}:/etc/dolcevita:ro"
    group = project.environment["DOLCEVITA_GROUP"]
    refused = subprocess.run(
        ["docker", "run", "--rm", "--group-add", group, "--volume", mount, images.EXPORTER],
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 1
    assert refused.stderr.startswith("sites.yml:")
    assert "EXPORTER_VARIANT=browser" in refused.stderr
