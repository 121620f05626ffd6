"""Random months: outages, gaps and restarts from a seed, and what must become of them.

    .venv/bin/python tests/months.py --days 30 --incidents 300

What people must be told is worked out here, result by result, without any PromQL. promtool then
lets the rules live through the same month, and both must come to the same incidents, the same
beginnings and ends, and the same moment of telling. A result comes every minute.
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parents[1] / "prometheus/rules/availability.yml"
DOWN_AFTER = 60
RECOVER_AFTER = 120
LOOKBACK = 5
"""Minutes for which Prometheus goes on with the last result it has."""

PLACES = ("paris", "rome", "oslo")

QUIET_TAIL = 60
"""Minutes at the end in which all is well and everybody can be reached, so that all gets told."""

LONGEST = 34
"""Days for which the good news of a month stays, all of it."""

NOTHING, STALE = "_", "stale"


@dataclass(frozen=True)
class Incident:
    """What must become of one outage. Times are seconds from the start; 0 is not (yet)."""

    site: str
    owner: str
    since: int
    until: int = 0
    told: int = 0
    removed: int = 0


@dataclass
class Month:
    """Minute by minute: the results of each site, and whether each owner can be reached.

    A result is 1 or 0, NOTHING for a Prometheus that is away, STALE for an exporter that is.
    Where `places` watch, results are what most of them see.
    """

    minutes: int
    owner_of: dict[str, str]
    results: dict[str, list[Any]]
    reachable: dict[str, list[Any]]
    exporter: list[Any]
    removed_at: dict[str, int] = field(default_factory=dict)
    places: tuple[str, ...] = ()

    def incidents(self) -> list[Incident]:
        """What the rules must find, in the words of the README rather than in PromQL."""
        return [incident for site in self.results for incident in self._of(site)]

    def _of(self, site: str) -> Iterator[Incident]:
        owner = self.owner_of[site]
        results = self.results[site]
        failing: int | None = None
        answering: int | None = None
        open_since: int | None = None
        untold: list[tuple[int, int]] = []
        for minute in range(self.minutes):
            if minute == self.removed_at.get(site):
                if open_since is not None:
                    yield Incident(site, owner, open_since, removed=minute * 60)
                for since, until in untold:
                    yield Incident(site, owner, since, until, self._reached(owner, minute))
                return
            seen = _seen(results, minute)
            if seen is None:
                answering = None
                continue
            probed, result = seen
            if result == 0:
                answering = None
                failing = probed if failing is None else failing
                if open_since is None and probed - failing >= DOWN_AFTER:
                    open_since = failing
                continue
            failing = None
            answering = probed if answering is None else answering
            if open_since is not None and probed - answering >= RECOVER_AFTER:
                untold.append((open_since, answering))
                open_since = None
            reachable = _seen(self.reachable[owner], minute)
            if reachable and reachable[1] == 1:
                for since, until in untold:
                    yield Incident(site, owner, since, until, told=minute * 60)
                untold.clear()
        assert open_since is None and not untold, "the tail is too short"

    def _reached(self, owner: str, minute: int) -> int:
        """Seconds: when the owner can be reached, from `minute` on."""
        return 60 * next(
            at
            for at in range(minute, self.minutes)
            if (seen := _seen(self.reachable[owner], at)) and seen[1] == 1
        )


def _seen(values: list[Any], minute: int) -> tuple[int, Any] | None:
    """The newest value that Prometheus goes by, and when (seconds) it came; None if none."""
    for at in range(minute, max(-1, minute - LOOKBACK), -1):
        if values[at] == STALE:
            return None
        if values[at] != NOTHING:
            return at * 60, values[at]
    return None


def random_month(seed: int, days: int, incidents: int, sites: int, owners: int) -> Month:
    """A month that is the same for the same numbers."""
    dice = random.Random(seed)
    minutes = days * 1440 + QUIET_TAIL
    names = [f"site{n}" for n in range(sites)]
    people = [f"owner{n}" for n in range(owners)]
    month = Month(
        minutes,
        owner_of={name: people[n % owners] for n, name in enumerate(names)},
        results={name: [1] * minutes for name in names},
        reachable={person: _reachable(dice, minutes) for person in people},
        exporter=[1] * minutes,
    )
    if days > 25:
        # Three weeks away.
        month.reachable[people[0]][2 * 1440 : 23 * 1440] = [0] * (21 * 1440)
    for _ in range(incidents):
        _fail(dice, month, dice.choice(names), dice.choice((2, 3, 5, 15, 60, 400)))
    # What must not become an incident: single failed probes.
    for _ in range(incidents):
        _fail(dice, month, dice.choice(names), 1)
    for name in names:
        for _ in range(days):
            _miss(dice, [month.results[name]], NOTHING)
    everything = [*month.results.values(), *month.reachable.values()]
    for _ in range(days * 2):
        _miss(dice, [*everything, month.exporter], NOTHING)
        begin, end = _miss(dice, everything, STALE)
        month.exporter[begin:end] = [0] * (end - begin)
    for name in dice.sample(names, sites // 10):
        month.removed_at[name] = at = dice.randrange(minutes // 2, minutes - 2 * QUIET_TAIL)
        # While it is down, and while the exporter answers.
        month.results[name][at - 10 : at] = [0] * 10
        month.exporter[at - 10 : at + 10] = [1] * 20
        month.results[name][at:] = [STALE] * (minutes - at)
    return month


def _reachable(dice: random.Random, minutes: int) -> list[int]:
    """Nights and some whole days of peace."""
    from_hour, to_hour = dice.randrange(17, 23), dice.randrange(7, 11)
    away = {dice.randrange(minutes // 1440 + 1) for _ in range(minutes // 1440 // 4)}
    return [
        int(
            minute >= minutes - QUIET_TAIL
            or (to_hour <= minute // 60 % 24 < from_hour and minute // 1440 not in away)
        )
        for minute in range(minutes)
    ]


def _fail(dice: random.Random, month: Month, site: str, length: int) -> None:
    begin = dice.randrange(1, month.minutes - QUIET_TAIL - length)
    month.results[site][begin : begin + length] = [0] * length


def _miss(dice: random.Random, series: list[list[Any]], how: str) -> tuple[int, int]:
    """A gap. Not of about LOOKBACK: Prometheus 2 and 3 disagree on its last moment."""
    length = dice.choice((1, 2, 3, 8, 20, 45))
    begin = dice.randrange(1, len(series[0]) - QUIET_TAIL - length)
    for values in series:
        values[begin : begin + length] = [how] * length
    return begin, begin + length


def _views(month: Month, site: str) -> Iterator[tuple[str, list[Any]]]:
    """The results of each place, by labels. At most one at a time says the contrary, or nothing."""
    results = month.results[site]
    if not month.places:
        yield f'{{site="{site}"}}', results
        return
    views = [list(results) for _ in month.places]
    dice = random.Random(site)
    at = 0
    while (at := at + dice.randrange(60)) < month.minutes:
        contrary = {0: 1, 1: 0} if dice.random() < 0.5 else {0: STALE, 1: STALE}
        end = min(at + dice.randrange(1, 30), month.minutes)
        dice.choice(views)[at:end] = [contrary.get(result, result) for result in results[at:end]]
        at = end
    for place, view in zip(month.places, views, strict=True):
        yield f'{{site="{site}", place="{place}"}}', view


def as_test(month: Month, found: list[Incident]) -> dict[str, Any]:
    """The month and all that must come of it, as a file for promtool."""
    series = [_series('up{job="exporter"}', month.exporter)]
    series += [
        _series(f'owner_reachable{{owner="{owner}"}}', values)
        for owner, values in month.reachable.items()
    ]
    for site in month.results:
        series += [_series(f"probe_success{labels}", seen) for labels, seen in _views(month, site)]
        for name, value in (
            (f'site_info{{site="{site}", owner="{month.owner_of[site]}", provider="pro"}}', 1),
            (f'site_down_after_seconds{{site="{site}"}}', DOWN_AFTER),
            (f'site_recover_after_seconds{{site="{site}"}}', RECOVER_AFTER),
        ):
            there = [{1: value, 0: STALE}.get(up, NOTHING) for up in month.exporter]
            if site in month.removed_at:
                at = month.removed_at[site]
                there[at:] = [STALE] * (month.minutes - at)
            series.append(_series(name, there))
    told = [incident for incident in found if incident.told]
    ended = [incident for incident in found if incident.until]
    removed = [incident for incident in found if incident.removed]
    # `+ 0` takes the name away.
    checks = [
        _check(
            "last_over_time(incident:opened:timestamp_seconds[90d]) + 0",
            [(_labels(i, owner=i.owner, provider="pro", reason="unknown"), i.since) for i in found],
        ),
        _check(
            "last_over_time(incident:ended:timestamp_seconds[90d]) + 0",
            [(_labels(i, outcome="recovered"), i.until) for i in ended]
            + [(_labels(i, outcome="removed"), i.removed) for i in removed],
        ),
        # Exactly these, once each, at that moment: nobody is told in their quiet time.
        _check(
            "count_over_time(incident:told:duration_seconds[90d])",
            [
                (
                    _labels(
                        i,
                        owner=i.owner,
                        provider="pro",
                        reason="unknown",
                        until=str(i.until),
                        digest=str(i.told),
                    ),
                    1,
                )
                for i in told
            ],
        ),
        _check(
            'count by (owner) (count_over_time(ALERTS{alertname="SiteDown"}[90d]))',
            _by_owner(month, found),
        ),
    ]
    end = f"{month.minutes - 1}m"
    return {
        "rule_files": ["rules.yml"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": series,
                "promql_expr_test": [
                    *({"eval_time": end, **check} for check in checks),
                    *_good_news(month, told),
                ],
            }
        ],
    }


def _good_news(month: Month, told: list[Incident]) -> Iterator[dict[str, Any]]:
    """Day after day, the good news of all that was told so far, which stays for the month."""
    changing = {minute for i in told for minute in range(i.told // 60 - 2, i.told // 60 + 3)}
    for day in range(1440, month.minutes + 1, 1440):
        minute = next(m for m in range(day - 1, 0, -1) if m not in changing)
        so_far = [incident for incident in told if incident.told < minute * 60]
        expression = 'count by (owner) (ALERTS{alertname="IncidentResolved"})'
        yield {"eval_time": f"{minute}m", **_check(expression, _by_owner(month, so_far))}


def _by_owner(month: Month, incidents: list[Incident]) -> list[tuple[str, int]]:
    return [
        (f'{{owner="{owner}"}}', count)
        for owner in month.reachable
        if (count := sum(incident.owner == owner for incident in incidents))
    ]


def _labels(incident: Incident, **more: str) -> str:
    pairs = {"site": incident.site, "since": str(incident.since), **more}
    return "{" + ", ".join(f'{name}="{value}"' for name, value in pairs.items()) + "}"


def _check(expression: str, samples: list[tuple[str, int]]) -> dict[str, Any]:
    expected = [{"labels": labels, "value": value} for labels, value in samples]
    return {"expr": expression, "exp_samples": expected}


def _series(name: str, values: list[Any]) -> dict[str, str]:
    """In promtool's notation, where 1x3 is four times 1 and _x3 three times nothing."""
    runs: list[tuple[Any, int]] = []
    for value in values:
        if runs and runs[-1][0] == value:
            runs[-1] = (value, runs[-1][1] + 1)
        else:
            runs.append((value, 1))
    words = []
    for value, count in runs:
        if value == STALE:
            words.append(STALE)
            count -= 1
            value = NOTHING
        if count:
            words.append(f"{value}x{count if value == NOTHING else count - 1}")
    return {"series": name, "values": " ".join(words)}


