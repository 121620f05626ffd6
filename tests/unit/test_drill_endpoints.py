"""The exporter's part of a drill: one at a time, bounded, and begun by nobody's web page."""

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from prometheus_client.parser import text_string_to_metric_families as parse

from dolcevita.drill import deliveries
from test_exporter_app import exporting
from webserver import run

ROOT = Path(__file__).parents[2]

Scenario = Callable[..., Awaitable[None]]


def played(scenario: Scenario) -> Callable[..., None]:
    """A test that is a coroutine."""

    @wraps(scenario)
    def test(**fixtures: Any) -> None:
        run(scenario(**fixtures))

    return test


SITES = """
sites:
  - {name: shop, url: "http://127.0.0.1:1/", host: srv1, labels: {customer: acme}, timeout: 1s}
  - {name: blog, url: "http://127.0.0.1:1/", timeout: 1s}
  - {name: far, url: "http://127.0.0.1:1/", sentinel: true, timeout: 1s}
"""
DRILL = {"site": "shop", "audience": "provider", "seconds": 60}


async def samples(session: ClientSession, path: str, name: str) -> list[dict[str, str]]:
    text = await (await session.get(path)).text()
    return [s.labels for family in parse(text) for s in family.samples if s.name == name]


async def batch(session: ClientSession) -> str:
    [group, *_] = await (await session.get("/sd")).json()
    return "/probe?batch=" + group["labels"]["__param_batch"]


async def begin(session: ClientSession, **changes: Any) -> tuple[int, Any]:
    answer = await session.post("/-/drill", json={**DRILL, **changes})
    return answer.status, await (answer.json() if answer.status == 200 else answer.text())


@played
async def test_mark_is_beside_the_results_of_the_site_until_it_is_taken_away(tmp_path):
    async with exporting(tmp_path, SITES) as (session, _):
        status, answer = await begin(session)
        assert status == 200
        [labels] = await samples(session, await batch(session), "site_drill")
        assert labels == {
            "site": "shop",
            "owner": "marie",
            "provider": "hosting",
            "host": "srv1",
            "customer": "acme",
            "instance": "http://127.0.0.1:1/",
            "audience": "provider",
            "since": str(answer["since"]),
        }
        assert (await session.delete(f"/-/drill/{answer['since']}")).status == 200
        assert await samples(session, await batch(session), "site_drill") == []
        assert (await session.delete(f"/-/drill/{answer['since']}")).status == 404


@played
async def test_one_drill_at_a_time_and_each_has_a_name_of_its_own(tmp_path):
    async with exporting(tmp_path, SITES) as (session, _):
        _, first = await begin(session)
        status, text = await begin(session, site="blog")
        assert (status, text[:29]) == (409, "A drill for shop is under way")
        await session.delete(f"/-/drill/{first['since']}")
        _, second = await begin(session, site="blog")
        assert second["since"] > first["since"]


@played
async def test_drill_that_nobody_ends_is_over_at_its_deadline(tmp_path):
    async with exporting(tmp_path, SITES) as (session, _):
        await begin(session, seconds=0.2)
        await asyncio.sleep(0.3)
        assert await samples(session, await batch(session), "site_drill") == []
        assert (await begin(session))[0] == 200


@played
async def test_drill_goes_on_while_whoever_began_it_asks_for_that(tmp_path):
    async with exporting(tmp_path, SITES) as (session, _):
        _, answer = await begin(session, seconds=0.5)
        url = f"/-/drill/{answer['since']}"
        for _ in range(3):
            await asyncio.sleep(0.3)
            assert (await session.put(url, json={"seconds": 0.5})).status == 200
        assert len(await samples(session, await batch(session), "site_drill")) == 1
        await asyncio.sleep(0.6)
        assert await samples(session, await batch(session), "site_drill") == []
        assert (await session.put(url, json={"seconds": 0.5})).status == 404
        assert (await session.put(url, json={"seconds": 0})).status == 400


