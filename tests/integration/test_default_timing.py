"""The promises in seconds, measured with every setting at its default."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from dolcevita.stack.packages import Programs
from hosts import Host
from inbox import Inbox, inbox
from running import Stack
from scene import START_DELAY, Scene, people_yml, play, sleep_until
from waiting import until

OUTAGES = 10


@pytest.fixture(scope="module")
def outages(
    programs: Programs, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[list[Scene], Inbox]]:
    """Ten sites that go down at ten moments of the 15 s cycle, for 90 s each."""
    folder: Path = tmp_path_factory.mktemp("default")
    dice = random.Random(14)

    def down_for_a_while(scene: Scene) -> None:
        time.sleep(dice.uniform(0, 15))
        scene.outage(90)

    scenes = [
        Scene(f"site{n}", Host(folder / f"host{n}"), down_for_a_while) for n in range(OUTAGES)
    ]
    for scene in scenes:
        scene.host.start()
    sites = yaml.safe_dump({"sites": [site for scene in scenes for site in scene.as_sites()]})
    with inbox() as received:
        stack = Stack(folder / "stack", programs, sites, people_yml(scenes, received), quick=False)
        try:
            stack.start()
            stack.seen_up(OUTAGES)
            time.sleep(START_DELAY)
            play(scenes)
            for scene in scenes:
                until(
                    lambda scene=scene: received.to(scene.name),  # type: ignore[misc]
                    f"the message to {scene.name}",
                    within=180,
                )
            sleep_until(max(scene.ended for scene in scenes) + 120)
            yield scenes, received
        finally:
            stack.stop()
            for scene in scenes:
                scene.host.stop()


def test_15_from_the_outage_to_the_providers_page_takes_at_most_60_seconds(
    outages: tuple[list[Scene], Inbox],
) -> None:
    scenes, received = outages
    pages = [received.to(scene.provider, "SiteDown", "firing") for scene in scenes]
    assert [len(page) for page in pages] == [1] * OUTAGES, received.log()
    taken = [page[0].at - scene.started for page, scene in zip(pages, scenes, strict=True)]
    print("outage to page, seconds:", *(f"{seconds:.1f}" for seconds in sorted(taken)))
    assert max(taken) <= 60


def test_14_by_default_the_owner_is_told_within_two_minutes_of_the_recovery(
    outages: tuple[list[Scene], Inbox],
) -> None:
    scenes, received = outages
    messages = [received.to(scene.name) for scene in scenes]
    assert [len(message) for message in messages] == [1] * OUTAGES, received.log()
    taken = [m[0].at - scene.ended for m, scene in zip(messages, scenes, strict=True)]
    print("recovery to the owner's message, seconds:", *(f"{s:.1f}" for s in sorted(taken)))
    assert max(taken) <= 120
