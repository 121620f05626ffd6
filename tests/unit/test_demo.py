"""The demo's parts: its clock, its judgement of the story, its project, its page's events."""

import asyncio
import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from dolcevita import probes
from dolcevita.config import load
from dolcevita.demo import docker, project
from dolcevita.demo.clock import DINNER, MORNING, SPEED, Clock, in_story
from dolcevita.demo.director import Quiet
from dolcevita.demo.page import Page, serving
from dolcevita.demo.story import GOOD_NEWS, PAGE, RECOVERY, Event, NotTrue, Phone, Story
from dolcevita.demo.texts import LANGUAGES, Teller, of_environment, texts
from waiting import free_port

ROOT = Path(__file__).parents[2]
NOW = 1_800_000_000.0


def alerts(what: tuple[str, str], **annotations: str) -> list[dict[str, Any]]:
    """What Alertmanager tells of the shop."""
    name, status = what
    labels = {"alertname": name, "site": "la-boutique", "reason": "connect", "since": str(NOW)}
    return [{"status": status, "labels": labels, "annotations": annotations}]


def test_the_clock_stands_at_dinner_walks_in_the_outage_and_runs_to_the_morning() -> None:
    clock = Clock()
    assert clock.at(NOW - 1000) == clock.at(NOW) == DINNER
    clock.walk(NOW)
    clock.run(NOW + 30, NOW + 100)
    assert (clock.at(NOW + 10) - DINNER).total_seconds() == 10 * SPEED
    assert (clock.at(NOW + 30) - DINNER).total_seconds() == 30 * SPEED
    assert DINNER < clock.at(NOW + 60) < clock.at(NOW + 99) < MORNING
    assert clock.at(NOW + 100) == clock.at(NOW + 500) == MORNING
    assert clock.at(NOW - 1) == DINNER


@pytest.mark.parametrize(
    ("real", "seconds"), [("9s", 9), ("31s", 31), ("1m 5s", 65), ("1h 0m 2s", 3602)]
)
def test_a_length_of_time_is_as_long_in_messages_as_on_the_clock(real: str, seconds: int) -> None:
    found = re.fullmatch(r"(?:(\d+)m )?(\d+)s", in_story(real))
    assert found
    assert int(found[1] or 0) * 60 + int(found[2]) == seconds * SPEED


Told = tuple[float, Phone, tuple[str, str]]
PAGED: Told = (10, "provider", PAGE)
RECOVERED: Told = (30, "provider", RECOVERY)
HEARD: Told = (110, "owner", GOOD_NEWS)


@pytest.mark.parametrize(
    "told",
    [
        (RECOVERED, HEARD),
        (PAGED, HEARD),
        (PAGED, RECOVERED),
        (PAGED, PAGED, RECOVERED, HEARD),
        (PAGED, RECOVERED, HEARD, HEARD),
        (PAGED, RECOVERED, (99.0, "owner", GOOD_NEWS)),
        (PAGED, (15.0, "owner", PAGE), RECOVERED, HEARD),
        (PAGED, (120.0, "provider", RECOVERY), HEARD),
    ],
    ids=[
        *("no page", "no recovery", "no good news", "paged twice", "told twice"),
        *("told in quiet hours", "woken", "told before it is fixed"),
    ],
)
def test_a_message_too_many_too_few_or_too_early_spoils_the_story(told: tuple[Told, ...]) -> None:
    def story_of(told: tuple[Told, ...]) -> Story:
        story = Story()
        story.events = [
            Event(NOW + at, "dinner", {}, phone, alerts(what)) for at, phone, what in told
        ]
        return story

    story_of((PAGED, RECOVERED, HEARD)).verify(NOW + 100)
    with pytest.raises(NotTrue):
        story_of(told).verify(NOW + 100)


def test_quiet_hours_end_on_a_full_minute_and_are_changed_only_when_they_must_be() -> None:
    written: list[float] = []
    quiet = Quiet(lambda until: written.append(until.timestamp()))
    quiet.last(30)
    quiet.last_at_least(20)
    quiet.last_at_least(200)
    assert len(written) == 2
    assert all(at % 60 == 0 for at in written)
    assert 200 <= written[1] - time.time() + 1 <= 262


