"""Two Prometheus, three Alertmanagers and a store in containers: docker-compose.pair.yml.

What the members do when they die is tried with processes, in tests/integration/test_pairs.py. Here
the overlay itself is: everything is healthy, finds each other, and outlives the one that leads.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import images
from dolcevita.courier.app import LEADS
from dolcevita.demo.project import quicken
from engine import Engine
from hosts import Host
from inbox import Inbox
from project import ROOT
from scene import START_DELAY, Scene
from town import SETTLE, Town, town
from waiting import until

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("compose"),
]

OVERLAY = "docker-compose.pair.yml"
MEMBERS = ("prometheus", "prometheus-second")
HEALTHY = 11
"""Containers: two exporters, three couriers, three Alertmanagers, two Prometheus, the store."""


class PairTown(Town):
    def __init__(
        self, folder: Path, engine: Engine, scenes: Iterable[Scene], received: Inbox
    ) -> None:
        super().__init__(folder, engine, scenes, received)
        shutil.copy(ROOT / OVERLAY, folder)
        self.environment["COMPOSE_FILE"] = os.pathsep.join(("docker-compose.yml", OVERLAY))
        self.environment["VICTORIAMETRICS_IMAGE"] = images.VICTORIAMETRICS
        for order in ("first", "second"):
            quicken(folder / f"prometheus/pair/{order}.yml")

    def begin(self) -> None:
        for scene in self.scenes.values():
            scene.host.start()
        self.compose("up", "--detach", "--no-build", "--wait", "--scale=grafana=0")
        self.seen_up(len(self.scenes))

    def ask(self, member: str, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query inside that member's container."""
        url = "http://127.0.0.1:9090"
        words = ("exec", member, "promtool", "query", "instant", "--format=json", url, expression)
        return list(json.loads(self.compose(*words)))

    def leader(self) -> str:
        """The member that leads, '' for none."""
        return next((member for member in MEMBERS if self.ask(member, LEADS)), "")


@pytest.fixture(scope="module")
def place(own_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PairTown]:
    images.build_store(own_engine.environment)

    def scenes(host: Callable[[str], Host]) -> list[Scene]:
        return [Scene(name, host(name), lambda scene: None) for name in ("before", "after")]

    with town(tmp_path_factory.mktemp("pair"), own_engine, scenes, PairTown) as made:
        assert isinstance(made, PairTown)
        yield made


def test_overlay_tells_of_an_incident_once_and_outlives_the_one_that_leads(place: PairTown) -> None:
    states = [line for line in place.compose("ps", "--format={{.Health}}").split() if line]
    assert states == ["healthy"] * HEALTHY
    leader = until(place.leader, "one leads", within=60)
    time.sleep(START_DELAY)

    before, after = place.scenes.values()
    before.down()
    place.page(before)
    # With an incident open; whether the other one takes over depends on how fast this one is back.
    place.crash(leader)
    time.sleep(SETTLE / 3)
    until(place.leader, "one leads again", within=60)
    before.up()
    place.recovery(before)
    place.good_news(before)
    after.down()
    place.page(after)
    after.up()
    place.recovery(after)
    place.good_news(after)
    time.sleep(SETTLE)
    for scene in (before, after):
        place.each_incident_is_told_once(scene)
    stored = place.compose(
        *("exec", "victoriametrics", "/bin/wget", "-q", "-O-"),
        "http://127.0.0.1:8428/api/v1/query?query=count(last_over_time(incident:told:duration_seconds[1h]))",
    )
    assert json.loads(stored)["data"]["result"][0]["value"][1] == "2", stored
