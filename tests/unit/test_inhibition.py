"""What silences what, for every pair of alerts, in real Alertmanagers.

The table below is the design in plain words: what is not in it silences nothing.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests
import yaml

from alertmanagers import Running, alertmanager, programs, project, receiving
from catalogue import SITE, SITES, SITES_AND_HOSTS, STACK, STACK_ALERTS, Kind
from dolcevita.alerting.compile import compile, write
from dolcevita.config import Config
from dolcevita.config.people import PeopleReader
from waiting import until

PAIR = ("pair",)
TOLD_THOUGH_DOWN = ("SiteDown", "SiteDownEscalated", "ProviderOverdue", "IncidentResolved")


def silences(source: Kind, target: Kind, same: str) -> bool:
    """Whether a firing `source` keeps `target` from being told.

    `same` is what they have in common: "site", "host", "machine" (see PLACES), or "".
    """
    match source.name:
        case "PrometheusSilent" | "AlertmanagerStandby":
            return target.name != source.name
        case "UplinkDown" | "ExporterDown":
            about_sites = target in SITES_AND_HOSTS and target.name != "IncidentResolved"
            return about_sites or target.name == "PlaceCutOff"
        case "DiskFull":
            return target.name == "DiskFilling"
        case "ServerDown":
            return same in ("site", "host") and target.name in ("SiteDown", "SiteDownEscalated")
        case "ServerDownEscalated":
            return same in ("site", "host") and target.name == "SiteDownEscalated"
    if source not in SITES or target not in SITES or same != "site":
        return False
    if source.name == "SiteRemoved" and target.name in (
        "SiteDown",
        "SiteDownEscalated",
        "ProviderOverdue",
    ):
        return True
    if source.name == "SiteDown" and target.name not in TOLD_THOUGH_DOWN:
        return True
    if source.name == target.name and source.severity != "info" and target.severity == "info":
        return True
    return (source.severity, target.severity) == ("critical", "warning")


@dataclass
class Firing:
    """Alerts that fire in one Alertmanager, and which of them are silenced."""

    running: Running
    numbers: Iterator[int] = field(default_factory=itertools.count)
    posted: list[dict[str, Any]] = field(default_factory=list)

    def alert(self, kind: Kind, owner: str = "marie", **where: str) -> str:
        """Have one fire with labels as the rules give it; the id tells it from its equals."""
        number = str(next(self.numbers))
        labels = {"alertname": kind.name, "severity": kind.severity, "id": number}
        labels |= {name: value for name, value in where.items() if name in kind.about}
        if kind.about != STACK:
            provider = "second" if kind.name.endswith("Escalated") else "first"
            labels |= {"owner": owner, "provider": provider}
        now = datetime.now(UTC)
        ends = now + timedelta(minutes=5)
        self.posted.append(
            {"labels": labels, "startsAt": now.isoformat(), "endsAt": ends.isoformat()}
        )
        return number

    def silenced(self) -> set[str]:
        """The ids of the silenced ones, once Alertmanager has seen all that was made."""
        # Alerts are looked at in the order in which they were posted: this pair comes last.
        number = str(next(self.numbers))
        self.alert(Kind("Last", "none", PAIR), pair=number)
        last = self.alert(Kind("Silenced", "none", PAIR), pair=number)
        self.running.post(*self.posted)
        until(lambda: last in self._silenced(), "the last pair")
        # Asked again: the answer that had the last pair may have judged others before it.
        return self._silenced()

    def _silenced(self) -> set[str]:
        answer = requests.get(f"{self.running.url}/api/v2/alerts", timeout=10)
        return {alert["labels"]["id"] for alert in answer.json() if alert["status"]["inhibitedBy"]}

    def end(self) -> None:
        """Let all of them be over."""
        over = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        self.running.post(*({**alert, "startsAt": over, "endsAt": over} for alert in self.posted))
        self.posted.clear()


@pytest.fixture(scope="module", params=["oldest", "newest"])
def firing(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Firing]:
    """An Alertmanager on the compiled file, with a pair of alerts of the tests' own."""
    folder = tmp_path_factory.mktemp("inhibition")
    found = programs(request.param)
    with receiving() as receiver:
        home = project(folder / "project", receiver)
        owners, providers = PeopleReader(home / "people.yml", datetime.now(UTC).date()).read()
        base = home / "alertmanager/alertmanager.yml"
        text = compile(
            Config((), owners, providers),
            base,
            base.parent / "templates",
            "http://127.0.0.1:9",
            datetime.now(UTC),
        )
        data = yaml.safe_load(text)
        pair = {
            "source_matchers": ['alertname="Last"'],
            "target_matchers": ['alertname="Silenced"'],
            "equal": ["pair"],
        }
        data["inhibit_rules"].append(pair)
        config = folder / "compiled.yml"
        write(config, yaml.safe_dump(data))
        with alertmanager(found, config, folder) as running:
            yield Firing(running)


