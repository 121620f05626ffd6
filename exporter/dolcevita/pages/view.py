"""What the page shows: the present, the past and what is planned, put together for a template."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Protocol
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from dolcevita.alerting.maintenance import Maintenance
from dolcevita.config import Site
from dolcevita.history import Incident
from dolcevita.pages import pictures
from dolcevita.pages.memory import DAYS, Past
from dolcevita.probes import Result
from dolcevita.words import Words

STATES = ("down", "failing", "maintenance", "unknown", "fine")
"""In the order in which the page shows them."""

BAD = 0.95
"""A day on which a site answered for less than this part of the time is a bad one."""

TITLED_DAYS = 200
"""Days with trouble that say more under a pointer, the newest: all would make the page large."""

TITLED_INCIDENTS = 5

SHOWN_INCIDENTS = 50

OLD = 90.0
"""Seconds after which history that could not be asked for anew is called old."""


class Seen(Protocol):
    """The last result of a site and when it came, in unix seconds."""

    @property
    def result(self) -> Result: ...
    @property
    def at(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a visitor wants to see; an empty text is all of it."""

    owner: str = ""
    host: str = ""
    site: str = ""
    trouble: bool = False


@dataclass(frozen=True, slots=True)
class Day:
    """One day of a site on which not all was well; `place` counts from the oldest."""

    place: int
    day: date
    ratio: float
    incidents: Sequence[Incident]
    level: str


@dataclass(frozen=True, slots=True)
class Row:
    """One site as the page shows it. Numbers are None where they are not known."""

    site: Site
    link: str
    state: str
    seen: Seen | None
    open: Incident | None
    incidents: int
    levels: Sequence[str]
    trouble: Sequence[Day]
    availability: Mapping[str, float]
    answer: float | None
    spark: str
    low: float
    high: float
    certificate: float | None
    domain: float | None

    @property
    def summary(self) -> float | None:
        """Availability over the longest window."""
        return self.availability.get("90d")

    def bar(self, level: str) -> str:
        """The path of one level of the bar. That of fine days lies below those with trouble."""
        levels = self.levels
        if level == "fine":
            levels = ["none" if level == "none" else "fine" for level in levels]
        return pictures.runs(levels, level)


@dataclass(frozen=True, slots=True)
class Work:
    """Maintenance of several sites and hosts at the same time for the same cause."""

    names: tuple[str, ...]
    start: float
    end: float
    because: str
    counts: bool
    repeats: bool


@dataclass(frozen=True, slots=True)
class View:
    """A whole page."""

    rows: Sequence[Row]
    counts: Mapping[str, int]
    open: Sequence[Incident]
    past: Sequence[Incident]
    incidents: Sequence[Incident]
    maintenance: Sequence[Work]
    owners: Sequence[str]
    hosts: Sequence[str]
    titled: frozenset[tuple[str, int]]

    def titles(self, row: Row) -> list[Day]:
        """The days of a row that say more under a pointer."""
        return [day for day in row.trouble if (row.site.name, day.place) in self.titled]


def view(
    sites: Iterable[Site],
    last: Mapping[str, Seen],
    past: Past | None,
    maintenance: Iterable[Maintenance],
    now: float,
    zone: ZoneInfo,
    wanted: Wanted,
    hosts: bool,
) -> View:
    """The page of `sites`, of which only those that are `wanted` are shown.

    Without `hosts`, which are of the house, maintenance of one is told of its sites.
    """
    watched = [site for site in sites if not site.sentinel]
    works = [work for work in maintenance if any(work.covers(site) for site in watched)]
    chosen = [site for site in watched if _matches(site, wanted)]
    by_site: dict[str, list[Incident]] = defaultdict(list)
    for incident in past.incidents if past else ():
        by_site[incident.site].append(incident)
    today = datetime.fromtimestamp(now, zone).date()
    rows = [
        _row(site, last.get(site.name), past, by_site[site.name], works, now, today, zone)
        for site in chosen
    ]
    if wanted.trouble:
        rows = [row for row in rows if row.state != "fine"]
    rows.sort(key=lambda row: (STATES.index(row.state), row.site.name.casefold()))
    names = {row.site.name for row in rows}
    found = [i for i in (past.incidents if past else ()) if i.site in names]
    ended = [incident for incident in found if incident.until is not None]
    counts = dict.fromkeys(STATES, 0)
    for row in rows:
        counts[row.state] += 1
    return View(
        rows=rows,
        counts=counts,
        open=[incident for incident in found if incident.until is None],
        past=ended,
        incidents=found,
        maintenance=_together(works, [row.site for row in rows], hosts),
        owners=sorted({site.owner for site in watched}),
        hosts=sorted({site.host for site in watched if site.host}),
        titled=_newest(rows),
    )


def headline(found: View, wanted: Wanted, words: Words) -> str:
    """How what is wanted is, in a sentence or two."""
    if not found.rows:
        return words("nothing_watched" if wanted == Wanted() else "no_match")
    if wanted.site:
        (row,) = found.rows
        return words("headline_site", site=row.site.name, state=words("state_" + row.state))
    said = [
        words(key, found.counts[state])
        for state, key in (
            ("down", "some_down"),
            ("failing", "some_failing"),
            ("unknown", "some_unknown"),
            ("maintenance", "in_maintenance"),
        )
        if found.counts[state]
    ]
    return " ".join(said) or words("all_well" if wanted == Wanted() else "all_shown_well")