def test_a_message_that_does_not_come_is_missed_by_name() -> None:
    with pytest.raises(NotTrue, match=r"SiteDown \(firing\) reached the provider's phone"):
        asyncio.run(Story().received("provider", PAGE, 0.01))


def test_a_button_counts_only_at_its_stage() -> None:
    story = Story()
    assert not story.ask("crash")
    story.tell("dinner")
    assert not story.ask("repair")
    assert story.ask("crash")


def test_both_languages_tell_the_same_with_the_same_places() -> None:
    places = [
        {key: set(re.findall(r"{\w+}", text)) for key, text in texts(language).items()}
        for language in LANGUAGES
    ]
    assert places[0] == places[1]


@pytest.mark.parametrize(
    ("environ", "language"),
    [
        ({}, "en"),
        ({"LANG": "fr_FR.UTF-8"}, "fr"),
        ({"LANG": "fr_FR.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "de_DE.UTF-8", "LC_MESSAGES": "fr_CH"}, "fr"),
    ],
)
def test_the_terminal_has_the_language_of_its_locale(
    environ: dict[str, str], language: str
) -> None:
    assert of_environment(environ) == language


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    project.write(tmp_path / "project", ROOT, "http://127.0.0.1:1/", 1234)
    until = datetime(2027, 7, 14, 7, 30, tzinfo=UTC)
    project.write_people(tmp_path / "project", "http://127.0.0.1:2/phone", until)
    return tmp_path / "project"


def test_its_project_loads_and_keeps_the_rules_and_routes_as_they_are(folder: Path) -> None:
    config = load(folder / "sites.yml", folder / "people.yml", probes.KINDS, probes.PLANNED)
    assert [site.name for site in config.sites] == [project.SITE]
    for part in ("prometheus/rules", "alertmanager"):
        for path in (ROOT / part).rglob("*.*"):
            assert (folder / path.relative_to(ROOT)).read_bytes() == path.read_bytes()
    assert "DEMO_SHOP_PORT=1234" in (folder / ".env").read_text().splitlines()


def test_in_docker_it_changes_no_more_than_it_says() -> None:
    services, changed = (
        yaml.safe_load(path.read_text())["services"]
        for path in (ROOT / "docker-compose.yml", project.OVERLAY)
    )
    assert {name for name in changed if name in services} == {"exporter", "courier", "grafana"}
    assert {*services, *changed} >= {*docker.SERVICES}


def test_the_page_goes_on_from_the_last_event_that_it_saw(folder: Path) -> None:
    async def followed() -> list[dict[str, Any]]:
        story = Story()
        config = load(folder / "sites.yml", folder / "people.yml", probes.KINDS, probes.PLANNED)
        teller = Teller(story, config, folder / "alertmanager/templates")
        links = dict.fromkeys(("exporter", "prometheus", "alertmanager", "shop"), "http://x/")
        port, found = free_port(), []
        async with serving(Page(story, teller, links, auto=False), port):
            story.tell("starting")
            story.tell("dinner")
            url = f"http://127.0.0.1:{port}"
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session,
                session.get(f"{url}/events", headers={"Last-Event-ID": "1"}) as answer,
            ):
                hook = {"alerts": alerts(PAGE, evidence_url="http://127.0.0.1:9/site/la-boutique")}
                async with session.post(f"{url}/phone/provider", json=hook) as taken:
                    assert taken.status == 200
                async for line in answer.content:
                    if line.startswith(b"data: "):
                        found.append(json.loads(line.removeprefix(b"data: ")))
                    if len(found) == 2:
                        return found
        raise AssertionError("the events ended")

    began = time.monotonic()
    dinner, page = asyncio.run(followed())
    assert time.monotonic() - began < 5
    assert (dinner["seen"], dinner["stage"], dinner["phone"]) == (2, "dinner", "")
    assert (page["seen"], page["phone"]) == (3, "provider")
    assert "DOWN la-boutique: no connection" in page["html"]
    assert 'href="http://127.0.0.1:9/site/la-boutique"' in page["html"]
