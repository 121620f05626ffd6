"""Our reading of time intervals is Alertmanager's: the real one judges many people at once."""

import random
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

import people
from alertmanagers import ROOT, Receiver, Running, alert, alertmanager, programs, receiving
from dolcevita.alerting.calendar import reachable
from dolcevita.alerting.compile import compile, write
from dolcevita.alerting.intervals import MONTHS, WEEKDAYS, Interval, Muting
from dolcevita.alerting.routing import Compiled
from dolcevita.config import Config, ConfigError
from dolcevita.config.people import PeopleReader
from waiting import until

OWNERS = 240
SEEDS = [1, *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(2, 8))]


def readable(path: Path, r: random.Random, now: datetime, url: str) -> Config:
    """A Config of OWNERS random owners, written to `path` and read back."""
    today = now.date()
    found: list[dict[str, Any]] = []
    while len(found) < OWNERS:
        owner = {
            "name": f"owner{len(found)}",
            "timezone": r.choice(people.ZONES),
            "notify": [{"webhook": f"{url}/owner{len(found)}"}],
            "quiet": people.quiet(r, today),
        }
        provider = {"name": "p", "notify": [{"webhook": f"{url}/p"}]}
        path.write_text(yaml.safe_dump({"providers": [provider], "owners": [owner]}))
        try:
            PeopleReader(path, today).read()
        except ConfigError:
            continue  # Quiet the whole week, as chance would have it.
        found.append(owner)
    providers = [
        {
            "name": f"provider{n}",
            "timezone": r.choice(people.ZONES),
            "working_hours": people.working_hours(r, today),
            "notify": [{"webhook": f"{url}/provider{n}"}],
        }
        for n in range(OWNERS // 4)
    ]
    path.write_text(yaml.safe_dump({"providers": providers, "owners": found}))
    owners, read = PeopleReader(path, today).read()
    return Config((), owners, read)


def general(r: random.Random, now: datetime) -> dict[str, Any]:
    """An entry as a user of Alertmanager may write it, often about now."""
    entry: dict[str, Any] = {"location": r.choice(people.ZONES)}

    def ranges(low: int, high: int, near: int) -> list[tuple[int, int]]:
        found = []
        for _ in range(r.randint(1, 3)):
            first = r.choice((near, r.randint(low, high)))
            found.append((first, r.randint(first, high)))
        return found

    if r.random() < 0.6:
        entry["times"] = [
            {"start_time": f"{a // 60:02}:{a % 60:02}", "end_time": f"{b // 60:02}:{b % 60:02}"}
            for a, b in ranges(0, 1439, max(0, now.hour * 60 + now.minute - 600))
            if a < b
        ] or [{"start_time": "00:00", "end_time": "24:00"}]
    if r.random() < 0.4:
        entry["weekdays"] = [
            f"{WEEKDAYS[a]}:{WEEKDAYS[b]}" for a, b in ranges(0, 6, now.isoweekday() % 7)
        ]
    if r.random() < 0.4:
        entry["days_of_month"] = [
            r.choice((f"{a}:{b}", str(a), f"{a - 32}:-1")) for a, b in ranges(1, 28, now.day)
        ]
    if r.random() < 0.3:
        entry["months"] = [
            r.choice((f"{a}:{b}", f"{MONTHS[a - 1]}:{MONTHS[b - 1]}"))
            for a, b in ranges(1, 12, now.month)
        ]
    if r.random() < 0.3:
        entry["years"] = [f"{a}:{b}" for a, b in ranges(2020, 2035, now.year)]
    return entry


def far_from_the_minutes_end() -> datetime:
    """Now, early enough in a minute for everything to be told within it."""
    now = datetime.now(UTC)
    if now.second > 35:
        time.sleep(60.5 - now.second)
    return datetime.now(UTC)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("end", ["oldest", "newest"])
def test_alertmanager_mutes_whom_we_say(end: str, seed: int, tmp_path: Path) -> None:
    r = random.Random(seed)
    found = programs(end)
    with receiving() as receiver:
        base = tmp_path / "alertmanager.yml"
        data = yaml.safe_load((ROOT / "alertmanager/alertmanager.yml").read_text())
        now = datetime.now(UTC)
        # A user's own intervals, muting and active ones, on routes of their own.
        data["time_intervals"] = [
            {
                "name": f"own{n}",
                "time_intervals": [general(r, now) for _ in range(r.randint(1, 2))],
            }
            for n in range(OWNERS)
        ]
        data["route"]["routes"] = [
            {
                "receiver": f"own{n}",
                "matchers": [f'alertname="Own{n}"'],
                "group_wait": "1s",
                r.choice(("mute_time_intervals", "active_time_intervals")): [f"own{n}"],
            }
            for n in range(OWNERS)
        ] + data["route"]["routes"]
        data["receivers"] += [
            {"name": f"own{n}", "webhook_configs": [{"url": receiver.url(f"own{n}")}]}
            for n in range(OWNERS)
        ]
        text = yaml.safe_dump(data, sort_keys=False)
        base.write_text(text.replace("group_wait: 30s", "group_wait: 1s"))
        config = readable(tmp_path / "people.yml", r, now, receiver.url("").rstrip("/"))
        compiled_text = compile(config, base, base.parent, "http://127.0.0.1:9", now)
        path = tmp_path / "compiled.yml"
        write(path, compiled_text)
        with alertmanager(found, path, tmp_path) as running:
            _compare(running, receiver, config, Compiled(compiled_text, found.amtool), end)


def _compare(
    running: Running, receiver: Receiver, config: Config, compiled: Compiled, end: str
) -> None:
    now = far_from_the_minutes_end()
    names = [f"own{n}" for n in range(OWNERS)]
    expected = {
        **{owner.name: reachable(owner, now) for owner in config.owners},
        **{
            provider.name: not compiled.mutings.get(f"off/{provider.name}", Muting(())).contains(
                now
            )
            for provider in config.providers
        },
    }
    by_receiver = {route["receiver"]: route for route in compiled.data["route"]["routes"]}
    for name in names:
        inside = compiled.mutings[name].contains(now)
        expected[name] = inside is ("active_time_intervals" in by_receiver[name])
    alerts = [alert("IncidentResolved", owner=owner.name, digest="1") for owner in config.owners]
    for provider in config.providers:
        warning = alert("SiteSlow", provider=provider.name)
        warning["labels"]["severity"] = "warning"
        alerts.append(warning)
    running.post(*alerts, *(alert(name.capitalize()) for name in names))
    wanted = {name for name, free in expected.items() if free}

    def told() -> set[str]:
        return {path.strip("/") for path, _ in list(receiver.posts)}

    until(lambda: told() >= wanted, lambda: f"these are told: {sorted(wanted - told())}", 25)
    time.sleep(2)
    assert datetime.now(UTC).replace(second=0, microsecond=0) == now.replace(
        second=0, microsecond=0
    ), "the minute ended: this says nothing"
    assert told() == wanted
    # Chance must not have made it easy.
    assert 0.1 < len(wanted) / len(expected) < 0.9
    if end == "newest":
        groups = requests.get(f"{running.url}/api/v2/alerts/groups", timeout=10).json()
        muted = {
            group["receiver"]["name"].rpartition("/")[2]
            for group in groups
            for one in group["alerts"]
            if one["status"]["mutedBy"]
        }
        assert muted - {"nobody"} == set(expected) - wanted


@pytest.mark.parametrize("seed", range(40))
def test_an_interval_is_left_and_entered_at_the_minutes_that_a_plain_walk_finds(seed: int) -> None:
    r = random.Random(seed)
    start = datetime(2027, r.randint(1, 12), r.randint(1, 28), r.randrange(24), 17, tzinfo=UTC)
    intervals = [Interval.from_yaml(general(r, start)) for _ in range(r.randint(1, 3))]
    muting = Muting(intervals)
    walk = [start + timedelta(minutes=n) for n in range(3 * 24 * 60)]
    inside = {minute: any(i.contains(minute) for i in intervals) for minute in walk}
    left = next((minute for minute in walk if not inside[minute]), None)
    entered = next((minute for minute in walk if inside[minute]), None)
    assert left is None or muting.left(start) == left
    assert entered is None or muting.entered(start) == entered
    assert muting.contains(start) is inside[start]


@pytest.mark.parametrize("seed", range(40))
def test_an_entry_that_is_written_and_read_again_is_the_same(seed: int) -> None:
    entry = Interval.from_yaml(general(random.Random(seed), datetime(2027, 7, 14, tzinfo=UTC)))
    assert Interval.from_yaml(entry.as_yaml()) == entry
