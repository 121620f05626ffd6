"""The compiled file at work in real Alertmanagers: who is told, how often, and what is not."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alertmanagers import Receiver, Running, alert, alertmanager, programs, project, receiving
from dolcevita.alerting.compile import compile, write
from dolcevita.config import Config
from dolcevita.config.people import PeopleReader
from waiting import until

DOWN = {"owner": "marie", "provider": "infogerance", "host": "srv1", "since": "1"}
OVER = {**DOWN, "until": "2", "digest": "3"}
FLUSHES = 12.0
"""Longer than the longest group_wait and group_interval of these alerts together need."""


@dataclass
class Scene:
    """A running Alertmanager and what it told."""

    running: Running
    receiver: Receiver
    config: Path

    def compile(self, folder: Path) -> None:
        reader = PeopleReader(folder / "people.yml", datetime.now(UTC).date())
        owners, providers = reader.read()
        base = folder / "alertmanager/alertmanager.yml"
        config = Config((), owners, providers, (), reader.watchdog)
        courier = "http://127.0.0.1:9"
        text = compile(config, base, base.parent / "templates", courier, datetime.now(UTC))
        write(self.config, text)


def always_quiet() -> str:
    today = datetime.now(UTC).date()
    return f"quiet: {{away: ['{today}..{today + timedelta(days=2)}']}}, "


def off_hours() -> str:
    """Working hours of a provider that are twelve hours from now."""
    now = datetime.now(UTC)
    start, end = (f"{now + timedelta(hours=hours):%H}:00" for hours in (11, 13))
    return f'working_hours: "{start}-{end}", '


@pytest.fixture
def quiet() -> str:
    """The owner's quiet time in people.yml; a test that wants some parametrizes this."""
    return ""


@pytest.fixture
def working_hours() -> str:
    """The same for the provider's working hours."""
    return ""


@pytest.fixture
def watchdog() -> bool:
    """Whether people.yml names an outside watcher."""
    return False


@pytest.fixture(params=["oldest", "newest"])
def scene(
    request: pytest.FixtureRequest, quiet: str, working_hours: str, watchdog: bool, tmp_path: Path
) -> Iterator[Scene]:
    found = programs(request.param)
    with receiving() as receiver:
        folder = project(tmp_path / "project", receiver)
        config = tmp_path / "compiled.yml"
        base = folder / "alertmanager/alertmanager.yml"
        base.write_text(base.read_text().replace("group_wait: 45s", "group_wait: 2s"))
        people = folder / "people.yml"
        text = people.read_text().replace(
            "{name: marie,", f"{{name: marie, overdue_after: 4h, {quiet}"
        )
        text = text.replace("{name: infogerance,", f"{{name: infogerance, {working_hours}")
        text = text.replace(
            "owners:\n",
            f"  - {{name: second, notify: [{{webhook: '{receiver.url('second')}'}}]}}\nowners:\n",
        )
        if watchdog:
            text = f"watchdog: {receiver.url('outside')}\n{text}"
        people.write_text(text)
        stopped = Scene(Running(found, config, tmp_path / "unused"), receiver, config)
        stopped.compile(folder)
        with alertmanager(found, config, tmp_path) as running:
            yield Scene(running, receiver, config)


def test_page_goes_out_within_five_seconds_and_recovery_follows(scene: Scene) -> None:
    posted = time.monotonic()
    scene.running.post(alert("SiteDown", site="shop", **DOWN))
    until(lambda: scene.receiver.told("provider"), "a page")
    assert time.monotonic() - posted < 5
    scene.running.post(alert("SiteDown", lasts=-1, age=60, site="shop", **DOWN))
    until(lambda: len(scene.receiver.told("provider")) == 2, "a recovery")
    assert scene.receiver.told("provider") == [
        ("firing", "SiteDown", ["shop"]),
        ("resolved", "SiteDown", ["shop"]),
    ]
    assert scene.receiver.told("owner") == []


def test_digest_reaches_the_owner_once_through_a_kill(scene: Scene) -> None:
    incidents = [alert("IncidentResolved", site=site, **OVER) for site in ("blog", "shop")]
    scene.running.post(*incidents)
    until(lambda: scene.receiver.told("owner"), "a digest")
    time.sleep(1.5)  # The notification log is written each second.
    scene.running.kill()
    scene.running.start()
    scene.running.post(*incidents)
    time.sleep(FLUSHES)
    # Alertmanager ends them; an owner is never sent "resolved".
    scene.running.post(*(incident | {"endsAt": incident["startsAt"]} for incident in incidents))
    time.sleep(FLUSHES)
    assert scene.receiver.told("owner") == [("firing", "IncidentResolved", ["blog", "shop"])]
    assert scene.receiver.told("provider") == []


