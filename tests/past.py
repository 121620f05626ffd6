"""A past that never was, written into Prometheus' storage before it starts."""

import json
import random
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dolcevita.stack.packages import Programs

DAY = 86400
HOUR = 3600


@dataclass(frozen=True)
class Outage:
    """How many days ago it began, at ten in the morning, UTC; how many seconds it took; why.

    `planned` is one in maintenance.
    """

    days_ago: int
    seconds: int
    reason: str
    planned: bool = False


@dataclass(frozen=True)
class Lived:
    """What a site has gone through. `labels` are those of its series, but for the metric."""

    labels: Mapping[str, str]
    outages: tuple[Outage, ...] = ()
    watched_days: int = 100
    answer: float = 0.2
    certificate_days: float = 60
    domain_days: float = 200
    fine_days: int = 75
    """How far back goes what is recorded every few minutes; a report reads two months of it."""

    def down(self, now: int) -> list[tuple[int, int, str]]:
        """(since, until, reason) of its outages, in unix seconds."""
        return [
            (start, start + outage.seconds, outage.reason)
            for outage in self.outages
            for start in [(now // DAY - outage.days_ago) * DAY + 10 * HOUR]
        ]


def write(folder: Path, lived: list[Lived], programs: Programs) -> int:
    """Make blocks of Prometheus' storage in `folder`, as its rules would have recorded.

    Gives the unix time that was now to it.
    """
    text = folder.with_suffix(".txt")
    now = int(time.time())
    with text.open("w") as file:
        for site in lived:
            file.writelines(f"{line}\n" for line in _lines(site, now))
        file.write("# EOF\n")
    subprocess.run(
        [programs.promtool, "tsdb", "create-blocks-from", "--max-block-duration=720h",
         "openmetrics", text, folder],
        check=True, capture_output=True,
    )  # fmt: skip
    return now


def _lines(site: Lived, now: int) -> Iterator[str]:
    name = {"site": site.labels["site"]}
    random.seed(site.labels["site"])
    begin = now - site.watched_days * DAY
    down = [(since, until) for since, until, _ in site.down(now)]
    for end in range(begin + HOUR, now, HOUR):
        lost = sum(max(0, min(end, until) - max(end - HOUR, since)) for since, until in down)
        yield _line("site:known:minutes", name, 60, end)
        yield _line("site:answered:minutes", name, 60 - lost / 60, end)
    fine = max(begin, now - site.fine_days * DAY)
    for end in range(fine, now, 60):
        lost = sum(max(0, min(end, until) - max(end - 60, since)) for since, until in down)
        yield _line("site:probe_success:avg1m", name, 1 - lost / 60, end)
        if end % 300 < 60:
            noise = random.uniform(0.8, 1.5)
            yield _line("site:probe_duration_seconds:median5m", name, site.answer * noise, end)
    for at in range(fine, now, 240):
        yield _line("site:info", site.labels, 1, at)
    for at in range(now - DAY - HOUR, now, 240):
        noise = random.uniform(0.8, 1.5)
        yield _line("site:probe_duration_seconds:median1h", name, site.answer * noise, at)
    for at in range(now - 600, now, 60):
        yield _line("site:certificate:days", name, site.certificate_days, at)
        yield _line("site:domain:days", name, site.domain_days, at)
    planned = {
        since
        for outage, (since, _, _) in zip(site.outages, site.down(now), strict=True)
        if outage.planned
    }
    for since, until, reason in site.down(now):
        identity = {**name, "since": str(since)}
        incident = {**site.labels, "since": str(since), "reason": reason}
        told = {**incident, "until": str(until), "digest": str(until + 70)}
        yield _line("incident:opened:timestamp_seconds", incident, since, since + 25)
        ended = {**identity, "outcome": "recovered"}
        yield _line("incident:ended:timestamp_seconds", ended, until, until + 70)
        if since in planned:
            yield _line("incident:in_maintenance:info", identity, 1, since + 60)
        yield _line("incident:told:duration_seconds", told, until - since, until + 70)
        yield _line("incident:held:duration_seconds", incident, 4000, until + 4000)


def _line(name: str, labels: Mapping[str, str], value: float, at: int) -> str:
    inside = ",".join(
        f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in labels.items()
    )
    return f"{name}{{{inside}}} {value} {at}"
