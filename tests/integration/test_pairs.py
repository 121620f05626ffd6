"""Pairs of Prometheus, three Alertmanagers each, one killed: nothing lost, nothing told twice.

In a cluster Alertmanager needs --dispatch.start-delay, which the oldest does not have.
"""

import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import requests

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

SHARDS = 2
"""Each with a pair and a cluster of its own; the sites of a host are in one of them."""

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

OUTAGE = (40, 50)
"""Seconds. Where the leader dies, a page may come 30 s later, and an outage that is over by then is
told to its owner only."""

STARTED_AFTER = 90
"""Seconds that the start of everything may take, and some for each host."""

AT_LEAST = 10
"""Seconds between two kills, and everyone is there again: one at a time is killed, not the last."""


@contextmanager
def stage(
    folder: Path, programs: Programs, scenes: Sequence[Scene], shards: int = SHARDS
) -> Iterator[tuple[list[Pair], Inbox]]:
    """A pair for each shard and what people get, with everything stopped at the end."""
    with inbox() as received, ExitStack() as at_the_end:
        for scene in scenes:
            scene.host.start()
            at_the_end.callback(scene.host.stop)
        texts = sites_yml(scenes), people_yml(scenes, received)
        pairs = []
        for shard in range(shards):
            pairs.append(Pair(folder / f"pair{shard}", programs, *texts, shard, shards))
            at_the_end.callback(pairs[-1].stop)
            pairs[-1].start()
        for pair in pairs:
            pair.seen_up(sum(pair.watches(f"host-of-{scene.name}") for scene in scenes))
            until(lambda pair=pair: _at_work(pair), "one leads", within=60)  # type: ignore[misc]
        time.sleep(START_DELAY)
        yield pairs, received


def _at_work(pair: Pair) -> bool:
    return pair.whole() and any(map(pair.leads, ORDER))


class Killer:
    """Kills one member at a time, at random moments, and starts it again a random time later."""

    def __init__(self, dice: random.Random, pairs: Sequence[Pair], received: Inbox) -> None:
        self.dice = dice
        self.pairs = pairs
        self.received = received
        self.story: list[str] = []

    def go_on_until(self, end: float) -> None:
        while time.time() < end:
            time.sleep(self.dice.uniform(0, 8))
            pair = self.dice.choice(self.pairs)
            victim = self.dice.choice(MEMBERS)
            if victim.startswith("alertmanager"):
                while self.received.all and time.time() - self.received.all[-1].at < IN_FLIGHT:
                    time.sleep(0.05)
            led = [order for order in ORDER if pair.leads(order)]
            away = self.dice.choice((0.0, 3.0, 10.0, 20.0))
            self.story.append(
                f"{time.time():.1f} {victim} of pair {pair.shard} killed for {away:.0f}s; {led} led"
            )
            pair.kill(victim)
            time.sleep(away)
            pair.start(victim)
            time.sleep(AT_LEAST)
            until(pair.whole, "everyone is there again", within=60)


def evening(dice: random.Random, folder: Path, number: int, begin: float) -> list[Scene]:
    """Three outages soon after `begin` (unix seconds): two of people who can be reached, one that
    an owner must not hear of before a minute of peace is over."""
    peace = next_minute(begin + 10)

    def away(earliest: float) -> Callable[[Scene], None]:
        down, seconds = earliest + dice.uniform(0, 10), dice.uniform(*OUTAGE)

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
    """So many evenings one after the other, with members of pairs killed all the time."""
    dice = random.Random(seed)
    begin = time.time() + STARTED_AFTER * SHARDS + count
    scenes = [
        scene
        for number in range(count)
        for scene in evening(dice, folder, number, begin + number * APART)
    ]
    with stage(folder, programs, scenes) as (pairs, received):
        assert time.time() < begin, "the machine is too busy for the plan"
        killer = Killer(dice, pairs, received)
        play(scenes, lambda: killer.go_on_until(begin + (count - 1) * APART + PEACE))
        sleep_until(max(scene.ended for scene in scenes) + PEACE + SETTLE)
    wrong = [words for scene in scenes for words in wrong_with(scene, received)]
    pages = [received.to(s.provider)[0].at - s.started for s in scenes if received.to(s.provider)]
    figures = (
        f"seed {seed}, {SHARDS} pairs: {count} evenings, {len(scenes)} outages, "
        f"{len(killer.story)} kills, {len(wrong)} wrong; outage to page "
        f"{statistics.median(pages):.1f} s in the median, {max(pages):.1f} s at most"
    )
    print(figures)
    assert not wrong, "\n".join([figures, *wrong, *killer.story, received.log()])


def test_any_one_killed_at_any_moment_loses_nothing_and_tells_nothing_twice(
    newest: Programs, tmp_path: Path
) -> None:
    evenings(tmp_path, newest, count=2, seed=random.randrange(10**6))


def test_leaders_that_die_one_after_the_other_hold_back_no_page(
    newest: Programs, tmp_path: Path
) -> None:
    """The second takes over, and is killed before it sends again what fires all the time."""
    shop = Scene("shop", Host(tmp_path / "shop"), lambda scene: scene.outage(60))
    with stage(tmp_path, newest, [shop], shards=1) as ((pair,), received):
        assert pair.leads("first")
        pair.kill("prometheus-second")
        until(lambda: sign_of_life(pair) < 2, "a sign of life", within=40)
        last = time.time()
        sleep_until(last + 9)
        pair.start("prometheus-second")
        until(pair.whole, "everyone is there again", within=15)
        sleep_until(last + 27)
        pair.kill("prometheus-first")
        until(lambda: pair.leads("second"), "the second takes over", within=30)
        pair.start("prometheus-first")
        sleep_until(last + 60)
        pair.kill("prometheus-second")
        sleep_until(last + 63)
        pair.start("prometheus-second")
        play([shop], lambda: None)
        time.sleep(PEACE)
        assert not wrong_with(shop, received), received.log()
        assert not received.to("stack"), received.log()


def sign_of_life(pair: Pair) -> float:
    """Seconds since the pair sent one, to whichever Alertmanager got it last."""
    now = datetime.now(UTC)
    found = [
        datetime.fromisoformat(alert["updatedAt"])
        for number in CLUSTER
        for alert in requests.get(
            f"{pair.urls[f'alertmanager-{number}']}/api/v2/alerts",
            params={"filter": "alertname=Watchdog"},
            timeout=5,
        ).json()
    ]
    return (now - max(found)).total_seconds() if found else float("inf")


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_thirty_evenings_with_kills(newest: Programs, tmp_path: Path) -> None:
    evenings(tmp_path, newest, count=30, seed=random.randrange(10**6))
