"""The running stack follows an edit of people, calendars and rules within ten seconds."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from dolcevita.stack.packages import Programs
from inbox import Inbox, inbox
from running import Stack
from scene import START_DELAY
from waiting import until

WITHIN = 10.0

SITES = "sites: ['http://127.0.0.1:9/']\n"
EVENT = """\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:test
BEGIN:VEVENT
UID:1
DTSTART:20000101T000000Z
DTEND:20900101T000000Z
END:VEVENT
END:VCALENDAR
"""


@pytest.fixture(scope="module")
def box() -> Iterator[Inbox]:
    with inbox() as receiving:
        yield receiving


@pytest.fixture(scope="module")
def hot(
    programs: Programs, box: Inbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    people = (
        f"providers: [{{name: pro, notify: [{{webhook: '{box.address('first')}'}}]}}]\n"
        f"owners: [{{name: marie, notify: [{{webhook: '{box.address('marie')}'}}], quiet: {{}}}}]\n"
    )
    folder = tmp_path_factory.mktemp("hot") / "project"
    # As by default: the intervals are part of what is measured.
    running = Stack(folder, programs, SITES, people, quick=False)
    try:
        running.start()
        until(lambda: metric(running, "owner_reachable") == 1, "a first look", 60)
        # Newer Alertmanagers finish a reload only when their own start is over.
        time.sleep(START_DELAY)
        yield running
    finally:
        running.stop()


def metric(hot: Stack, name: str) -> float | None:
    found = hot.query(name)
    return float(found[0]["value"][1]) if found else None


def alertmanager_has(hot: Stack, text: str) -> bool:
    answer = requests.get(f"{hot.alertmanager_url}/api/v2/status", timeout=5).json()
    return text in answer["config"]["original"]


@contextmanager
def edited(path: Path, before: str, after: str) -> Iterator[float]:
    """An edit that is taken back at the end; gives when it was made."""
    text = path.read_text()
    assert before in text
    _replace(path, text.replace(before, after))
    try:
        yield time.monotonic()
    finally:
        _replace(path, text)


def _replace(path: Path, text: str) -> None:
    """As editors do: a new file in the place of the old one."""
    scratch = path.with_suffix(".new")
    scratch.write_text(text)
    scratch.replace(path)


def follows(happened: Callable[[], bool], what: str, since: float) -> None:
    until(happened, what, WITHIN - (time.monotonic() - since))


def probed(hot: Stack, name: str) -> str:
    """What a scrape of the site says, '' where there is no such site."""
    answer = requests.get(f"{hot.exporter_url}/probe", params={"site": name}, timeout=20)
    return answer.text if answer.ok else ""


def scraped(hot: Stack) -> set[str]:
    """How often Prometheus asks for the batches, such as {'15s', '31s'}."""
    answer = requests.get(f"{hot.prometheus_url}/api/v1/targets?state=active", timeout=5).json()
    targets = [target["labels"] for target in answer["data"]["activeTargets"]]
    batches = [labels["instance"] for labels in targets if labels["job"] == "sites"]
    return {batch.rpartition("/")[2].partition(".")[0] for batch in batches}


def test_every_kind_of_edit_of_sites_yml_is_live(hot: Stack) -> None:
    old, new = (
        "'http://127.0.0.1:9/'",
        "'http://127.0.0.1:9/', {name: new, url: 'tcp://127.0.0.1:9'}",
    )
    with edited(hot.sites, old, new) as at:
        follows(lambda: "tcp://127.0.0.1:9" in probed(hot, "new"), "the new site", at)
        with edited(hot.sites, "tcp://127.0.0.1:9", "tcp://127.0.0.1:10") as at:
            follows(lambda: "tcp://127.0.0.1:10" in probed(hot, "new"), "the new URL", at)
        with edited(hot.sites, "name: new,", "name: new, every: 31s, timeout: 3s,") as at:
            follows(lambda: scraped(hot) == {"15s", "31s"}, "the new batch", at)
        at = time.monotonic()
        follows(lambda: scraped(hot) == {"15s"}, "the batch is gone", at)
    at = time.monotonic()
    follows(lambda: not probed(hot, "new"), "the site is gone", at)


def test_edit_of_people_yml_is_live(hot: Stack) -> None:
    # A webhook's address is a secret that newer versions do not show: a name is seen by both.
    with edited(hot.people, "name: pro,", "name: prompt,") as at:
        follows(lambda: alertmanager_has(hot, "provider/prompt"), "the new name", at)


def test_edit_of_quiet_time_is_live_in_both_places(hot: Stack) -> None:
    away = "quiet: {away: 2000-01-01..2090-01-01}"
    with edited(hot.people, "quiet: {}", away) as at:
        follows(lambda: metric(hot, "owner_reachable") == 0, "the owner is out of reach", at)
        follows(lambda: alertmanager_has(hot, "quiet/marie"), "the time interval", at)
    owner_is_back(hot)


def test_edit_of_a_calendar_is_live_in_both_places(hot: Stack) -> None:
    calendars = hot.folder / "calendars"
    calendars.mkdir()
    loaded = "dolcevita_config_last_reload_success_timestamp_seconds"
    query = f'min({loaded}{{job=~"courier|exporter"}})'
    with edited(hot.people, "quiet: {}", "quiet: {calendar: calendars}"):
        begun = time.time()
        until(lambda: (metric(hot, query) or 0) > begun, "both know the folder", 60)
        at = time.monotonic()
        (calendars / "private.ics").write_text(EVENT)
        follows(lambda: alertmanager_has(hot, "quiet/marie"), "the time interval", at)
        follows(lambda: metric(hot, "owner_reachable") == 0, "the owner is out of reach", at)
    owner_is_back(hot)


def test_edit_of_a_rule_is_live(hot: Stack) -> None:
    def rules() -> str:
        return requests.get(f"{hot.prometheus_url}/api/v1/rules", timeout=5).text

    path = hot.folder / "prometheus/rules/stack.yml"
    with edited(path, "for: 20s", "for: 21s") as at:
        follows(lambda: re.search(r'"duration":21\b', rules()) is not None, "the new number", at)


def test_bad_edits_are_refused_and_the_provider_is_told(hot: Stack, box: Inbox) -> None:
    def told() -> set[str]:
        return {job for message in box.to("first", "ConfigRejected") for job in message.of("job")}

    rules = hot.folder / "prometheus/rules/stack.yml"
    with (
        edited(hot.people, "owners:", "owner:"),
        edited(rules, "expr: vector(1)", "expr: vector("),
    ):
        # Prometheus looks each 15s; a warning is gathered for 30s.
        until(lambda: told() >= {"courier", "exporter", "prometheus"}, "the provider is told", 90)
        assert alertmanager_has(hot, "provider/pro")


def owner_is_back(hot: Stack) -> None:
    until(lambda: metric(hot, "owner_reachable") == 1, "the owner is back", 20)
    until(lambda: not alertmanager_has(hot, "quiet/marie"), "for Alertmanager as well", 20)
