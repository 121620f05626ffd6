"""A person's quiet time as Alertmanager time intervals, and the same data asked in Python."""

from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from dolcevita.alerting.intervals import DAY, Interval, Muting, Ranges
from dolcevita.config import Owner, Quiet
from dolcevita.config.agenda import joined
from dolcevita.config.quiet import last_day
from dolcevita.config.week import Week

SATURDAY = 5
"""As date.weekday counts."""


def intervals(quiet: Quiet | None, timezone: str, today: date) -> tuple[Interval, ...]:
    """When not to disturb: the union of these. What ended before `today` is left out."""
    if quiet is None:
        return ()
    return tuple(_intervals(quiet, timezone, today))


def reachable(owner: Owner, at: datetime) -> bool:
    """Whether a message may reach the owner at the aware instant `at`.

    Answers from the very entries that Alertmanager is given.
    """
    return not _muting(owner.quiet, owner.timezone, _local_day(owner, at)).contains(at)


def next_reachable(owner: Owner, at: datetime) -> datetime | None:
    """The first instant from `at` on at which the owner is reachable, in their time zone.

    To the minute; `at` itself when reachable now. None when quiet for more than a year.
    """
    left = _muting(owner.quiet, owner.timezone, _local_day(owner, at)).left(at)
    return left.astimezone(ZoneInfo(owner.timezone)) if left else None


def next_quiet(owner: Owner, at: datetime) -> datetime | None:
    """The first instant from the minute of `at` on that is quiet, in the owner's time zone.

    None when there is no quiet time within a year.
    """
    begins = _next_quiet(owner.quiet, owner.timezone, at.replace(second=0, microsecond=0))
    return begins.astimezone(ZoneInfo(owner.timezone)) if begins else None


# Cached, because it is asked for at each scrape, and a calendar has thousands of entries.
@lru_cache(maxsize=512)
def _next_quiet(quiet: Quiet | None, timezone: str, minute: datetime) -> datetime | None:
    today = minute.astimezone(ZoneInfo(timezone)).date()
    return _muting(quiet, timezone, today).entered(minute)


def _local_day(owner: Owner, at: datetime) -> date:
    return at.astimezone(ZoneInfo(owner.timezone)).date()


@lru_cache(maxsize=512)
def _muting(quiet: Quiet | None, timezone: str, today: date) -> Muting:
    return Muting(intervals(quiet, timezone, today))


def _intervals(quiet: Quiet, timezone: str, today: date) -> Iterator[Interval]:
    yield from _weekly(quiet.hours, timezone)
    if quiet.weekends:
        # Alertmanager's week begins on Sunday.
        yield Interval(timezone, weekdays=((6, 6), (0, 0)))
    zone = ZoneInfo(timezone)
    days = [*((day, day) for day in _days_off(quiet, today)), *quiet.away]
    whole = [(_midnight(first, zone), _midnight(last + timedelta(days=1), zone))
             for first, last in days]  # fmt: skip
    now = _midnight(today, zone)
    for start, end in joined([*whole, *quiet.busy]):
        if end > now:
            yield from _dated(start, end)


def _weekly(hours: Week, timezone: str) -> Iterator[Interval]:
    """An entry for each set of weekdays that have the same ranges."""
    ranges: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for day, start, end in hours:
        ranges[day].append((start, end))
    days: dict[tuple[tuple[int, int], ...], list[int]] = defaultdict(list)
    for day, of_day in sorted(ranges.items()):
        days[tuple(of_day)].append(day)
    for minutes, alike in days.items():
        weekdays: Ranges = tuple((number, number) for number in ((day + 1) % 7 for day in alike))
        yield Interval(
            timezone,
            minutes if minutes != ((0, DAY),) else (),
            weekdays if len(alike) < 7 else (),
        )


def _days_off(quiet: Quiet, today: date) -> list[date]:
    """Public holidays, and where wanted the days that lie between one and a weekend."""
    if not quiet.public_holidays:
        return []
    country, _, subdivision = quiet.public_holidays.partition("-")
    # A bridge may lead into a year that is not asked for.
    years = range(today.year - 1, last_day(today).year + 2)
    import holidays  # takes memory that few exporters need

    found = set(holidays.country_holidays(country, subdiv=subdivision or None, years=years))
    if quiet.bridge_days:
        found |= {
            day
            for holiday in found
            for day, beyond in (
                (holiday + timedelta(days=1), holiday + timedelta(days=2)),
                (holiday - timedelta(days=1), holiday - timedelta(days=2)),
            )
            if day.weekday() < SATURDAY and (beyond.weekday() >= SATURDAY or beyond in found)
        }
    return [day for day in found if today.year <= day.year <= last_day(today).year]


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


def _dated(start: datetime, end: datetime) -> Iterator[Interval]:
    """From `start` to `end` as entries in UTC.

    In UTC, because Alertmanager up to 0.33 measures a month as (hours / 24) in the entry's
    location: the month of the change to summer time comes out a day short, and its last day
    (31 March in Paris) would not be quiet.
    """
    whole_first = start.date() if start.time() == time() else start.date() + timedelta(days=1)
    if start.date() < whole_first:
        until = DAY if start.date() < end.date() else _minute(end.time())
        yield _on(start.date(), start.date(), ((_minute(start.time()), until),))
    day = whole_first
    while day < end.date():
        next_month = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        month_end = min(end.date(), next_month) - timedelta(days=1)
        yield _on(day, month_end, ())
        day = month_end + timedelta(days=1)
    if whole_first <= end.date() and end.time() != time():
        yield _on(end.date(), end.date(), ((0, _minute(end.time())),))


def _minute(moment: time) -> int:
    return moment.hour * 60 + moment.minute


def _on(first: date, last: date, minutes: Ranges) -> Interval:
    month, year = (first.month, first.month), (first.year, first.year)
    return Interval("UTC", minutes, (), ((first.day, last.day),), (month,), (year,))