@played
async def test_drill_lasts_ten_minutes_at_most(tmp_path):
    async with exporting(tmp_path, SITES) as (session, exporter):
        _, answer = await begin(session, seconds=1e9)
        await asyncio.sleep(0.2)
        await session.put(f"/-/drill/{answer['since']}", json={"seconds": 1e9})
        left = exporter.drills._drill.deadline - time.monotonic()
        assert 500 < left <= 599.9


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"site": "nothing"}, 404),
        ({"site": "far"}, 404),
        ({"audience": "everybody"}, 400),
        ({"seconds": 0}, 400),
        ({"seconds": "60"}, 400),
        ({"seconds": True}, 400),
    ],
)
@played
async def test_drill_that_makes_no_sense_is_refused(tmp_path, changes, status):
    async with exporting(tmp_path, SITES) as (session, _):
        assert (await begin(session, **changes))[0] == status


@played
async def test_form_on_a_web_page_begins_no_drill(tmp_path):
    """Browsers send these across sites without asking first."""
    async with exporting(tmp_path, SITES) as (session, _):
        for kind in ("text/plain", "application/x-www-form-urlencoded"):
            answer = await session.post(
                "/-/drill", data=str(DRILL).replace("'", '"'), headers={"Content-Type": kind}
            )
            assert answer.status == 415


@played
async def test_passed_drill_is_told_with_the_next_ones_date(tmp_path):
    async with exporting(tmp_path, SITES) as (session, _):
        for site, every in (("shop", 604800), ("blog", None)):
            answer = await session.post("/-/drill/1000/passed", json={"site": site, "every": every})
            assert answer.status == 200
        passed = await samples(session, "/metrics", "site_drill_passed_timestamp_seconds")
        assert [labels["site"] for labels in passed] == ["shop", "blog"]
        text = await (await session.get("/metrics")).text()
        assert 'site_drill_due_timestamp_seconds{site="shop"} 605800.0' in text
        assert text.count("site_drill_due_timestamp_seconds{") == 1


PLACES = """
places: {paris: here, rome: "http://127.0.0.1:2"}
sites:
  - {name: shop, url: "http://127.0.0.1:1/", places: rome, timeout: 1s}
  - {name: blog, url: "http://127.0.0.1:1/", timeout: 1s}
"""


@played
async def test_mark_of_a_site_that_only_other_places_see_is_among_the_exporters_own(tmp_path):
    async with exporting(tmp_path, PLACES) as (session, _):
        _, answer = await begin(session)
        assert len(await samples(session, "/metrics", "site_drill")) == 1
        await session.delete(f"/-/drill/{answer['since']}")
        await begin(session, site="blog")
        assert await samples(session, "/metrics", "site_drill") == []


def test_nothing_that_shows_or_counts_reads_what_a_drill_makes() -> None:
    """The series of tests/integration/test_drill.py, OF_DRILLS."""
    package = ROOT / "exporter/dolcevita"
    readers = [
        *(ROOT / "grafana/dashboards").rglob("*.json"),
        *(ROOT / "prometheus/rules").glob("*.yml"),
        *(
            path
            for part in ("report", "pages", "history")
            for path in (package / part).glob("*.py")
        ),
    ]
    readers.remove(ROOT / "prometheus/rules/drill.yml")
    assert len(readers) > 30
    for path in readers:
        text = path.read_text().replace('\\"', '"')
        assert not re.search(r"site_drill|\bdrill:|ALERTS_FOR_STATE", text), path
        for selector in re.findall(r"\bALERTS\b({[^}]*}|)", text):
            name = re.search(r'alertname="(\w+)"', selector)
            assert name, path
            assert name[1] not in ("SiteDown", "IncidentResolved"), path


OLD = """\
alertmanager_notifications_total{integration="webhook"} %d
alertmanager_notification_requests_total{integration="webhook"} %d
alertmanager_notification_requests_failed_total{integration="webhook"} %d
"""


def test_deliveries_are_counted_by_receiver_where_alertmanager_names_it() -> None:
    name = ',receiver_name="provider/a"}'
    before, after = (
        deliveries.parse((OLD % counts).replace("}", name)) for counts in ((1, 1, 0), (2, 4, 2))
    )
    assert after.since(before, "webhook", "provider/a") == deliveries.Counts(1, 1, 2)
    assert after.since(before, "webhook", "provider/b") == deliveries.Counts(0, 0, 0)


def test_deliveries_of_an_older_alertmanager_are_those_of_all_receivers() -> None:
    before, after = deliveries.parse(OLD % (1, 1, 0)), deliveries.parse(OLD % (3, 3, 1))
    assert not after.names_receivers()
    assert after.since(before, "webhook", "provider/a") == deliveries.Counts(2, 1, 1)