Expected = dict[str, tuple[bool, str]]
"""By id of the target: whether it is silenced, and the pair in words."""

PLACES: dict[str, dict[str, str]] = {
    "site": {},
    "host": {"site": "neighbour"},
    "machine": {"site": "neighbour", "owner": "pierre"},
    "": {"site": "far", "host": "far away"},
}
"""What a target has in common with its source, and what it has of its own. A machine that
several owners share is a host of each."""


def pairs(firing: Firing, source: Kind, target: Kind) -> Expected:
    """Have source and target fire once for each of their places, apart from all others."""
    expected: Expected = {}
    for same, own in PLACES.items():
        n = next(firing.numbers)
        here = {"site": f"site{n}", "host": f"host{n}"}
        firing.alert(source, **here)
        there = {key: value if key == "owner" else f"{value}{n}" for key, value in own.items()}
        number = firing.alert(target, **here | there)
        words = f"{source} -> {target} {f'of the same {same}' if same else 'elsewhere'}"
        expected[number] = (silences(source, target, same), words)
    return expected


def compare(firing: Firing, expected: Expected) -> None:
    silenced = firing.silenced()
    firing.end()
    wrong = [
        f"{words}: {'told' if wanted else 'silenced'}"
        for number, (wanted, words) in expected.items()
        if (number in silenced) != wanted
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("source", SITES_AND_HOSTS, ids=str)
def test_alert_of_a_site_or_a_host_silences_what_it_should_and_nothing_else(
    firing: Firing, source: Kind
) -> None:
    expected: Expected = {}
    for target in SITES_AND_HOSTS:
        expected |= pairs(firing, source, target)
    compare(firing, expected)


@pytest.mark.parametrize("target", STACK_ALERTS, ids=str)
def test_no_alert_of_a_site_or_a_host_silences_the_stack(firing: Firing, target: Kind) -> None:
    for source in SITES_AND_HOSTS:
        firing.alert(source, site="shop", host="srv1")
    compare(firing, {firing.alert(target): (False, f"sites -> {target}")})


@pytest.mark.parametrize("source", STACK_ALERTS, ids=str)
def test_alert_of_the_stack_silences_what_it_should_and_nothing_else(
    firing: Firing, source: Kind
) -> None:
    firing.alert(source)
    expected: Expected = {}
    for n, target in enumerate(SITES_AND_HOSTS):
        number = firing.alert(target, site=f"site{n}", host=f"host{n}")
        expected[number] = (silences(source, target, ""), f"{source} -> {target}")
    compare(firing, expected)
    for target in STACK_ALERTS:
        firing.alert(source)
        number = firing.alert(target)
        compare(firing, {number: (silences(source, target, ""), f"{source} -> {target}")})


def test_a_place_that_is_cut_off_silences_what_was_seen_from_there_and_nothing_else(
    firing: Firing,
) -> None:
    firing.alert(Kind("PlaceCutOff", "warning", ("place",)), place="rome")
    slow = Kind("SiteSlow", "warning", ("site", "place"))
    words = "PlaceCutOff -> SiteSlow from"
    compare(
        firing,
        {
            firing.alert(slow, site="shop", place="rome"): (True, f"{words} there"),
            firing.alert(slow, site="blog", place="paris"): (False, f"{words} elsewhere"),
            firing.alert(slow, site="mail"): (False, f"{words} the only place"),
        },
    )


def test_drill_silences_nothing_and_is_told_though_the_site_is_down(firing: Firing) -> None:
    expected: Expected = {}
    for n, target in enumerate(SITES):
        here = {"site": f"drilled{n}", "drill": "true"}
        firing.alert(Kind("SiteDown", "critical", (*SITE, "drill")), **here)
        expected[firing.alert(target, **here)] = (False, f"drill -> {target}")
    firing.alert(Kind("SiteDown", "critical", SITE), site="down")
    drill = firing.alert(Kind("SiteDown", "critical", (*SITE, "drill")), site="down", drill="true")
    expected[drill] = (False, "SiteDown -> drill")
    compare(firing, expected)