def live_through(month: Month, promtool: Path, expected: list[Incident] | None = None) -> str:
    """Let the rules live through it: what promtool objects, '' if nothing.

    `expected` are other incidents than those of the month itself.
    """
    found = month.incidents() if expected is None else expected
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "rules.yml").write_text(yaml.safe_dump(_rules_without_texts()))
        file = Path(folder) / "month.test.yml"
        file.write_text(yaml.safe_dump(as_test(month, found), width=10**6))
        run = subprocess.run(
            [promtool, "test", "rules", file], capture_output=True, text=True, check=False
        )
    if run.returncode < 0:
        raise RuntimeError(f"promtool was ended by signal {-run.returncode}")
    return "" if run.returncode == 0 else _difference(run.stdout + run.stderr)


def _rules_without_texts() -> Any:
    """Most of the time would go into texts that nobody reads here."""
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            rule.pop("annotations", None)
    return rules


def _difference(text: str) -> str:
    """What promtool expected and did not get, or got and did not expect."""
    lines = []
    for wanted, got in re.findall(r"exp: (.*)\n\s+got: (.*)", text):
        before, after = (
            set(re.findall(r"\{[^}]*\} \S+?(?=,|$)", part.replace("nil", "")))
            for part in (wanted, got)
        )
        lines += [f"missing: {sample}" for sample in sorted(before - after)]
        lines += [f"not expected: {sample}" for sample in sorted(after - before)]
    return "\n".join(lines) or text


