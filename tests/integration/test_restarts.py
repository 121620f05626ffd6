"""Any component killed at any moment: nothing told twice, nothing lost, no false good news."""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dolcevita.stack.packages import Programs
from hosts import Host
from inbox import Inbox, inbox
from running import Stack
from scene import (
    DOWN_AFTER,
    RECOVER_AFTER,
    START_DELAY,
    Scene,
    clock,
    next_minute,
    play,
    sleep_until,
    stack_of,
)
from waiting import until

SETTLE = 45
"""Seconds in which a second message would have come."""

SNAPSHOT = 0.6
"""Twice Alertmanager's --data.maintenance-interval and a little: its log is on disk by then."""


@contextmanager
def stage(folder: Path, programs: Programs, *scenes: Scene) -> Iterator[tuple[Stack, Inbox]]:
    """The stack and what its people get, with everything stopped at the end."""
    with inbox() as received:
        stack = stack_of(folder / "stack", programs, scenes, received)
        try:
            yield stack, received
        finally:
            stack.stop()
            for scene in scenes:
                scene.host.stop()


def _page(scene: Scene, received: Inbox) -> None:
    until(lambda: received.to(scene.provider, "SiteDown", "firing"), "the page", within=60)


def _good_news(scene: Scene, received: Inbox, within: float = 60) -> None:
    until(lambda: received.to(scene.name), "the message to the owner", within=within)
    time.sleep(SETTLE)
    owner = received.to(scene.name)
    provider = received.to(scene.provider)
    assert [m.of("alertname") for m in owner] == [["IncidentResolved"]], received.log()
    assert [m.status for m in provider] == ["firing", "resolved"], received.log()


def _nobody(scene: Scene) -> None:
    """A scene that the test itself directs."""


@contextmanager
def one_scene(folder: Path, programs: Programs) -> Iterator[tuple[Scene, Stack, Inbox]]:
    """A stage for one site, which the test itself takes down and up."""
    scene = Scene("marie", Host(folder / "host"), _nobody)
    with stage(folder, programs, scene) as (stack, received):
        yield scene, stack, received


def test_04_a_dead_exporter_is_paged_and_gives_no_good_news_before_the_site_is_seen_up(
    programs: Programs, tmp_path: Path
) -> None:
    with one_scene(tmp_path, programs) as (scene, stack, received):
        scene.down()
        _page(scene, received)
        stack.kill("exporter")
        scene.up()
        until(
            lambda: received.to("stack", "ExporterDown", "firing"),
            "the page about the exporter",
            within=60,
        )
        assert not received.to(scene.name)
        assert not received.to(scene.provider, status="resolved")
        stack.start("exporter")
        back = time.time()
        _good_news(scene, received)
        assert received.to(scene.name)[0].at >= back + RECOVER_AFTER
        assert received.to(scene.provider, status="resolved")[0].at >= back + RECOVER_AFTER


def test_05_a_killed_prometheus_goes_on_with_the_same_incident(
    programs: Programs, tmp_path: Path
) -> None:
    with one_scene(tmp_path, programs) as (scene, stack, received):
        scene.down()
        _page(scene, received)
        stack.kill("prometheus")
        stack.start("prometheus")
        time.sleep(15)
        assert not received.to(scene.name)
        # The host comes back while nobody looks, and is seen up for too short a time.
        stack.kill("prometheus")
        scene.up()
        stack.start("prometheus")
        time.sleep(RECOVER_AFTER / 2)
        stack.kill("prometheus")
        assert not received.to(scene.name)
        stack.start("prometheus")
        _good_news(scene, received)
        incidents = {since for message in received.all for since in message.of("since")} - {""}
        assert len(incidents) == 1, received.log()


def test_a_prometheus_that_stays_away_is_paged_and_nothing_is_told_as_resolved(
    programs: Programs, tmp_path: Path
) -> None:
    with one_scene(tmp_path, programs) as (scene, stack, received):
        scene.down()
        _page(scene, received)
        stack.kill("prometheus")
        # Longer than the two minutes after which Alertmanager takes an alert for resolved.
        time.sleep(150)
        assert received.to("stack", "PrometheusSilent", "firing"), received.log()
        stack.start("prometheus")
        time.sleep(30)
        assert [m.status for m in received.to(scene.provider)] == ["firing"], received.log()
        assert not received.to(scene.name)
        scene.up()
        _good_news(scene, received, within=150)
        assert len(received.to("stack", "PrometheusSilent", "firing")) == 1


