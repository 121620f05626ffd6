"""Which sites are probed together in one scrape."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from zlib import crc32

from dolcevita.config import HERE, Site, format_duration, parse_duration

MOST_SITES = 32
"""Sites that a batch has on average at most: few enough for a quick answer, many enough to be
cheap."""


@dataclass(frozen=True, slots=True)
class Part:
    """What one Prometheus of several watches: the sites whose host hashes to `number` of `of`.

    The sites of a host stay together, so that its fall is one page. Sentinels are in every part:
    each Prometheus has to know whether its own way out is cut.
    """

    number: int = 0
    of: int = 1

    def has(self, site: Site) -> bool:
        """Whether the site is in it."""
        return site.sentinel or crc32((site.host or site.name).encode()) % self.of == self.number


ALL = Part()


@dataclass(frozen=True, slots=True)
class Batch:
    """The sites of one interval and timeout (seconds) whose name hashes to `shard` of `count`.

    A batch holds no list: its name says which of the sites of the moment are in it, so a name
    that Prometheus learned before a reload goes on working after it. Sites of one timeout are
    together, so that none waits for the result of a more patient one. Of a part, only its sites.
    """

    every: float
    timeout: float
    shard: int
    count: int
    part: Part = ALL

    def __str__(self) -> str:
        timing = f"{format_duration(self.every)}.{format_duration(self.timeout)}"
        part = "" if self.part == ALL else f".{self.part.number}.{self.part.of}"
        return f"{timing}.{self.shard}.{self.count}{part}"


def parse(name: str) -> Batch | None:
    """The batch of a name such as '15s.10s.3.8' or '15s.10s.3.8.0.2', None if it is not one."""
    match = re.fullmatch(
        r"([0-9a-z]+)\.([0-9a-z]+)\.(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6})\.(\d{1,6}))?", name
    )
    if not match:
        return None
    every, timeout = match.group(1, 2)
    shard, count, number, of = (int(text) for text in match.groups(default="-1")[2:])
    part = ALL if of == -1 else Part(number, of)
    if shard >= count or part.number >= part.of:
        return None
    try:
        return Batch(parse_duration(every), parse_duration(timeout), shard, count, part)
    except ValueError:
        return None


def batches(sites: Iterable[Site], part: Part = ALL) -> list[Batch]:
    """The batches that cover the sites of a part, none of them empty.

    The count is a power of two: when it doubles, each batch splits and no site changes places
    otherwise.
    """
    groups: dict[tuple[float, float], list[Site]] = {}
    for site in filter(part.has, sites):
        groups.setdefault((site.every, site.timeout), []).append(site)
    found = []
    for (every, timeout), group in groups.items():
        count = 1
        while count * MOST_SITES < len(group):
            count *= 2
        shards = sorted({shard_of(site, count) for site in group})
        found += [Batch(every, timeout, shard, count, part) for shard in shards]
    return found


def shard_of(site: Site, count: int) -> int:
    """The shard of `count` that the site is in."""
    return crc32(site.name.encode()) % count


SPARE = 0.5
"""Seconds of scrape timeout beyond the sites' own, for the answer's way."""


def discovery(
    sites: Sequence[Site], address: str, places: Mapping[str, str] = {}, part: Part = ALL
) -> list[Mapping[str, object]]:
    """The batches as targets of Prometheus' HTTP service discovery: of the exporter at `address`
    (host:port), or of those of all places, each with the label `place`.

    Each target has an `instance` of its own, so that their `up` series stay apart; the series
    of sites bring their own, which `honor_labels` keeps. Prometheus refuses a scrape timeout
    longer than the interval.
    """
    if not places:
        return [_target(batch, address, {}) for batch in batches(sites, part)]
    targets = []
    for place, url in places.items():
        scheme, _, elsewhere = url.rpartition("://")
        labels = {"place": place, "__param_place": place}
        if url != HERE:
            labels["__scheme__"] = scheme
        seen = [site for site in sites if site.watched_from(place)]
        targets += [
            _target(batch, address if url == HERE else elsewhere, labels)
            for batch in batches(seen, part)
        ]
    return targets


def _target(batch: Batch, address: str, labels: Mapping[str, str]) -> Mapping[str, object]:
    return {
        "targets": [address],
        "labels": {
            "__metrics_path__": "/probe",
            "__param_batch": str(batch),
            "__scrape_interval__": format_duration(batch.every),
            "__scrape_timeout__": format_duration(min(batch.timeout + SPARE, batch.every)),
            "instance": f"{address}/{batch}",
            **labels,
        },
    }
