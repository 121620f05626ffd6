"""What breaks around the containers while an incident is open: nothing is told wrongly.

A full disk, a clock that jumps, dead name resolution, a container cut from its networks.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

import clock
from engine import Engine
from hosts import Host
from project import SERVICES
from scene import RECOVER_AFTER, Scene
from town import SETTLE, Town, town
from waiting import until

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(1800),
    pytest.mark.xdist_group("compose"),
]

LONG_ENOUGH = RECOVER_AFTER + 9
"""Seconds after which a recovery would have been told if it had been seen."""

NAMES = ("exporter", "prometheus", "alertmanager", "courier", "disk", "dns", "ahead", "back")


def _nobody(scene: Scene) -> None:
    """A scene that the tests direct."""


class Broken(Town):
    """A town whose Prometheus has a small disk; a site and a sentinel are known by name only."""

    def start(self, *services: str) -> None:
        volume = f"{self.name}_prometheus"
        self.docker(
            *("volume", "create", "--opt=type=tmpfs", "--opt=device=tmpfs"),
            *("--opt=o=size=48m,uid=65534,gid=65534", volume),
            f"--label=com.docker.compose.project={self.name}",
            "--label=com.docker.compose.volume=prometheus",
        )
        sites = yaml.safe_load(self.sites.read_text())
        for site in sites["sites"]:
            if site["name"] == "dns":
                site["url"] = "http://prometheus:9090/-/healthy"
        people = {"owner": "dns", "provider": "dns-provider"}
        sentinel = {"url": "http://prometheus:9090/-/ready", "sentinel": True, **people}
        sites["sites"].append(sentinel)
        self.sites.write_text(yaml.safe_dump(sites))
        super().start(*services)

    @contextmanager
    def filtered(self, service: str, *rule: str) -> Iterator[None]:
        """Packets of a container that match are dropped, in both directions."""
        inside = ["nsenter", "--net", f"--target={self.pid(service)}", "iptables", "--wait"]
        for chain in ("INPUT", "OUTPUT"):
            subprocess.run([*inside, "--insert", chain, *rule, "--jump", "DROP"], check=True)
        try:
            yield
        finally:
            for chain in ("INPUT", "OUTPUT"):
                subprocess.run([*inside, "--delete", chain, *rule, "--jump", "DROP"], check=True)

    def set_clocks(self, seconds: int) -> None:
        """All containers at once, as when the machine's clock is set."""
        processes = [self.program(service) for service in SERVICES]
        until(lambda: _set_clocks(processes, seconds), "every clock set")
        self.deaths.append(f"{time.time():.1f} clocks {seconds}s ahead")


def _set_clocks(processes: list[int], seconds: int) -> bool:
    """Whether it was possible just now: a thread may be about to ask for the time."""
    for pid in processes:
        os.kill(pid, signal.SIGSTOP)
    try:
        for pid in processes:
            clock.jump(pid, seconds)
    except InterruptedError:
        return False
    finally:
        for pid in processes:
            os.kill(pid, signal.SIGCONT)
    return True


@pytest.fixture(scope="module")
def place(own_engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broken]:
    def scenes(host: Callable[[str], Host]) -> list[Scene]:
        return [Scene(name, host(name), _nobody) for name in NAMES]

    with town(tmp_path_factory.mktemp("broken"), own_engine, scenes, Broken) as made:
        assert isinstance(made, Broken)
        yield made


def _open(place: Town, name: str) -> Scene:
    scene = place.scenes[name]
    scene.down()
    place.page(scene)
    return scene


def _told_once_it_is_over(place: Town, scene: Scene) -> None:
    place.good_news(scene)
    place.recovery(scene)


@pytest.mark.parametrize("service", ["exporter", "prometheus"])
def test_a_recovery_that_cannot_be_seen_through_a_cut_network_is_not_told(
    place: Broken, service: str
) -> None:
    scene = _open(place, service)
    with _cut(place, service):
        scene.up()
        time.sleep(LONG_ENOUGH)
        place.nobody_is_told(scene)
    _told_once_it_is_over(place, scene)


@contextmanager
def _cut(place: Broken, service: str) -> Iterator[None]:
    """No packet goes in or out, but to itself."""
    with place.filtered(service, "!", "--source", "127.0.0.0/8"):
        yield


def test_what_happens_while_alertmanager_is_cut_off_is_told_afterwards(place: Broken) -> None:
    scene = place.scenes["alertmanager"]
    with _cut(place, "alertmanager"):
        scene.down()
        until(lambda: place.query('ALERTS{site="alertmanager"}'), "the incident", within=60)
        time.sleep(LONG_ENOUGH)
        assert not place.inbox.to(scene.provider)
    place.page(scene)
    scene.up()
    _told_once_it_is_over(place, scene)


def test_without_the_courier_incidents_are_told_as_ever(place: Broken) -> None:
    with _cut(place, "courier"):
        scene = _open(place, "courier")
        scene.up()
        _told_once_it_is_over(place, scene)


def test_without_name_resolution_the_uplink_is_down_and_no_site(place: Broken) -> None:
    scene = place.scenes["dns"]
    with place.filtered("exporter", "--destination", "127.0.0.11"):
        until(
            lambda: place.inbox.to("stack", "UplinkDown", "firing"),
            place.story,
            within=60,
        )
        time.sleep(LONG_ENOUGH)
    until(lambda: place.inbox.to("stack", "UplinkDown", "resolved"), place.story, within=60)
    time.sleep(LONG_ENOUGH)
    assert not place.inbox.to(scene.name), place.story()
    assert not place.inbox.to(scene.provider), place.story()


def test_a_recovery_while_the_disk_is_full_is_told_when_there_is_room(place: Broken) -> None:
    scene = _open(place, "disk")
    fill = Path(f"/proc/{place.pid('prometheus')}/root/prometheus/fill")
    try:
        with fill.open("wb", buffering=0) as file:
            while file.write(bytes(65536)):
                pass
    except OSError:
        pass
    scene.up()
    time.sleep(LONG_ENOUGH)
    assert "no space left" in place.logs("prometheus")
    place.nobody_is_told(scene)
    fill.unlink()
    _told_once_it_is_over(place, scene)


@pytest.mark.skipif(not clock.possible(), reason="the clock is set by code for amd64")
def test_a_clock_that_jumps_an_hour_tells_nothing_wrong(place: Broken) -> None:
    """An hour ahead, then back, then ahead again, as if the hour had passed."""
    scene = _open(place, "ahead")
    place.set_clocks(3600)
    time.sleep(LONG_ENOUGH)
    place.nobody_is_told(scene)
    scene.up()
    _told_once_it_is_over(place, scene)

    scene = _open(place, "back")
    before = len(place.inbox.all)
    place.set_clocks(0)
    until(lambda: place.inbox.to("stack", "PrometheusSilent", "firing"), place.story, within=120)
    time.sleep(LONG_ENOUGH)
    assert len(place.inbox.all) <= before + 1, place.story()
    place.set_clocks(3600)
    scene.up()
    _told_once_it_is_over(place, scene)


def test_through_all_of_it_each_incident_was_told_once(place: Broken) -> None:
    time.sleep(SETTLE)
    for scene in place.scenes.values():
        if scene.name == "dns":
            assert not place.inbox.to(scene.provider), place.story()
        else:
            place.each_incident_is_told_once(scene)