def figures(month: Month) -> str:
    """The month in numbers, an owner a line."""
    found = month.incidents()
    lines = []
    for owner in month.reachable:
        own = [i for i in found if i.owner == owner]
        held = [i.told - i.until for i in own if i.told]
        lines.append(
            f"  {owner}: {len(own)} incidents, {len(held)} told once, "
            f"{sum(bool(i.removed) for i in own)} closed silently with their site, "
            f"longest held back {max(held, default=0) / 3600:.1f} h"
        )
    return "\n".join(lines)


def main() -> int:
    from binaries import version_ends

    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    for name, default in (
        ("seed", 1),
        ("days", 30),
        ("incidents", 300),
        ("sites", 40),
        ("owners", 6),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = vars(parser.parse_args())
    if options["days"] > LONGEST:
        parser.error(f"--days: at most {LONGEST}: good news stays for no longer")
    month = random_month(**options)
    print(f"{len(month.incidents())} incidents in {month.minutes / 1440:.1f} days")
    print(figures(month))
    failed = 0
    for end, programs in version_ends().items():
        begin = time.monotonic()
        objection = live_through(month, programs.promtool)
        verdict = objection or "the same incidents, each told once, none lost"
        print(f"{end} Prometheus, {time.monotonic() - begin:.0f} s: {verdict}")
        failed += bool(objection)
    return failed


if __name__ == "__main__":
    sys.exit(main())
