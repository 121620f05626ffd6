"""Silence is not recovery: what the guard does when Prometheus or Alertmanager goes away."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import aiohttp
import pytest
import requests

from alertmanagers import (
    ROOT,
    Receiver,
    Running,
    alert,
    alertmanager,
    programs,
    project,
    receiving,
)
from dolcevita.alerting.compile import compile, write
from dolcevita.config import Config
from dolcevita.config.people import PeopleReader
from dolcevita.courier import guard
from dolcevita.courier.alertmanager import Alertmanager
from dolcevita.courier.guard import Verdict
from waiting import until

DOWN = {"site": "shop", "owner": "marie", "provider": "infogerance", "since": "1"}


def test_young_courier_raises_no_false_alarm() -> None:
    verdict = Verdict()
    assert not any(verdict.look(now, None, False) for now in range(0, 70, 5))
    assert verdict.look(70, None, False)


def test_proof_that_is_too_old_is_enough_at_once() -> None:
    assert not Verdict().look(0, 69, False)
    assert Verdict().look(0, 70, False)


def test_proof_from_the_future_is_none() -> None:
    assert not Verdict().look(0, -5, False)
    assert Verdict().look(0, -3600, False)


def test_waiting_begins_anew_when_alertmanager_did_not_answer() -> None:
    verdict = Verdict()
    verdict.look(0, None, False)
    verdict.unknown()
    assert not verdict.look(71, None, False)
    assert verdict.look(141, None, False)


def test_alarm_ends_only_after_a_minute_of_proof() -> None:
    verdict = Verdict()
    assert verdict.look(0, 80, False)
    assert all(verdict.look(now, 1, True) for now in range(5, 65, 5))
    assert not verdict.look(65, 1, True)


def test_proof_that_stops_again_prolongs_the_alarm() -> None:
    verdict = Verdict()
    verdict.look(0, 80, False)
    verdict.look(5, 1, True)
    verdict.look(40, 75, True)
    assert verdict.look(70, 1, True)
    assert not verdict.look(130, 1, True)


def test_restarted_courier_takes_over_the_alarm_of_its_predecessor() -> None:
    verdict = Verdict()
    assert verdict.look(0, 1, True)
    assert not verdict.look(60, 1, True)


def test_alarm_that_could_not_be_ended_is_ended_later() -> None:
    verdict = Verdict()
    verdict.look(0, 80, False)
    verdict.look(5, 1, True)
    assert not verdict.look(65, 1, True)
    assert not verdict.look(70, 1, True)


@pytest.mark.parametrize("annotations", [guard.ANNOTATIONS, guard.STANDBY_ANNOTATIONS])
def test_alarm_names_a_runbook_that_is_there(annotations: dict[str, str]) -> None:
    assert (ROOT / annotations["runbook_url"]).is_file()


@contextmanager
def watching(url: str, watch: Callable[[Alertmanager], object]) -> Iterator[None]:
    """Run one of the guard's endless loops beside the test."""
    loop = asyncio.new_event_loop()

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            await watch(Alertmanager(session, url))  # type: ignore[misc]

    task = loop.create_task(run())

    def turn() -> None:
        try:
            loop.run_until_complete(task)
        except asyncio.CancelledError:
            loop.close()

    thread = Thread(target=turn)
    thread.start()
    try:
        yield
    finally:
        assert not task.done(), task.exception()
        loop.call_soon_threadsafe(task.cancel)
        thread.join(10)