def test_server_down_is_one_page_for_all_its_sites(scene: Scene) -> None:
    sites = [alert("SiteDown", site=f"site{n}", **DOWN) for n in range(20)]
    elsewhere = alert("SiteDown", site="elsewhere", **{**DOWN, "host": "srv2"})
    scene.running.post(*sites, elsewhere)
    scene.running.post(alert("ServerDown", **DOWN))
    until(lambda: len(scene.receiver.told("provider")) == 2, "two pages")
    time.sleep(FLUSHES)
    told = sorted(scene.receiver.told("provider"))
    assert told == [("firing", "ServerDown", [""]), ("firing", "SiteDown", ["elsewhere"])]


def test_provider_who_is_late_with_a_server_is_one_message_for_the_owner(scene: Scene) -> None:
    scene.running.post(*(alert("ProviderOverdue", site=f"site{n}", **DOWN) for n in range(20)))
    elsewhere = {key: value for key, value in DOWN.items() if key != "host"}
    scene.running.post(*(alert("ProviderOverdue", site=site, **elsewhere) for site in "ab"))
    until(lambda: len(scene.receiver.told("owner")) == 3, "three messages")
    time.sleep(FLUSHES)
    told = sorted(scene.receiver.told("owner"), key=lambda message: message[2])
    assert [sites for _, _, sites in told] == [["a"], ["b"], sorted(f"site{n}" for n in range(20))]
    assert scene.receiver.told("provider") == []


def test_lost_uplink_silences_what_is_said_about_sites_but_not_what_is_over(scene: Scene) -> None:
    scene.running.post(alert("UplinkDown"))
    scene.running.post(
        alert("SiteDown", site="shop", **DOWN),
        alert("ServerDown", **DOWN),
        alert("IncidentResolved", site="shop", **{**OVER, "since": "0"}),
    )
    until(lambda: scene.receiver.told("owner"), "what is over")
    time.sleep(FLUSHES)
    assert scene.receiver.told("provider") == [("firing", "UplinkDown", [""])]
    assert scene.receiver.told("owner") == [("firing", "IncidentResolved", ["shop"])]


def test_removed_site_is_not_told_as_fixed(scene: Scene) -> None:
    scene.running.post(alert("SiteDown", site="shop", **DOWN))
    until(lambda: scene.receiver.told("provider"), "a page")
    scene.running.post(alert("SiteRemoved", site="shop", since=DOWN["since"]))
    scene.running.post(alert("SiteDown", lasts=-1, age=60, site="shop", **DOWN))
    time.sleep(FLUSHES)
    assert scene.receiver.told("provider") == [("firing", "SiteDown", ["shop"])]
    # The site is taken in again: its next incident is told.
    scene.running.post(alert("SiteDown", site="shop", **{**DOWN, "since": "9"}))
    until(lambda: len(scene.receiver.told("provider")) == 2, "the next page")


def test_site_that_is_down_is_not_also_slow(scene: Scene) -> None:
    slow = alert("SiteSlow", age=60, site="shop", **DOWN)
    slow["labels"]["severity"] = "warning"
    other = alert("SiteSlow", age=60, site="blog", **DOWN)
    other["labels"]["severity"] = "warning"
    rejected = alert("ConfigRejected", age=60)
    rejected["labels"]["severity"] = "warning"
    scene.running.post(alert("SiteDown", site="shop", **DOWN))
    time.sleep(0.5)
    scene.running.post(slow, other, rejected)
    until(lambda: len(scene.receiver.told("provider")) == 3, "what is not silenced")
    time.sleep(FLUSHES)
    assert sorted(scene.receiver.told("provider")) == [
        ("firing", "ConfigRejected", [""]),
        ("firing", "SiteDown", ["shop"]),
        ("firing", "SiteSlow", ["blog"]),
    ]


@pytest.mark.parametrize("quiet", [always_quiet()], ids=["away"])
def test_owner_in_quiet_time_hears_nothing_until_it_ends(
    scene: Scene, quiet: str, tmp_path: Path
) -> None:
    scene.running.post(alert("IncidentResolved", site="shop", **OVER))
    time.sleep(FLUSHES)
    assert scene.receiver.told("owner") == []
    folder = tmp_path / "project"
    people = folder / "people.yml"
    people.write_text(people.read_text().replace(quiet, ""))
    scene.compile(folder)
    scene.running.reload()
    until(lambda: scene.receiver.told("owner"), "what was held back")
    assert scene.receiver.told("owner") == [("firing", "IncidentResolved", ["shop"])]


