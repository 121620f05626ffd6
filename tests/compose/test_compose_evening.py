"""The evening of 14 July in containers: nothing told twice and nothing lost, whatever is killed.

An evening is played once, with every container killed at a random moment of an incident; then the
whole engine is stopped and started. `make soak` does so fifty times.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import requests

from engine import Engine
from hosts import Host
from project import SERVICES, Project
from scene import START_DELAY, Scene, clock, next_minute, play, sleep_until
from town import SETTLE, Town, dice, town
from waiting import until

pytestmark = [pytest.mark.timeout(900), pytest.mark.xdist_group("compose")]

KILLS_IN_SOAK = 50

OUTAGE = (START_DELAY + 10, START_DELAY + 25)
"""Seconds. What begins and ends while Alertmanager starts is told to the owner, and not paged."""

RETOLD = 75
"""Seconds in which a restarted Alertmanager has heard of everything from Prometheus again."""

REPEATED = 40
"""Seconds in which a restarted Prometheus has said again what it said before it had found
Alertmanager."""

FORGOTTEN = 125
"""Seconds after which Alertmanager takes for over what Prometheus does not repeat: a recovery that
Prometheus could not tell before it died."""

LOST_AFTER = 240
"""Seconds after an incident's end in which the owner must have heard of it, come what may."""

PAUSES = {"alertmanager": RETOLD, "prometheus": FORGOTTEN, "engine": RETOLD}
"""After each of these the next is killed a little later: one at a time."""


def _at(start: float, seconds: float) -> Callable[[Scene], None]:
    def act(scene: Scene) -> None:
        sleep_until(start)
        scene.outage(seconds)

    return act


def _nobody(scene: Scene) -> None:
    """A scene that the test itself directs."""


