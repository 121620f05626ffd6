"""A month of an owner's sites in numbers, asked of Prometheus."""

import asyncio
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import aiohttp

from dolcevita.config import Config, Owner, UserError
from dolcevita.history import Incident, Prometheus, Series, incidents, quoted

HELD = 300.0
"""Seconds from an end to its message; less is no wait (prometheus/rules/dashboards.yml)."""


@dataclass(frozen=True, slots=True)
class SiteMonth:
    """One site in the month. None is what is not known.

    `availability` and `objective` are parts of 1, `known` the seconds that it was watched,
    `down` those of its incidents inside of the month. `answer` is the usual answer time in
    seconds, `slow` what 5 of 100 times of five minutes are above; `..._before` are those of the
    month before. `certificate` and `domain` are days left from now.
    """

    name: str
    availability: float | None
    known: float
    objective: float | None
    incidents: int
    down: float
    answer: float | None
    slow: float | None
    answer_before: float | None
    slow_before: float | None
    certificate: float | None
    domain: float | None

    @property
    def met(self) -> bool | None:
        """Whether the objective is met."""
        if self.objective is None or self.availability is None:
            return None
        return self.availability >= self.objective


@dataclass(frozen=True, slots=True)
class Month:
    """A whole report. Times are unix seconds; `until` is the end of the month, or now before it.

    `spared` are the incidents whose end was kept until the owner could be reached.
    """

    owner: Owner
    first: date
    start: float
    until: float
    end: float
    made: float
    sites: Sequence[SiteMonth]
    incidents: Sequence[Incident]
    spared: int

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.owner.timezone)

    @property
    def over(self) -> bool:
        return self.until == self.end

    @property
    def down(self) -> float:
        """Seconds of all incidents inside of the month."""
        return sum(site.down for site in self.sites)

    @property
    def availability(self) -> float | None:
        """The part of the time that the sites answered, each by the time that it was watched."""
        watched = [site for site in self.sites if site.availability is not None and site.known]
        known = sum(site.known for site in watched)
        return sum((s.availability or 0) * s.known for s in watched) / known if known else None

    @property
    def repairs(self) -> list[float]:
        """Seconds that each incident took that was repaired."""
        return [i.seconds(self.made) for i in self.incidents if i.outcome == "recovered"]

    @property
    def mean_repair(self) -> float:
        """Their mean, 0 without any."""
        return sum(self.repairs) / len(self.repairs) if self.repairs else 0.0

    @property
    def missed(self) -> int:
        """How many sites missed their objective."""
        return sum(site.met is False for site in self.sites)

    @property
    def ahead(self) -> list[tuple[str, str, float]]:
        """(site, 'certificate' or 'domain', days left), the nearest first."""
        found = [
            (site.name, what, days)
            for site in self.sites
            for what, days in (("certificate", site.certificate), ("domain", site.domain))
            if days is not None
        ]
        return sorted(found, key=lambda entry: entry[2])


def parse_month(text: str) -> date:
    """The first day of '2027-07'. Raises UserError."""
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", text) or text.startswith("0000"):
        raise UserError(f"--month: found '{text}', expected a month such as 2027-07")
    return date.fromisoformat(f"{text}-01")


def last_month(owner: Owner, now: float) -> date:
    """The first day of the month that was over last, on the owner's clock."""
    today = datetime.fromtimestamp(now, ZoneInfo(owner.timezone)).date()
    return (today.replace(day=1) - timedelta(days=1)).replace(day=1)


async def asked(config: Config, owner: Owner, first: date, url: str, now: float) -> Month:
    """The report, asked of the Prometheus at `url`. Raises UserError."""
    async with aiohttp.ClientSession(trust_env=False) as session:
        # Two months to the minute take some time where there are hundreds of sites.
        return await month_of(config, owner, first, Prometheus(session, url, 120), now)