def test_06_alertmanager_killed_at_any_moment_tells_nothing_twice_and_loses_nothing(
    programs: Programs, tmp_path: Path
) -> None:
    dice = random.Random()
    begin = next_minute(time.time() + 140)
    end = begin + 120

    def away(down: float, up: float) -> Callable[[Scene], None]:
        def act(scene: Scene) -> None:
            sleep_until(down)
            scene.outage(up - down)

        return act

    quiet: dict[str, object] = {"hours": f"{clock(begin)}-{clock(end)}"}
    scenes = [
        Scene("before", Host(tmp_path / "a"), away(begin - 85, begin - 25), quiet=quiet),
        Scene("into", Host(tmp_path / "b"), away(begin - 50, begin + 20), quiet=quiet),
        Scene("within", Host(tmp_path / "c"), away(begin + 5, begin + 75), quiet=quiet),
        Scene("across", Host(tmp_path / "d"), away(begin - 30, end + 30), quiet=quiet),
        Scene("awake", Host(tmp_path / "e"), away(begin + 20, begin + 90)),
    ]
    kills: list[float] = []

    def killer() -> None:
        moment = begin - dice.uniform(0, 60)
        while moment < end + 30:
            sleep_until(moment)
            # What was delivered in the last quarter of a second is not yet in the log on disk.
            while received.all and time.time() - received.all[-1].at < SNAPSHOT:
                time.sleep(0.05)
            kills.append(time.time())
            stack.kill("alertmanager")
            stack.start("alertmanager")
            moment = time.time() + dice.uniform(START_DELAY + 10, 80)

    with stage(tmp_path, programs, *scenes) as (stack, received):
        play(scenes, killer)
        sleep_until(max([*kills, *(s.ended for s in scenes)]) + START_DELAY + SETTLE)
        story = f"killed at {[round(k, 1) for k in kills]}\n{received.log()}"
        assert len(kills) >= 2
        for scene in scenes:
            owner = received.to(scene.name)
            assert [m.of("alertname") for m in owner] == [["IncidentResolved"]], story
            if scene.quiet:
                assert not begin <= owner[0].at < end, story
            provider = [m.status for m in received.to(scene.provider)]
            assert provider == ["firing", "resolved"], f"{scene.provider}: {provider}\n{story}"


def test_what_begins_while_prometheus_starts_is_paged_without_waiting_for_a_repetition(
    programs: Programs, tmp_path: Path
) -> None:
    with one_scene(tmp_path, programs) as (scene, stack, received):
        scene.down()
        twice = "site:probed:timestamp_seconds > on (site) site:failing_since:timestamp_seconds + 1"
        until(lambda: stack.query(twice), "two failures", within=30)
        stack.kill("prometheus")
        time.sleep(DOWN_AFTER)
        stack.start("prometheus")
        back = time.time()
        _page(scene, received)
        assert received.to(scene.provider)[0].at - back < 25, received.log()
        scene.up()
        _good_news(scene, received)


def test_what_was_over_just_before_everything_stopped_is_told_to_the_provider(
    programs: Programs, tmp_path: Path
) -> None:
    over = Scene("over", Host(tmp_path / "a"), _nobody)
    still = Scene("still", Host(tmp_path / "b"), _nobody)
    with stage(tmp_path, programs, over, still) as (stack, received):
        for scene in (over, still):
            scene.down()
        for scene in (over, still):
            _page(scene, received)
            stack.noted(f"provider/{scene.provider}")
        over.up()
        # Prometheus has seen that it is over, and Alertmanager waits for the rest of its group.
        until(
            lambda: not stack.query(f'ALERTS{{alertname="SiteDown", owner="{over.name}"}}'),
            "the end of the incident",
            within=30,
        )
        stack.kill(*stack.components)
        assert not received.to(over.provider, status="resolved"), "killed too late to try this"
        stack.start()
        until(lambda: received.to(over.provider, status="resolved"), received.log, within=150)
        _good_news(over, received)
        assert [m.status for m in received.to(still.provider)] == ["firing"], received.log()
        assert not received.to(still.name)
        still.up()
        _good_news(still, received)