def told(day: Day, words: Words, now: float, zone: ZoneInfo) -> str:
    """What a day says under a pointer: how it went, then a line for each incident."""

    def began(since: float) -> str:
        of_day = datetime.fromtimestamp(since, zone).date() == day.day
        return words.time(since, zone) if of_day else words.clock_short(since, zone)

    lines = [
        words(
            "day_title",
            day=words.day(day.day),
            availability=words.percent(day.ratio),
            incidents=words("incidents_count", len(day.incidents)),
        ),
        *(
            words(
                "day_incident",
                at=began(incident.since),
                lasted=words.lasting(incident.seconds(now)),
                reason=words.why(incident.reason, incident.planned),
            )
            for incident in day.incidents[:TITLED_INCIDENTS]
        ),
    ]
    return "\n".join(lines)


def _matches(site: Site, wanted: Wanted) -> bool:
    return (
        wanted.owner in ("", site.owner)
        and wanted.host in ("", site.host)
        and wanted.site in ("", site.name)
    )


def _row(
    site: Site,
    seen: Seen | None,
    past: Past | None,
    incidents: Sequence[Incident],
    works: Iterable[Maintenance],
    now: float,
    today: date,
    zone: ZoneInfo,
) -> Row:
    name = site.name
    opened = next((incident for incident in incidents if incident.until is None), None)
    days = past.days.get(name, ()) if past else ()
    touched = _touched(incidents, now, zone)
    trouble, levels = [], []
    for place, ratio in enumerate(days):
        day = today - timedelta(days=DAYS - 1 - place)
        level = _level(ratio, day in touched)
        levels.append(level)
        if level in ("some", "bad"):
            trouble.append(Day(place, day, ratio or 0.0, touched.get(day, ()), level))
    answers = past.answers.get(name, ()) if past else ()
    known = [answer for answer in answers if answer is not None]
    return Row(
        site=site,
        link=_link(site),
        state=_state(site, seen, opened, past, works, now),
        seen=seen,
        open=opened,
        incidents=len(incidents),
        levels=levels,
        trouble=trouble,
        availability=past.availability.get(name, {}) if past else {},
        answer=past.answer_now.get(name) if past else None,
        spark=pictures.sparkline(answers) if known else "",
        low=min(known, default=0.0),
        high=max(known, default=0.0),
        certificate=past.certificate.get(name) if past else None,
        domain=past.domain.get(name) if past else None,
    )


def _state(
    site: Site,
    seen: Seen | None,
    opened: Incident | None,
    past: Past | None,
    works: Iterable[Maintenance],
    now: float,
) -> str:
    if any(work.at(now) and work.covers(site) for work in works):
        return "maintenance"
    if opened:
        return "down"
    if past and site.name in past.verdicts and now - past.at < OLD:
        return "fine" if past.verdicts[site.name] else "failing"
    # Three intervals: one may be under way and one may have been lost.
    stale = seen is None or now - seen.at > 3 * site.every + site.timeout
    if seen is None or stale or not seen.result.known or (past and past.uplink_down):
        return "unknown"
    return "fine" if seen.result.success else "failing"


def _level(ratio: float | None, incidents: bool) -> str:
    if ratio is None:
        return "none"
    if ratio < BAD:
        return "bad"
    return "some" if incidents or ratio < 1 - 1e-9 else "fine"


def _newest(rows: Iterable[Row]) -> frozenset[tuple[str, int]]:
    days = sorted(((day.place, row.site.name) for row in rows for day in row.trouble), reverse=True)
    return frozenset((name, place) for place, name in days[:TITLED_DAYS])


def _touched(
    incidents: Iterable[Incident], now: float, zone: ZoneInfo
) -> dict[date, list[Incident]]:
    """The incidents that were open on a day, for the days on which any was."""
    found: dict[date, list[Incident]] = defaultdict(list)
    for incident in incidents:
        end = now if incident.until is None else incident.until
        day = datetime.fromtimestamp(incident.since, zone).date()
        last = datetime.fromtimestamp(end, zone).date()
        day = max(day, last - timedelta(days=DAYS))
        while day <= last:
            found[day].append(incident)
            day += timedelta(days=1)
    return dict(found)


def _link(site: Site) -> str:
    """The site's address for a visitor: of web pages, without the query, which may be a secret."""
    url = urlsplit(site.url)
    if url.scheme not in ("http", "https"):
        return ""
    return f"{url.scheme}://{url.netloc}{url.path}"


def _together(works: Iterable[Maintenance], sites: Iterable[Site], hosts: bool) -> list[Work]:
    names: dict[tuple[float, float, str, bool, bool], list[str]] = defaultdict(list)
    for work in sorted(works, key=lambda work: (work.start, work.end, work.value)):
        if covered := [site.name for site in sites if work.covers(site)]:
            told = names[work.start, work.end, work.because, work.counts, work.repeats]
            told += [work.value] if hosts else [name for name in covered if name not in told]
    return [Work(tuple(values), *key) for key, values in names.items()]