@pytest.fixture(params=["oldest", "newest"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Running, Receiver]]:
    found = programs(request.param)
    with receiving() as receiver:
        folder = project(tmp_path / "project", receiver)
        owners, providers = PeopleReader(folder / "people.yml", datetime.now(UTC).date()).read()
        base = folder / "alertmanager/alertmanager.yml"
        now = datetime.now(UTC)
        text = compile(Config((), owners, providers), base, base.parent, "http://127.0.0.1:9", now)
        config = tmp_path / "compiled.yml"
        write(config, text)
        with alertmanager(found, config, tmp_path) as running:
            yield running, receiver


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times of the guard for alerts that run out after 8 s instead of 120 s."""
    monkeypatch.setattr(guard, "STALE_SECONDS", 4.0)
    monkeypatch.setattr(guard, "SETTLE_SECONDS", 4.0)
    monkeypatch.setattr(guard, "PERIOD_SECONDS", 0.3)


@pytest.mark.usefixtures("hurried")
def test_dead_prometheus_is_a_page_and_never_a_recovery(scene: tuple[Running, Receiver]) -> None:
    running, receiver = scene

    def prometheus_sends() -> None:
        running.post(alert("Watchdog", lasts=8), alert("SiteDown", lasts=8, **DOWN))

    with watching(running.url, guard.watch_prometheus):
        prometheus_sends()
        until(lambda: receiver.told("provider"), "the page for the site")
        prometheus_sends()
        # Prometheus dies: the alerts run out.
        until(lambda: not running.firing("SiteDown"), "the alert has run out", 20)
        until(lambda: len(receiver.told("provider")) == 2, "the page for Prometheus")
        time.sleep(6)  # A flush and more: what ran out would be told by now.
        page, silent = receiver.told("provider")
        assert page == ("firing", "SiteDown", ["shop"])
        assert silent == ("firing", "PrometheusSilent", [""])

        # Prometheus is back: the incident goes on, and ends in front of its eyes.
        def back() -> bool:
            prometheus_sends()
            return not running.firing("PrometheusSilent")

        until(back, "the alarm ends", 20)
        running.post(alert("SiteDown", lasts=-1, age=60, **DOWN))

        def all_told() -> bool:
            running.post(alert("Watchdog", lasts=8))
            return len(receiver.told("provider")) == 4

        until(all_told, "the end of the alarm and the recovery")
    assert sorted(receiver.told("provider")[2:]) == [
        ("resolved", "PrometheusSilent", [""]),
        ("resolved", "SiteDown", ["shop"]),
    ]


@pytest.mark.usefixtures("hurried")
def test_prometheus_that_was_started_anew_is_not_silent_before_its_watchdog_is_sent_again(
    scene: tuple[Running, Receiver],
) -> None:
    running, receiver = scene
    with watching(running.url, guard.watch_prometheus):
        running.post(alert("Watchdog", lasts=8), alert("SiteDown", lasts=20, **DOWN))
        for _ in range(5):
            time.sleep(2)
            running.post(alert("PrometheusReady", lasts=8))
        assert not running.firing("PrometheusSilent")
    assert receiver.told("provider") == [("firing", "SiteDown", ["shop"])]


@pytest.mark.usefixtures("hurried")
def test_alarm_survives_alertmanagers_restart(scene: tuple[Running, Receiver]) -> None:
    running, receiver = scene
    with watching(running.url, guard.watch_prometheus):
        until(lambda: receiver.told("provider"), "the page for Prometheus", 20)
        time.sleep(1.5)  # The notification log is written each second.
        running.kill()
        running.start()
        until(lambda: running.firing("PrometheusSilent"), "the alarm is raised again")
        time.sleep(6)
    assert receiver.told("provider") == [("firing", "PrometheusSilent", [""])]


def test_fresh_alertmanager_waits_until_it_knows_everything(
    scene: tuple[Running, Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    running, receiver = scene
    monkeypatch.setattr(guard, "RESEND_SECONDS", 6.0)
    old = {"owner": "marie", "provider": "infogerance", "host": "srv1", "digest": "1"}
    running.kill()
    with watching(running.url, guard.watch_alertmanager):
        running.start()
        time.sleep(0.5)
        # Prometheus sends everything again, one by one, and what inhibits comes last.
        for n in range(5):
            running.post(alert("IncidentResolved", age=600, site=f"over{n}", **old))
            running.post(alert("SiteDown", age=600, site=f"down{n}", **old))
            time.sleep(0.2)
        running.post(alert("ServerDown", age=600, **{**old, "digest": ""}))
        until(lambda: receiver.told("owner") and receiver.told("provider"), "all is told", 25)
        time.sleep(11)
    sites = [f"over{n}" for n in range(5)]
    assert receiver.told("owner") == [("firing", "IncidentResolved", sites)]
    assert receiver.told("provider") == [("firing", "ServerDown", [""])]


def test_clock_that_is_set_holds_everything_back(
    scene: tuple[Running, Receiver], monkeypatch: pytest.MonkeyPatch
) -> None:
    running, _ = scene
    ahead = 0.0
    clock = SimpleNamespace(time=lambda: time.time() + ahead, monotonic=time.monotonic)
    monkeypatch.setattr(guard, "time", clock)

    def held() -> list[str]:
        silences = requests.get(f"{running.url}/api/v2/silences", timeout=5).json()
        return [silence["comment"] for silence in silences]

    with watching(running.url, guard.watch_clock):
        time.sleep(0.5)
        assert not held()
        ahead = -3600.0
        until(lambda: held() == ["The clock was set"], "the silence", 5)
        time.sleep(0.5)
        assert len(held()) == 1