async def month_of(
    config: Config, owner: Owner, first: date, prometheus: Prometheus, now: float
) -> Month:
    """The report of the month that begins on `first`. Raises NoAnswer, and UserError for a month
    that has not begun."""
    zone = ZoneInfo(owner.timezone)
    start, end = _midnight(first, zone), _midnight(_next(first), zone)
    before = _midnight((first - timedelta(days=1)).replace(day=1), zone)
    until = min(end, now)
    if until <= start:
        raise UserError(f"--month: {first:%Y-%m} has not begun yet, expected an earlier one")
    here, earlier = f"[{int(until - start)}s]", f"[{int(start - before)}s]"
    since = f"[{int(now - start)}s]"
    mine = f"{{owner={quoted(owner.name)}}}"
    ask, usual = prometheus.instant, "site:probe_duration_seconds:median5m"
    vectors = asyncio.gather(
        ask(f"group by (site) (last_over_time(site:info{mine}{here}))", until),
        ask(f"last_over_time(incident:held:duration_seconds{mine}{since})", now),
        ask(f"last_over_time(incident:told:duration_seconds{mine}{since})", now),
        ask(f"count_over_time(site:probe_success:avg1m{here})", until),
        ask(f"avg_over_time(site:probe_success:avg1m{here})", until),
        ask(f"quantile_over_time(0.5, {usual}{here})", until),
        ask(f"quantile_over_time(0.95, {usual}{here})", until),
        ask(f"quantile_over_time(0.5, {usual}{earlier})", start),
        ask(f"quantile_over_time(0.95, {usual}{earlier})", start),
        ask("last_over_time(site:certificate:days[1h])", now),
        ask("last_over_time(site:domain:days[1h])", now),
    )
    (watched, held, told, *numbers), found = await asyncio.gather(
        vectors, incidents(prometheus, start, until, now, owner.name)
    )
    objectives = {site.name: site.objective for site in config.sites}
    minutes, ratios, usual_now, slow_now, usual_before, slow_before, days, domains = map(
        _by_site, numbers
    )
    names = sorted({s.labels["site"] for s in watched}, key=str.casefold)
    sites = [
        SiteMonth(
            name=name,
            availability=ratios.get(name),
            known=minutes.get(name, 0.0) * 60,
            objective=objectives.get(name),
            incidents=sum(incident.site == name for incident in found),
            down=sum(_inside(i, start, until, now) for i in found if i.site == name),
            answer=usual_now.get(name),
            slow=slow_now.get(name),
            answer_before=usual_before.get(name),
            slow_before=slow_before.get(name),
            certificate=days.get(name) if name in objectives else None,
            domain=domains.get(name) if name in objectives else None,
        )
        for name in names
    ]
    waited = {_identity(series) for series in held if series.value > HELD}
    known = {*map(_identity, held), *map(_identity, told)}
    spared = sum(_waited(incident, waited, known, now) for incident in found)
    return Month(owner, first, start, until, end, now, sites, found, spared)


def _next(first: date) -> date:
    return (first + timedelta(days=32)).replace(day=1)


def _midnight(day: date, zone: ZoneInfo) -> float:
    return datetime.combine(day, time(), zone).timestamp()


def _by_site(found: Iterable[Series]) -> dict[str, float]:
    return {series.labels["site"]: series.value for series in found}


def _identity(series: Series) -> tuple[str, str]:
    return series.labels["site"], series.labels["since"]


def _waited(
    incident: Incident, waited: set[tuple[str, str]], told: set[tuple[str, str]], now: float
) -> bool:
    """Whether the end of an incident was kept for later, or is being kept now."""
    identity = incident.site, f"{incident.since:.0f}"
    if identity in told:
        return identity in waited
    kept = incident.outcome == "recovered" and incident.until is not None
    return kept and now - (incident.until or now) > HELD


def _inside(incident: Incident, start: float, until: float, now: float) -> float:
    """Seconds of an incident between two times."""
    end = now if incident.until is None else incident.until
    return max(0.0, min(end, until) - max(incident.since, start))
