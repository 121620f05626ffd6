"""sites.yml is edited while the real stack runs: no scrape is lost, and a mistake is refused."""

import time
from collections.abc import Iterator

import pytest
import requests
import yaml

from binaries import version_ends
from dolcevita.config import UserError
from hosts import Host
from inbox import Inbox, inbox
from running import Stack
from waiting import until

WITHIN = 10
"""Seconds from an edit until it is live."""


class Edited:
    """A running stack, and its sites.yml as data."""

    def __init__(self, stack: Stack, received: Inbox, host: Host) -> None:
        self.stack = stack
        self.received = received
        self.host = host

    def write(self, *sites: dict[str, object]) -> None:
        self.stack.sites.write_text(sites_yml(*sites))

    def site(self, name: str, path: str = "", **more: object) -> dict[str, object]:
        return {"name": name, "url": f"{self.host.url}/{path or name}", **more}

    def value(self, expression: str) -> float | None:
        found = self.stack.query(expression)
        return float(found[0]["value"][1]) if found else None

    def up(self, name: str) -> bool:
        return self.value(f'probe_success{{site="{name}"}}') == 1


def sites_yml(*sites: dict[str, object]) -> str:
    defaults = {"every": "1s", "timeout": "500ms", "down_after": "3s", "recover_after": "4s"}
    return yaml.safe_dump({"defaults": defaults, "sites": list(sites)})


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edited]:
    try:
        programs = version_ends()["oldest"]
    except UserError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("reload")
    host = Host(folder / "host")
    host.start()
    with inbox() as received:
        people = f"""
providers: [{{name: pro, notify: [{{webhook: "{received.address("pro")}"}}]}}]
owners: [{{name: marie, notify: [{{webhook: "{received.address("marie")}"}}]}}]
"""
        first = sites_yml({"name": "first", "url": f"{host.url}/first"})
        stack = Stack(folder / "stack", programs, first, people)
        try:
            stack.start()
            stack.seen_up(1)
            yield Edited(stack, received, host)
        finally:
            stack.stop()
            host.stop()


def test_an_edit_is_live_soon_and_no_scrape_is_lost(edited: Edited) -> None:
    begin = time.time()
    edited.write(edited.site("first"), edited.site("second"))
    until(lambda: edited.up("second"), "the new site is probed", WITHIN)
    edited.write(edited.site("first", "elsewhere"), edited.site("second"))
    url = f"{edited.host.url}/elsewhere"
    until(lambda: edited.value(f'probe_success{{instance="{url}"}}'), "the new URL", WITHIN)
    edited.write(edited.site("first", "elsewhere", expect={"contains": "never"}))
    until(lambda: edited.value('probe_success{site="first"}') == 0, "the expectation", WITHIN)
    edited.write(edited.site("first"), edited.site("slower", every="3s"))
    until(lambda: edited.up("first"), "it fails no more", WITHIN)
    # A new interval is a new batch, which Prometheus finds in its own time.
    until(lambda: edited.up("slower"), "a site of another interval", 3 * WITHIN)
    window = f"{int(time.time() - begin)}s"
    lost = edited.stack.query(f'min_over_time(up{{job=~"sites|exporter"}}[{window}]) == 0')
    assert not lost
    scrapes = edited.value(f'max(count_over_time(up{{job="sites"}}[{window}]))') or 0.0
    assert scrapes > 0.9 * (time.time() - begin) - 2


def test_a_mistake_is_refused_the_old_sites_stay_and_the_provider_is_told(edited: Edited) -> None:
    reloaded = 'dolcevita_config_last_reload_successful{job="exporter"}'
    edited.write(edited.site("first"))
    until(lambda: edited.up("first") and edited.value(reloaded) == 1, "a good file", 3 * WITHIN)
    edited.stack.sites.write_text(sites_yml(edited.site("first")) + "sights: []\n")
    begin = time.time()
    until(lambda: edited.value(reloaded) == 0, "the refusal is a metric", WITHIN)
    log = (edited.stack.folder / "exporter.log").read_text()
    assert "sites.yml:" in log and "unknown key 'sights': did you mean 'sites'?" in log
    told = until(
        lambda: edited.received.to("pro", "ConfigRejected", "firing"),
        lambda: f"the provider is told:\n{edited.received.log()}",
        90,
    )
    assert "exporter" in " ".join(a["annotations"]["summary"] for a in told[0].alerts)
    window = f"{int(time.time() - begin)}s"
    assert edited.value(f'min_over_time(probe_success{{site="first"}}[{window}])') == 1
    assert not edited.received.to("pro", "SiteDown")
    edited.write(edited.site("first"), edited.site("mended"))
    until(lambda: edited.up("mended"), "the mended file is live", WITHIN)
    until(lambda: edited.value(reloaded) == 1, "and the metric says so", WITHIN)


def test_the_page_of_the_provider_leads_to_what_was_seen(edited: Edited) -> None:
    edited.write(edited.site("first"), edited.site("the shop/1", "shop"))
    until(lambda: edited.up("the shop/1"), "a site with an awkward name", WITHIN)
    edited.write(edited.site("first"), edited.site("the shop/1", "shop", expect={"status": 404}))
    (page,) = until(lambda: edited.received.to("pro", "SiteDown", "firing"), "the page", 60)
    link = page.alerts[0]["annotations"]["evidence_url"]
    assert link == f"{edited.stack.exporter_url}/site/the%20shop%2F1"
    found = requests.get(link, params={"format": "json"}, timeout=5).json()
    assert found["site"] == "the shop/1"
    newest = found["failures"][0]
    assert newest["answer"] == "HTTP/1.1 200" and newest["body"] == "Add to cart"
    assert newest["times"] > 1
