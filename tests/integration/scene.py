"""Scenes: people, their sites, and what happens to them, many at a time on one stack.

Time runs quickly: a probe each second, down after 4s, recovered after 6s. Rules, routes and
calendars are the repository's own.
"""

import math
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import yaml

from dolcevita.stack.packages import Programs
from hosts import Host
from inbox import Inbox
from running import Stack

EVERY = 1
DOWN_AFTER = 4
RECOVER_AFTER = 6
START_DELAY = 35
"""Newer Alertmanagers wait so long after a start before they tell anything."""


@dataclass
class Scene:
    """One owner with a provider of their own and sites on one host.

    `play` makes things happen to the host; `quiet` is the owner's quiet time in people.yml.
    """

    name: str
    host: Host
    play: Callable[["Scene"], None]
    sites: int = 1
    quiet: dict[str, object] | None = None
    timing: dict[str, str] = field(default_factory=dict)
    started: float = 0.0
    """Unix time of the first stop of the host."""
    ended: float = 0.0
    """Unix time of the last start of the host."""

    @property
    def provider(self) -> str:
        return f"{self.name}-provider"

    def down(self) -> None:
        self.started = self.started or time.time()
        self.host.stop()

    def up(self) -> None:
        self.host.start()
        self.ended = time.time()

    def outage(self, seconds: float) -> None:
        """The host is away for so long."""
        self.down()
        time.sleep(seconds)
        self.up()

    def as_sites(self) -> list[dict[str, object]]:
        return [
            {
                "name": self.name if self.sites == 1 else f"{self.name}{n}",
                "url": f"{self.host.url}/{n}",
                "host": f"host-of-{self.name}",
                "owner": self.name,
                "provider": self.provider,
                **self.timing,
            }
            for n in range(self.sites)
        ]


def sites_yml(scenes: Iterable[Scene], **more: object) -> str:
    """sites.yml of all scenes; `more` entries go beside the sites."""
    defaults = {
        "every": f"{EVERY}s",
        "down_after": f"{DOWN_AFTER}s",
        "recover_after": f"{RECOVER_AFTER}s",
    }
    sites = [site for scene in scenes for site in scene.as_sites()]
    return yaml.safe_dump({"defaults": defaults, "sites": sites, **more})


def people_yml(scenes: Iterable[Scene], inbox: Inbox) -> str:
    """people.yml of all scenes. The first provider hears of the stack itself."""
    scenes = list(scenes)
    providers = [{"name": "stack", "notify": [{"webhook": inbox.address("stack")}]}]
    providers += [
        {"name": scene.provider, "notify": [{"webhook": inbox.address(scene.provider)}]}
        for scene in scenes
    ]
    owners = [
        {
            "name": scene.name,
            "timezone": "UTC",
            "notify": [{"webhook": inbox.address(scene.name)}],
            **({"quiet": scene.quiet} if scene.quiet else {}),
        }
        for scene in scenes
    ]
    return yaml.safe_dump({"providers": providers, "owners": owners})


def stack_of(
    folder: Path, programs: Programs, scenes: Iterable[Scene], inbox: Inbox, quick: bool = True
) -> Stack:
    """A running stack whose sites have all been seen up."""
    scenes = list(scenes)
    with ExitStack() as undo:
        for scene in scenes:
            undo.callback(scene.host.stop)
            scene.host.start()
        stack = Stack(folder, programs, sites_yml(scenes), people_yml(scenes, inbox), quick)
        undo.callback(stack.stop)
        stack.start()
        stack.seen_up(sum(scene.sites for scene in scenes))
        time.sleep(START_DELAY)
        undo.pop_all()
    return stack


def play(scenes: Iterable[Scene], *besides: Callable[[], None]) -> None:
    """Let all scenes happen at once, and `besides` with them. Raises what the first one raised."""
    failures: list[BaseException] = []

    def run(what: Callable[[], None]) -> None:
        try:
            what()
        except BaseException as error:
            failures.append(error)

    acts = [*besides, *(lambda scene=scene: scene.play(scene) for scene in scenes)]
    threads = [threading.Thread(target=run, args=(act,)) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def next_minute(after: float) -> float:
    """The first full minute (unix seconds) at or after a time: quiet hours begin on minutes."""
    return math.ceil(after / 60) * 60.0


def clock(at: float) -> str:
    """A time of day for `quiet: {hours: ...}`, UTC."""
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M")


def sleep_until(at: float) -> None:
    time.sleep(max(0.0, at - time.time()))
