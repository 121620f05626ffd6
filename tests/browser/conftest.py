"""A stack that has run for months, and a browser to look at it."""

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import requests

sys.path.insert(0, str(Path(__file__).parent.parent / "integration"))

from playwright.sync_api import Browser, sync_playwright

from binaries import version_ends
from dolcevita.config import UserError
from past import Lived, Outage, write
from running import Stack
from waiting import free_port, until

TOKEN = "f3b0c44298fc1c149afb"
LONG = "newsletter-of-the-association-of-friends-of-the-old-mill.example.com"

PEOPLE = """
providers: [{name: infogerance, notify: [{webhook: "http://127.0.0.1:9/"}]}]
owners:
  - {name: marie, language: fr, timezone: Europe/Paris, notify: [{webhook: "http://127.0.0.1:9/"}]}
  - {name: paul, timezone: Europe/Paris, notify: [{webhook: "http://127.0.0.1:9/"}]}
"""

HOUR_AGO = f"{datetime.now(ZoneInfo('Europe/Paris')) - timedelta(hours=1):%Y-%m-%d %H:%M}"

STATUS = f"""
pages:
  - {{owner: marie, token: {TOKEN}, name: "Les sites de Marie", logo: logo.svg, colour: "#7b3fa0"}}
maintenance:
  - {{sites: [intranet], from: "{HOUR_AGO}", for: 4h, because: "New <b>theme</b>"}}
notes:
  - {{at: "{HOUR_AGO}", text: "We move to a new server <script>alert(1)</script> soon."}}
"""

LOGO = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 40">
<circle cx="20" cy="20" r="18" fill="#7b3fa0"/><path d="M10 28V12l10 10 10-10v16" fill="none"
stroke="#fff" stroke-width="4"/></svg>"""


@dataclass(frozen=True)
class Watched:
    """The running stack and what its sites went through, by name."""

    stack: Stack
    lived: dict[str, Lived]
    down: str
    seeded: int

    @property
    def url(self) -> str:
        return self.stack.exporter_url

    def value(self, expression: str) -> float:
        """The one value that Prometheus has for an expression."""
        (sample,) = self.stack.query(expression)
        return float(sample["value"][1])


class _Fine(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"fine")

    def log_message(self, *args: object) -> None:
        pass


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """The newest programs; the oldest, too, for tests that say so."""
    if "watched" in metafunc.fixturenames:
        both = metafunc.definition.get_closest_marker("both_ends")
        ends = [
            pytest.param(end, marks=pytest.mark.xdist_group(f"browser-{end}"))
            for end in (("newest", "oldest") if both else ("newest",))
        ]
        metafunc.parametrize("watched", ends, indirect=True, scope="session")


@pytest.fixture(scope="session")
def watched(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Watched]:
    """A Prometheus with three months of history, one site of which is down now."""
    try:
        programs = version_ends()[request.param]
    except UserError as error:
        pytest.skip(str(error))
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Fine)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    fine = f"http://127.0.0.1:{server.server_address[1]}"
    stories = [
        ("shop", "marie", "srv1", (Outage(3, 1500, "timeout"), Outage(40, 9000, "connect"))),
        ("blog", "marie", "srv1", (Outage(40, 9300, "connect", planned=True),)),
        ("api", "marie", "srv2", (Outage(12, 45, "status"), Outage(25, 400, "tls"))),
        ("intranet", "marie", "srv2", ()),
        ("café <b>Léon</b>", "paul", "srv3", (Outage(20, 80000, "dns"),)),
        ("mail", "paul", "srv3", ()),
        (LONG, "paul", "srv4", (Outage(8, 700, "timeout"),)),
    ]
    lived, entries = {}, []
    for place, (name, owner, host, outages) in enumerate(stories):
        url = f"{fine}/{place}" if name != "mail" else f"http://127.0.0.1:{free_port()}/"
        entries.append(
            f"  - {{name: '{name}', url: '{url}', owner: {owner}, host: {host}, objective: 99.9%}}"
        )
        labels = {
            "site": name,
            "owner": owner,
            "provider": "infogerance",
            "host": host,
            "instance": url,
        }
        days = 30 if name == "api" else 100
        certificate = {"shop": 12.5, "api": -2.5}.get(name, 61.5)
        domain = 30.5 if name == "blog" else 200
        lived[name] = Lived(labels, outages, days, 0.08 * (place + 1), certificate, domain)
    sites = "defaults: {every: 5s, timeout: 5s}\nsites:\n" + "\n".join(entries) + "\n"
    stack = Stack(tmp_path_factory.mktemp("stack") / "project", programs, sites, PEOPLE)
    (stack.folder / "status.yml").write_text(STATUS)
    (stack.folder / "logo.svg").write_text(LOGO)
    # Its group follows the others every two minutes; what it records is the same sooner.
    slo = stack.folder / "prometheus/rules/slo.yml"
    slo.write_text(slo.read_text().replace("interval: 2m", "interval: 5s"))
    seeded = write(stack.settings.data / "prometheus", list(lived.values()), programs)
    try:
        stack.start("exporter", "prometheus", "alertmanager")
        until(
            lambda: bool(
                stack.query("incident:open:timestamp_seconds")
                and stack.query('site:availability:ratio{window="90d"}')
            ),
            "an incident, and the first availability of the rules",
            within=200,
        )
        # The page asks now and then, and shows what it was told last.
        until(
            lambda: _knows(f"{stack.exporter_url}/status.json"),
            "the incident, availability and answer times on the page",
            within=90,
        )
        yield Watched(stack, lived, "mail", seeded)
    finally:
        stack.stop()
        server.shutdown()


def _knows(url: str) -> bool:
    page = requests.get(url, timeout=10).json()
    return any(incident["outcome"] == "open" for incident in page["incidents"]) and all(
        "90d" in site["availability"] and (site["answer_seconds"] or site["state"] == "down")
        for site in page["sites"]
    )


@pytest.fixture(scope="session")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where screenshots go: into docs/ only by `make screenshots`."""
    asked = os.environ.get("SCREENSHOTS")
    return Path(asked) if asked else tmp_path_factory.mktemp("shots")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if not program:
        pytest.skip("no Chromium on the PATH: on Debian, apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()