@pytest.fixture(scope="module")
def july(own_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    """Played when a test asks for it: dinner in quiet hours, a blip, incidents and four kills."""
    # The scenes need to know the quiet hours before the stack is up.
    begin = next_minute(time.time() + 70)
    end = begin + 60
    quiet: dict[str, object] = {"hours": f"{clock(begin)}-{clock(end)}"}

    def scenes(host: Callable[[str], Host]) -> list[Scene]:
        spread = [begin - 15 + 9 * n + dice.uniform(0, 6) for n in range(4)]
        return [
            Scene("dinner", host("dinner"), _at(begin + 2, 54), sites=3, quiet=quiet),
            Scene("blip", host("blip"), _at(begin + 10, 1.2)),
            *(
                Scene(f"guest{n}", host(f"guest{n}"), _at(start, dice.uniform(*OUTAGE)))
                for n, start in enumerate(spread)
            ),
            Scene("reboot", host("reboot"), _nobody),
        ]

    with town(tmp_path_factory.mktemp("evening"), own_engine, scenes) as place:
        place.quiet = (begin, end)  # type: ignore[attr-defined]

        def killer() -> None:
            # Alertmanager last, and not before it has from Prometheus what began just before that
            # was killed: one at a time.
            victims = ["exporter", "courier", "prometheus"]
            dice.shuffle(victims)
            sleep_until(begin - 10)
            repeated = 0.0
            for victim in victims:
                time.sleep(dice.uniform(4, 14))
                place.crash(victim)
                if victim == "prometheus":
                    repeated = time.time() + REPEATED
            sleep_until(repeated)
            time.sleep(dice.uniform(4, 14))
            place.crash("alertmanager")

        acting = [scene for scene in place.scenes.values() if scene.name != "reboot"]
        assert time.time() < begin - 15, "the stack took too long to start"
        play(acting, killer)
        sleep_until(end)
        yield place


def test_the_provider_is_paged_at_dinner_and_the_owner_told_after_it(july: Town) -> None:
    begin, end = july.quiet  # type: ignore[attr-defined]
    scene = july.scenes["dinner"]
    july.good_news(scene)
    pages = july.inbox.to(scene.provider, status="firing")
    assert [page.of("alertname") for page in pages] == [["ServerDown"]], july.story()
    assert pages[0].at - scene.started < 60, july.story()
    (message,) = july.inbox.to(scene.name)
    assert message.at >= end > begin
    assert sorted(message.of("site")) == ["dinner0", "dinner1", "dinner2"]


def test_the_engine_stopped_and_started_loses_nothing(july: Town) -> None:
    scene = july.scenes["reboot"]
    for other in july.scenes.values():
        if other.name not in ("reboot", "blip"):
            july.good_news(other)
            july.recovery(other)
    scene.down()
    july.page(scene)
    july.deaths.append(f"{time.time():.1f} engine stopped")
    july.engine.stop()
    july.engine.start()
    july.deaths.append(f"{time.time():.1f} engine back")
    # Nobody looked: what was down is still down, and nothing is told of it again.
    july.seen_up(1)
    july.nobody_is_told(scene)
    scene.up()
    july.good_news(scene)
    july.recovery(scene)


def test_a_backup_is_restored_elsewhere_and_tells_nobody_again(july: Town, tmp_path: Path) -> None:
    end = datetime.now(UTC) + timedelta(hours=1)
    silence = {
        "matchers": [{"name": "site", "value": "dinner0", "isRegex": False}],
        "startsAt": datetime.now(UTC).isoformat(),
        "endsAt": end.isoformat(),
        "createdBy": "marie",
        "comment": "new kitchen",
    }
    url = july.url("alertmanager", "/api/v2/silences")
    requests.post(url, json=silence, timeout=5).raise_for_status()
    (july.folder / "secrets/token").write_text("kept")
    (july.folder / "calendars").mkdir()
    (july.folder / "calendars/private.ics").write_text("kept, too")
    told = "count(last_over_time(incident:told:duration_seconds[1h]))"
    before = july.number(told)
    archive = tmp_path / "archive.tar.gz"
    assert _dolcevita(july, "backup", archive).returncode == 0
    assert archive.stat().st_mode & 0o777 == 0o600
    july.compose("stop")

    (tmp_path / "elsewhere").mkdir()
    other = Project(tmp_path / "elsewhere", july.environment, "sites: []\n", "owners: []\n")
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(archive.read_bytes()[:-1000])
    try:
        refused = _dolcevita(other, "restore", cut)
        assert refused.returncode == 1
        assert "not a whole backup" in refused.stderr
        restored = _dolcevita(other, "restore", archive)
        assert restored.returncode == 0, restored.stderr
        assert other.people.read_text() == july.people.read_text()
        assert (other.folder / "secrets/token").read_text() == "kept"
        assert (other.folder / "calendars/private.ics").read_text() == "kept, too"
        assert "3 files of before that differed" in restored.stdout
        assert "there are data already" in _dolcevita(other, "restore", archive).stderr
        other.start(*SERVICES, "grafana")
        other.seen_up(len(july.scenes))
        assert other.number(told) == before
        url = other.url("alertmanager", "/api/v2/silences")
        found = requests.get(url, timeout=5).json()
        assert "new kitchen" in {silence["comment"] for silence in found}
        stars = "import sqlite3; print(sqlite3.connect('/var/lib/grafana/grafana.db')"
        count = f"{stars}.execute('select count(*) from star').fetchone()[0])"
        assert int(other.compose("exec", "-T", "grafana", "python3", "-c", count)) >= 2
        time.sleep(START_DELAY + SETTLE / 3)
    finally:
        other.remove()


def _dolcevita(project: Project, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [Path(sys.executable).with_name("dolcevita"), *words],
        cwd=project.folder,
        env=project.environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_incident_of_the_evening_was_told_once_to_everybody(july: Town) -> None:
    for scene in july.scenes.values():
        if scene.name == "blip":
            assert not july.inbox.to("blip")
            assert not july.inbox.to(scene.provider)
        elif scene.name == "dinner":
            statuses = [message.status for message in july.inbox.to(scene.provider)]
            assert statuses == ["firing", "resolved"], july.story()
        else:
            july.each_incident_is_told_once(scene)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_fifty_kills_at_random_moments_of_incidents(own_engine: Engine, tmp_path: Path) -> None:
    """Each kill prints what was told so far, so that a run that is interrupted has shown it."""
    kills = int(os.environ.get("DOLCEVITA_KILLS", KILLS_IN_SOAK))
    outages = {f"guest{n}": 0 for n in range(6)}
    ends: dict[str, list[float]] = {name: [] for name in outages}
    over = False

    def scenes(host: Callable[[str], Host]) -> list[Scene]:
        return [Scene(name, host(name), incidents) for name in outages]

    def told(scene: Scene) -> list[str]:
        return [since for message in place.inbox.to(scene.name) for since in message.of("since")]

    def paged(scene: Scene, status: str = "firing") -> int:
        return len(place.inbox.to(scene.provider, "SiteDown", status))

    def incidents(scene: Scene) -> None:
        nonlocal over
        try:
            while not over:
                incident(scene)
        finally:
            over = True

    def incident(scene: Scene) -> None:
        time.sleep(dice.uniform(2, 20))
        scene.down()
        time.sleep(dice.uniform(*OUTAGE))
        outages[scene.name] += 1
        # On a slow machine much of an outage passes unseen, while all starts again.
        until(
            lambda: paged(scene) == outages[scene.name],
            lambda: f"{scene.name}: page {outages[scene.name]}\n{place.story()}",
            within=120,
        )
        scene.up()
        ends[scene.name].append(scene.ended)
        until(
            lambda: len(told(scene)) == outages[scene.name],
            lambda: f"{scene.name}: incident {outages[scene.name]}\n{place.story()}",
            within=LOST_AFTER,
        )

    def figures() -> str:
        pages = lost = twice = 0
        messages = [(told(scene), scene) for scene in place.scenes.values()]
        for heard, scene in messages:
            pages += paged(scene)
            awaited = ends[scene.name][len(heard) :]
            lost += sum(time.time() - end > LOST_AFTER for end in awaited)
            twice += len(heard) - len(set(heard))
            begun = outages[scene.name] + 1
            twice += sum(max(0, paged(scene, of) - begun) for of in ("firing", "resolved"))
        news = sum(len(heard) for heard, _ in messages)
        return (
            f"{sum(outages.values())} outages over: {pages} pages, {news} good news, "
            f"{lost} lost, {twice} told twice"
        )

    def killer() -> None:
        nonlocal over
        victims = (*SERVICES, "engine")
        began = time.monotonic()
        try:
            for number in range(kills):
                if over:
                    break
                time.sleep(dice.uniform(5, 30))
                victim = victims[number % len(victims)]
                if victim == "engine":
                    place.deaths.append(f"{time.time():.1f} engine stopped")
                    own_engine.stop()
                    own_engine.start()
                    place.deaths.append(f"{time.time():.1f} engine back")
                else:
                    place.crash(victim)
                time.sleep(PAUSES.get(victim, 0))
                minutes = (time.monotonic() - began) / 60
                print(f"{minutes:5.1f} min, kill {number + 1:2} {victim}: {figures()}", flush=True)
        finally:
            over = True

    with town(tmp_path, own_engine, scenes) as place:
        time.sleep(START_DELAY)
        play(place.scenes.values(), killer)
        time.sleep(SETTLE)
        print(f"{kills} kills, {figures()}, {len(place.inbox.all)} messages")
        for scene in place.scenes.values():
            place.each_incident_is_told_once(scene, outages[scene.name])
