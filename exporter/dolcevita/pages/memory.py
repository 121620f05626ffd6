"""What the page knows of the past, asked of Prometheus and kept for some seconds."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from datetime import time as clock
from zoneinfo import ZoneInfo

from dolcevita.history import Incident, NoAnswer, Prometheus, Series, incidents

log = logging.getLogger(__name__)

DAYS = 90
DAY = 86400.0
HOUR = 3600.0

FRESH = 10.0
"""Seconds for which an answer is good; then it is asked anew, while the old one is shown."""

FRESH_DAYS = 300.0
"""Seconds for days that are over and for what changes slowly: these are the large queries."""

PATIENCE = 0.05
"""Seconds that a visitor waits for the first answer after a start."""


@dataclass(frozen=True, slots=True)
class Past:
    """The past of all sites, by name. `at` is when it was asked, in unix seconds.

    `days` are the parts of DAYS days that a site answered, None where nothing is known, the last
    one today's. `minutes` are those it was watched in, alike. `availability` is by window (24h,
    7d, 30d, 90d). `answers` are the usual seconds in each of the last 24 hours. `verdicts` are of
    the sites that several places watch: 1 or 0.
    """

    at: float
    uplink_down: bool
    incidents: tuple[Incident, ...]
    days: Mapping[str, tuple[float | None, ...]]
    availability: Mapping[str, Mapping[str, float]]
    answers: Mapping[str, tuple[float | None, ...]]
    answer_now: Mapping[str, float]
    certificate: Mapping[str, float]
    domain: Mapping[str, float]
    verdicts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _Slow:
    """The part of the past that is asked for less often."""

    until: float
    midnight: float
    days: Mapping[str, tuple[float | None, ...]]
    answers: Mapping[str, tuple[float | None, ...]]
    certificate: Mapping[str, float]
    domain: Mapping[str, float]


@dataclass(slots=True)
class Memory:
    """The past in one time zone, whose midnights part the days.

    The days are those of now: around a change of the clock those before it are an hour off.
    """

    prometheus: Prometheus
    zone: ZoneInfo
    past: Past | None = None
    fault: str = ""
    _slow: _Slow | None = None
    _asking: asyncio.Task[None] | None = field(default=None)

    async def look(self) -> Past | None:
        """The newest past that is known; with `fault` set, why there is no newer one."""
        asking = self.refresh()
        if self.past is None:
            await asyncio.wait([asking], timeout=PATIENCE)
        return self.past

    def refresh(self) -> asyncio.Task[None]:
        """What asks anew, unless the last answer is fresh."""
        fresh = self.past and time.time() - self.past.at < FRESH
        if self._asking is None or (self._asking.done() and not fresh):
            self._asking = asyncio.create_task(self._ask())
        return self._asking

    async def close(self) -> None:
        if self._asking:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def _ask(self) -> None:
        try:
            self.past = await self._whole(time.time())
        except NoAnswer as error:
            if not self.fault:
                log.warning("The status page has no history: %s", error)
            self.fault = str(error)
        else:
            self.fault = ""

    async def _whole(self, now: float) -> Past:
        ask = self.prometheus.instant
        midnight = _midnight(now, self.zone)
        slow = self._slow
        if slow is None or now > slow.until or midnight != slow.midnight:
            slow = self._slow = await self._days_before(now, midnight)
        elapsed = max(60, int(now - midnight))
        today, uplink, availability, answer, verdicts, found = await asyncio.gather(
            ask(f"avg_over_time(site:probe_success:avg1m[{elapsed}s])"),
            ask("uplink:down == 1"),
            ask("site:availability:ratio"),
            ask("site:probe_duration_seconds:median5m"),
            ask(
                "(site:verdict or on (site) site:probe_success:min)"
                " and on (site) place:probe_success:min"
            ),
            incidents(self.prometheus, now - DAYS * DAY, now, now),
        )
        windows: dict[str, dict[str, float]] = defaultdict(dict)
        for series in availability:
            windows[series.labels["site"]][series.labels["window"]] = series.value
        of_today = _by_site(today)
        none = (None,) * (DAYS - 1)
        return Past(
            at=now,
            uplink_down=bool(uplink),
            incidents=tuple(found),
            days={
                site: (*slow.days.get(site, none), of_today.get(site))
                for site in {*slow.days, *of_today}
            },
            availability=windows,
            answers=slow.answers,
            answer_now=_by_site(answer),
            certificate=slow.certificate,
            domain=slow.domain,
            verdicts=_by_site(verdicts),
        )

    async def _days_before(self, now: float, midnight: float) -> _Slow:
        ask, over = self.prometheus.instant, self.prometheus.range
        first = midnight - (DAYS - 2) * DAY
        hour = now - now % HOUR
        days, answers, certificate, domain = await asyncio.gather(
            over(
                "sum_over_time(site:answered:minutes[1d]) / sum_over_time(site:known:minutes[1d])",
                first,
                midnight,
                DAY,
            ),
            over("site:probe_duration_seconds:median1h", hour - 23 * HOUR, hour, HOUR),
            ask("last_over_time(site:certificate:days[1h])"),
            ask("last_over_time(site:domain:days[1h])"),
        )
        return _Slow(
            until=now + FRESH_DAYS,
            midnight=midnight,
            days={s.labels["site"]: _filled(s, first, DAY, DAYS - 1) for s in days},
            answers={s.labels["site"]: _filled(s, hour - 23 * HOUR, HOUR, 24) for s in answers},
            certificate=_by_site(certificate),
            domain=_by_site(domain),
        )


def _midnight(now: float, zone: ZoneInfo) -> float:
    today = datetime.fromtimestamp(now, zone).date()
    return datetime.combine(today, clock(), zone).timestamp()


def _by_site(found: Iterable[Series]) -> dict[str, float]:
    return {series.labels["site"]: series.value for series in found}


def _filled(series: Series, first: float, step: float, count: int) -> tuple[float | None, ...]:
    """The values of a range, None where it has none."""
    values: list[float | None] = [None] * count
    for at, value in series.points:
        place = round((at - first) / step)
        if 0 <= place < count:
            values[place] = value
    return tuple(values)
