"""Two Prometheus, three Alertmanagers, one of them killed: nothing lost, nothing told twice.

In a cluster Alertmanager needs --dispatch.start-delay, which the oldest does not have.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dolcevita.stack.packages import Programs
from hosts import Host
from inbox import Inbox, inbox
from pair import CLUSTER, ORDER, Pair
from scene import (
    START_DELAY,
    Scene,
    clock,
    next_minute,
    people_yml,
    play,
    sites_yml,
    sleep_until,
)
from waiting import until

MEMBERS = (
    *(f"prometheus-{order}" for order in ORDER),
    *(f"alertmanager-{number}" for number in CLUSTER),
)

SETTLE = 30
"""Seconds after the last event in which a second message would have come."""

IN_FLIGHT = 1.0
"""What an Alertmanager delivered so shortly before it was killed, the others may not know yet."""

PEACE = 60
APART = 50
"""Seconds of a minute of peace, and between the beginnings of two evenings."""

STARTED_AFTER = 90
"""Seconds that the start of everything may take, and some for each host."""

AT_LEAST = 10
"""Seconds between two kills, and everyone is there again: one at a time is killed, not the last."""


@contextmanager
def stage(folder: Path, programs: Programs, *scenes: Scene) -> Iterator[tuple[Pair, Inbox]]:
    """The pair and what its people get, with everything stopped at the end."""
    with inbox() as received:
        for scene in scenes:
            scene.host.start()
        stack = Pair(folder / "stack", programs, sites_yml(scenes), people_yml(scenes, received))
        try:
            stack.start()
            stack.seen_up(len(scenes))
            until(lambda: stack.whole() and any(map(stack.leads, ORDER)), "one leads", within=60)
            time.sleep(START_DELAY)
            yield stack, received
        finally:
            stack.stop()
            for scene in scenes:
                scene.host.stop()


class Killer:
    """Kills one member at a time, at random moments, and starts it again a random time later."""

    def __init__(self, dice: random.Random, stack: Pair, received: Inbox) -> None:
        self.dice = dice
        self.stack = stack
        self.received = received
        self.story: list[str] = []

    def go_on_until(self, end: float) -> None:
        while time.time() < end:
            time.sleep(self.dice.uniform(0, 8))
            victim = self.dice.choice(MEMBERS)
            if victim.startswith("alertmanager"):
                while self.received.all and time.time() - self.received.all[-1].at < IN_FLIGHT:
                    time.sleep(0.05)
            led = [order for order in ORDER if self.stack.leads(order)]
            away = self.dice.choice((0.0, 3.0, 10.0, 20.0))
            self.story.append(f"{time.time():.1f} {victim} killed for {away:.0f}s; {led} led")
            self.stack.kill(victim)
            time.sleep(away)
            self.stack.start(victim)
            time.sleep(AT_LEAST)
            until(self.stack.whole, "everyone is there again", within=60)


def evening(dice: random.Random, folder: Path, number: int, begin: float) -> list[Scene]:
    """Three outages soon after `begin` (unix seconds): two of people who can be reached, one that
    an owner must not hear of before a minute of peace is over."""
    peace = next_minute(begin + 10)

    def away(earliest: float) -> Callable[[Scene], None]:
        down, seconds = earliest + dice.uniform(0, 10), dice.uniform(20, 30)

        def act(scene: Scene) -> None:
            sleep_until(down)
            scene.outage(seconds)

        return act

    def scene(name: str, earliest: float, **more: Any) -> Scene:
        name = f"{name}{number}"
        return Scene(name, Host(folder / name), away(earliest), **more)

    quiet = {"hours": f"{clock(peace)}-{clock(peace + PEACE)}"}
    return [scene("early", begin), scene("later", begin + 15), scene("held", peace, quiet=quiet)]


def wrong_with(scene: Scene, received: Inbox) -> list[str]:
    """What was not told as it must be, in words."""
    wrong = []
    provider = received.to(scene.provider)
    if [message.status for message in provider] != ["firing", "resolved"]:
        wrong.append(f"{scene.provider} got {[message.status for message in provider]}")
    elif provider[0].at - scene.started > 60:
        wrong.append(f"{scene.provider} was paged after {provider[0].at - scene.started:.0f} s")
    owner = received.to(scene.name)
    if [message.of("alertname") for message in owner] != [["IncidentResolved"]]:
        wrong.append(f"{scene.name} got {[message.of('alertname') for message in owner]}")
    elif scene.quiet and clock(owner[0].at) == str(scene.quiet["hours"])[:5]:
        wrong.append(f"{scene.name} was told in the minute of peace")
    return wrong


def evenings(folder: Path, programs: Programs, count: int, seed: int) -> None:
    """So many evenings one after the other, with members killed all the time."""
    dice = random.Random(seed)
    begin = time.time() + STARTED_AFTER + count
    scenes = [
        scene
        for number in range(count)
        for scene in evening(dice, folder, number, begin + number * APART)
    ]
    with stage(folder, programs, *scenes) as (stack, received):
        assert time.time() < begin, "the machine is too busy for the plan"
        killer = Killer(dice, stack, received)
        play(scenes, lambda: killer.go_on_until(begin + (count - 1) * APART + PEACE))
        sleep_until(max(scene.ended for scene in scenes) + PEACE + SETTLE)
    wrong = [words for scene in scenes for words in wrong_with(scene, received)]
    pages = [received.to(s.provider)[0].at - s.started for s in scenes if received.to(s.provider)]
    figures = (
        f"seed {seed}: {count} evenings, {len(scenes)} outages, {len(killer.story)} kills, "
        f"{len(wrong)} wrong; outage to page {statistics.median(pages):.1f} s in the median, "
        f"{max(pages):.1f} s at most"
    )
    print(figures)
    assert not wrong, "\n".join([figures, *wrong, *killer.story, received.log()])


def test_any_one_killed_at_any_moment_loses_nothing_and_tells_nothing_twice(
    newest: Programs, tmp_path: Path
) -> None:
    evenings(tmp_path, newest, count=2, seed=random.randrange(10**6))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_thirty_evenings_with_kills(newest: Programs, tmp_path: Path) -> None:
    evenings(tmp_path, newest, count=30, seed=random.randrange(10**6))