@pytest.mark.parametrize("working_hours", [off_hours()], ids=["off"])
def test_warning_waits_for_working_hours_and_a_page_does_not(
    scene: Scene, working_hours: str, tmp_path: Path
) -> None:
    warning = alert("SiteSlow", age=60, site="shop", **DOWN)
    warning["labels"]["severity"] = "warning"
    elsewhere = alert("SiteSlow", age=60, site="blog", **{**DOWN, "provider": "second"})
    elsewhere["labels"]["severity"] = "warning"
    page = alert("SiteDown", site="mail", **DOWN)
    scene.running.post(warning, elsewhere, page)
    until(lambda: scene.receiver.told("provider") and scene.receiver.told("second"), "both")
    time.sleep(FLUSHES)
    assert scene.receiver.told("provider") == [("firing", "SiteDown", ["mail"])]
    assert scene.receiver.told("second") == [("firing", "SiteSlow", ["blog"])]
    folder = tmp_path / "project"
    people = folder / "people.yml"
    people.write_text(people.read_text().replace(working_hours, ""))
    scene.compile(folder)
    scene.running.reload()
    until(lambda: len(scene.receiver.told("provider")) == 2, "what was held back", 40)
    assert scene.receiver.told("provider")[1] == ("firing", "SiteSlow", ["shop"])


@pytest.mark.parametrize("watchdog", [True], ids=["watched"])
def test_outside_watcher_gets_a_sign_of_life_and_nobody_else_does(
    scene: Scene, watchdog: bool
) -> None:
    scene.running.post(alert("Watchdog", lasts=600))
    until(lambda: scene.receiver.told("outside"), "a sign of life")
    until(lambda: len(scene.receiver.told("outside")) == 2, "the next one", 75)
    assert {path for path, _ in scene.receiver.posts} == {"/outside"}
    assert scene.receiver.told("outside") == [("firing", "Watchdog", [""])] * 2


@pytest.mark.parametrize("watchdog", [True], ids=["watched"])
def test_outside_watcher_hears_nothing_while_prometheus_is_silent(
    scene: Scene, watchdog: bool
) -> None:
    scene.running.post(alert("PrometheusSilent"))
    time.sleep(0.5)
    scene.running.post(alert("Watchdog", lasts=600))
    until(lambda: scene.receiver.told("provider"), "the page for Prometheus")
    time.sleep(3)
    assert scene.receiver.told("outside") == []


def test_second_provider_is_called_beside_the_first_and_told_of_the_end(scene: Scene) -> None:
    late = {**DOWN, "provider": "second", "first_provider": "infogerance"}
    scene.running.post(alert("SiteDown", site="shop", **DOWN))
    until(lambda: scene.receiver.told("provider"), "a page")
    scene.running.post(alert("SiteDownEscalated", site="shop", **late))
    until(lambda: scene.receiver.told("second"), "the second page")
    scene.running.post(
        alert("SiteDown", lasts=-1, age=60, site="shop", **DOWN),
        alert("SiteDownEscalated", lasts=-1, age=60, site="shop", **late),
    )
    until(lambda: len(scene.receiver.told("second")) == 2, "its end")
    assert scene.receiver.told("second") == [
        ("firing", "SiteDownEscalated", ["shop"]),
        ("resolved", "SiteDownEscalated", ["shop"]),
    ]
    until(lambda: len(scene.receiver.told("provider")) == 2, "the end for the first")
    assert scene.receiver.told("owner") == []


def test_server_that_stays_down_is_one_page_for_the_second_provider_as_well(scene: Scene) -> None:
    late = {**DOWN, "provider": "second", "first_provider": "infogerance"}
    scene.running.post(alert("ServerDown", **DOWN))
    time.sleep(0.5)
    scene.running.post(
        *(alert("SiteDownEscalated", site=f"site{n}", **late) for n in range(9)),
        alert("SiteDownEscalated", site="elsewhere", **{**late, "host": "srv2"}),
        alert("ServerDownEscalated", **late),
    )
    until(lambda: len(scene.receiver.told("second")) == 2, "two pages")
    time.sleep(6)
    assert sorted(scene.receiver.told("second")) == [
        ("firing", "ServerDownEscalated", [""]),
        ("firing", "SiteDownEscalated", ["elsewhere"]),
    ]
