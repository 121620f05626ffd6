"""Scenes on a stack in containers: hosts and inbox on this machine, under a name the engine gives.

What the integration tests play on processes is played here on the compose file's containers.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine import Engine
from hosts import Host
from inbox import Inbox, inbox
from project import SERVICES, Project
from scene import Scene, people_yml, sites_yml
from waiting import until

INSIDE = "host.docker.internal"
"""This machine, as containers call it."""

SETTLE = 45
"""Seconds in which a second message would have come."""

SNAPSHOT = 0.6
"""Twice Alertmanager's --data.maintenance-interval and a little: its log is on disk by then."""

BACK_WITHIN = 60

dice = random.Random()


class Town(Project):
    """A quick stack with scenes on it, all of whose sites have been seen up."""

    def __init__(
        self, folder: Path, engine: Engine, scenes: Iterable[Scene], received: Inbox
    ) -> None:
        self.engine = engine
        self.scenes = {scene.name: scene for scene in scenes}
        self.inbox = received
        self.deaths: list[str] = []
        address = engine.address()
        sites = sites_yml(self.scenes.values()).replace(address, INSIDE)
        people = people_yml(self.scenes.values(), received).replace(address, INSIDE)
        super().__init__(folder, engine.environment, sites, people)
        self.quicken()

    def begin(self) -> None:
        for scene in self.scenes.values():
            scene.host.start()
        self.start(*SERVICES, "grafana")
        self.seen_up(sum(scene.sites for scene in self.scenes.values()))

    def crash(self, service: str) -> None:
        """Kill a container, and wait until the engine has it running again."""
        if service == "alertmanager":
            # What was delivered in the last quarter of a second is not yet in the log on disk.
            while self.inbox.all and time.time() - self.inbox.all[-1].at < SNAPSHOT:
                time.sleep(0.05)
        before = self.pid(service)
        self.deaths.append(f"{time.time():.1f} {service} killed")
        self.kill(service)
        until(lambda: self.pid(service) not in (0, before), f"{service} back", within=BACK_WITHIN)

    def page(self, scene: Scene) -> None:
        until(
            lambda: self.inbox.to(scene.provider, status="firing"),
            lambda: f"the page of {scene.name}\n{self.story()}",
            within=60,
        )

    def good_news(self, scene: Scene, within: float = 150) -> None:
        until(
            lambda: self.inbox.to(scene.name),
            lambda: f"the message to {scene.name}\n{self.story()}",
            within=within,
        )

    def recovery(self, scene: Scene) -> None:
        until(
            lambda: self.inbox.to(scene.provider, status="resolved"),
            lambda: f"the recovery of {scene.name}\n{self.story()}",
            within=90,
        )

    def each_incident_is_told_once(self, scene: Scene, incidents: int = 1) -> None:
        """To the provider its start and its end, to the owner its end, and nothing else."""
        told = [since for message in self.inbox.to(scene.name) for since in message.of("since")]
        names = {n for message in self.inbox.to(scene.name) for n in message.of("alertname")}
        assert names == {"IncidentResolved"}, self.story()
        assert len(told) == len(set(told)) == incidents, f"{scene.name}: {told}\n{self.story()}"
        for status in ("firing", "resolved"):
            messages = self.inbox.to(scene.provider, "SiteDown", status)
            assert len(messages) == incidents, f"{scene.provider} {status}\n{self.story()}"

    def nobody_is_told(self, scene: Scene) -> None:
        assert not self.inbox.to(scene.name), self.story()
        assert not self.inbox.to(scene.provider, status="resolved"), self.story()

    def story(self) -> str:
        """What was done and what was delivered, in order, for a failed assertion."""
        return "\n".join(sorted([*self.deaths, *self.inbox.log().splitlines()]))


@contextmanager
def town(
    folder: Path,
    engine: Engine,
    make: Callable[[Callable[[str], Host]], list[Scene]],
    kind: type["Town"] = Town,
) -> Iterator[Town]:
    """A running Town of the scenes that `make` returns; it gets what makes a host by name."""
    address = engine.address()
    with inbox(address) as received:
        scenes = make(lambda name: Host(folder / "hosts" / name, address))
        project = folder / "project"
        project.mkdir(parents=True)
        made = kind(project, engine, scenes, received)
        try:
            made.begin()
            yield made
        finally:
            made.remove()
            for scene in scenes:
                scene.host.stop()
