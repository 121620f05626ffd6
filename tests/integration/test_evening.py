"""The evening of 14 July: who is told what, when, by the real programs.

All scenes are played at once on one stack, then each test looks at what its people were told.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from dolcevita.stack.packages import Programs
from hosts import Host
from inbox import Inbox, Message, inbox
from running import Stack
from scene import Scene, clock, next_minute, play, sleep_until, stack_of
from waiting import until

SETTLE = 45
"""Seconds after the last event in which nothing more may arrive."""


@dataclass
class Evening:
    """What happened: the scenes by name, and all that was delivered."""

    scenes: dict[str, Scene]
    inbox: Inbox
    quiet_from: float
    quiet_to: float

    def told(self, name: str) -> Message:
        """The one message that an owner got."""
        messages = self.inbox.to(name)
        assert len(messages) == 1, f"{name} got {len(messages)} messages:\n{self.inbox.log()}"
        return messages[0]

    def one_page_and_one_recovery(self, name: str, alertname: str = "SiteDown") -> None:
        provider = self.scenes[name].provider
        statuses = [message.status for message in self.inbox.to(provider)]
        assert statuses == ["firing", "resolved"], f"{provider}: {statuses}\n{self.inbox.log()}"
        assert {name for m in self.inbox.to(provider) for name in m.of("alertname")} == {alertname}

    def only_good_news_outside_quiet_hours(self, name: str, incidents: int = 1) -> None:
        message = self.told(name)
        assert message.status == "firing"
        assert message.of("alertname") == ["IncidentResolved"] * incidents
        assert len(set(message.of("since"))) == incidents
        assert not self.quiet_from <= message.at < self.quiet_to
        assert message.at > self.scenes[name].ended


def _quiet_scenes(host: Callable[[str], Host], begin: float, end: float) -> list[Scene]:
    def between(start: float, stop: float) -> Callable[[Scene], None]:
        def act(scene: Scene) -> None:
            sleep_until(start)
            scene.outage(stop - start)

        return act

    def twice(scene: Scene) -> None:
        sleep_until(begin + 5)
        scene.outage(12)
        time.sleep(12)
        scene.outage(12)

    quiet = {"hours": f"{clock(begin)}-{clock(end)}"}
    plays = {
        "before_in": between(begin - 15, begin + 10),
        "before_after": between(begin - 15, end + 10),
        "in_in": between(begin + 5, begin + 25),
        "in_after": between(begin + 30, end + 10),
        "after_after": between(end + 5, end + 20),
        "two_incidents": twice,
    }
    return [Scene(name, host(name), act, quiet=quiet) for name, act in plays.items()]


@pytest.fixture(scope="module")
def evening(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evening]:
    folder = tmp_path_factory.mktemp("evening")

    def host(name: str) -> Host:
        return Host(folder / "hosts" / name)

    def flap(scene: Scene) -> None:
        for _ in range(5):
            scene.outage(5)
            time.sleep(4)

    def removed(scene: Scene) -> None:
        scene.down()
        until(lambda: received.to(scene.provider), "a page for the site to be removed", within=60)
        text = stack.sites.read_text()
        gone = text.replace(f"{scene.host.url}/0", f"{always_up.url}/0").replace(
            "name: removed\n", "name: other\n"
        )
        assert gone != text
        stack.sites.write_text(gone)
        scene.ended = time.time()

    quiet_from = next_minute(time.time() + 85)
    quiet_to = quiet_from + 60
    always_up = host("always_up")
    always_up.start()
    scenes = [
        Scene("five_minutes", host("five_minutes"), lambda scene: scene.outage(30)),
        Scene("blip", host("blip"), lambda scene: scene.outage(1.2)),
        Scene("flapping", host("flapping"), flap, timing={"recover_after": "12s"}),
        Scene("twenty", host("twenty"), lambda scene: scene.outage(20), sites=20),
        Scene("removed", host("removed"), removed),
        Scene("not_quiet", host("not_quiet"), lambda scene: scene.outage(12)),
        *_quiet_scenes(host, quiet_from, quiet_to),
    ]
    with inbox() as received:
        stack: Stack = stack_of(folder / "stack", programs, scenes, received)
        try:
            play(scenes)
            sleep_until(max(scene.ended for scene in scenes) + SETTLE)
            assert stack.query("max(rate(prometheus_rule_evaluation_failures_total[10m]))")
            failures = stack.query("sum(prometheus_rule_evaluation_failures_total)")
            assert float(failures[0]["value"][1]) == 0, "a rule failed"
            yield Evening({s.name: s for s in scenes}, received, quiet_from, quiet_to)
        finally:
            stack.stop()
            for scene in scenes:
                scene.host.stop()
            always_up.stop()


def test_01_an_outage_is_one_page_one_recovery_and_one_message_to_the_owner(
    evening: Evening,
) -> None:
    evening.one_page_and_one_recovery("five_minutes")
    told = evening.told("five_minutes")
    assert told.of("alertname") == ["IncidentResolved"]
    scene = evening.scenes["five_minutes"]
    assert abs(float(told.of("since")[0]) - scene.started) < 3
    assert abs(float(told.of("until")[0]) - scene.ended) < 3


def test_02_a_blip_shorter_than_the_threshold_is_told_to_nobody(evening: Evening) -> None:
    assert not evening.inbox.to("blip")
    assert not evening.inbox.to(evening.scenes["blip"].provider)


def test_03_flapping_is_one_incident_one_page_and_one_message(evening: Evening) -> None:
    evening.one_page_and_one_recovery("flapping")
    assert evening.told("flapping").of("alertname") == ["IncidentResolved"]


@pytest.mark.parametrize("name", ["before_in", "before_after", "in_in", "in_after", "after_after"])
def test_07_an_incident_around_quiet_hours_is_told_once_and_outside_them(
    evening: Evening, name: str
) -> None:
    evening.one_page_and_one_recovery(name)
    evening.only_good_news_outside_quiet_hours(name)


def test_08_two_incidents_in_one_quiet_stretch_are_one_digest(evening: Evening) -> None:
    evening.only_good_news_outside_quiet_hours("two_incidents", incidents=2)
    statuses = [m.status for m in evening.inbox.to(evening.scenes["two_incidents"].provider)]
    assert statuses == ["firing", "resolved"] * 2


def test_09_twenty_sites_of_one_host_are_one_page_and_one_digest(evening: Evening) -> None:
    evening.one_page_and_one_recovery("twenty", "ServerDown")
    told = evening.told("twenty")
    assert sorted(told.of("site")) == sorted(f"twenty{n}" for n in range(20))


def test_11_a_site_removed_while_down_closes_silently(evening: Evening) -> None:
    assert not evening.inbox.to("removed")
    provider = evening.scenes["removed"].provider
    assert [message.status for message in evening.inbox.to(provider)] == ["firing"]


def test_14_without_quiet_hours_the_owner_is_told_within_two_minutes(evening: Evening) -> None:
    told = evening.told("not_quiet")
    assert told.at - evening.scenes["not_quiet"].ended <= 120


def test_nobody_is_told_of_a_fault_of_the_stack_itself(evening: Evening) -> None:
    assert not evening.inbox.to("stack")
