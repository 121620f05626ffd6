"""An owner's quiet time as Alertmanager time intervals, and the same data asked in Python."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import holidays

from dolcevita.config import Owner, Quiet

DAY = 24 * 60
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
SATURDAY, SUNDAY = 5, 6
YEARS_AHEAD = 2
"""Public holidays are compiled for this year and so many after it."""

HORIZON = timedelta(days=400)
"""How far next_reachable looks: more than a year of absence means never."""


@dataclass(frozen=True, slots=True)
class Interval:
    """One entry of Alertmanager's `time_intervals` ("Time interval", Alertmanager configuration).

    An instant is inside when every part that is given holds on the wall clock of `location`.
    `minutes` is [from, to) within the day, `weekdays` count from Monday as 0, `days` are the
    first and last day of the month `month` of `year`.
    """

    location: str
    minutes: tuple[int, int] = (0, DAY)
    weekdays: tuple[int, ...] = ()
    days: tuple[int, int] | None = None
    month: int = 0
    year: int = 0

    def contains(self, at: datetime) -> bool:
        wall = at.astimezone(ZoneInfo(self.location))
        first, last = self.days or (1, 31)
        return (
            self.minutes[0] <= wall.hour * 60 + wall.minute < self.minutes[1]
            and (not self.weekdays or wall.weekday() in self.weekdays)
            and first <= wall.day <= last
            and self.month in (0, wall.month)
            and self.year in (0, wall.year)
        )

    def as_yaml(self) -> dict[str, Any]:
        """The entry as Alertmanager 0.25 and later read it."""
        entry: dict[str, Any] = {"location": self.location}
        if self.minutes != (0, DAY):
            start, end = (f"{m // 60:02}:{m % 60:02}" for m in self.minutes)
            entry["times"] = [{"start_time": start, "end_time": end}]
        if self.weekdays:
            entry["weekdays"] = [WEEKDAYS[day] for day in self.weekdays]
        if self.days:
            first, last = self.days
            entry["days_of_month"] = [str(first) if first == last else f"{first}:{last}"]
            entry["months"] = [str(self.month)]
            entry["years"] = [str(self.year)]
        return entry


def intervals(quiet: Quiet | None, timezone: str, today: date) -> tuple[Interval, ...]:
    """When not to disturb: the union of these. Absences that ended before `today` are left out."""
    if quiet is None:
        return ()
    return tuple(_intervals(quiet, timezone, today))


def reachable(owner: Owner, at: datetime) -> bool:
    """Whether a message may reach the owner at the aware instant `at`.

    Answers from the very entries that Alertmanager is given.
    """
    quiet = _compiled(owner.quiet, owner.timezone, _local_day(owner, at))
    return not any(interval.contains(at) for interval in quiet)


def next_reachable(owner: Owner, at: datetime) -> datetime | None:
    """The first instant from `at` on at which the owner is reachable, in their time zone.

    To the minute; `at` itself when reachable now. None when quiet for more than a year.
    """
    zone = ZoneInfo(owner.timezone)
    if reachable(owner, at):
        return at.astimezone(zone)
    quiet = _compiled(owner.quiet, owner.timezone, _local_day(owner, at))
    for instant in _changes(quiet, at):
        if not any(interval.contains(instant) for interval in quiet):
            return instant.astimezone(zone)
    return None


def _local_day(owner: Owner, at: datetime) -> date:
    return at.astimezone(ZoneInfo(owner.timezone)).date()


_compiled = lru_cache(maxsize=512)(intervals)


def _intervals(quiet: Quiet, timezone: str, today: date) -> Iterator[Interval]:
    if quiet.hours:
        start, end = (_minute(moment) for moment in quiet.hours)
        if start < end:
            yield Interval(timezone, (start, end))
        else:
            yield Interval(timezone, (start, DAY))
            if end:
                yield Interval(timezone, (0, end))
    if quiet.weekends:
        yield Interval(timezone, weekdays=(SATURDAY, SUNDAY))
    for first, last in _merged([*_holidays(quiet.public_holidays, today), *quiet.away]):
        if last >= today:
            yield from _dated(first, last, ZoneInfo(timezone))


def _minute(moment: time) -> int:
    return moment.hour * 60 + moment.minute


def _holidays(region: str, today: date) -> list[tuple[date, date]]:
    if not region:
        return []
    country, _, subdivision = region.partition("-")
    days = holidays.country_holidays(
        country,
        subdiv=subdivision or None,
        years=range(today.year, today.year + YEARS_AHEAD + 1),
    )
    return [(day, day) for day in days]


def _merged(ranges: Iterable[tuple[date, date]]) -> list[tuple[date, date]]:
    """Ranges that touch or overlap become one, so that a holiday within an absence adds nothing."""
    merged: list[tuple[date, date]] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + timedelta(days=1):
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged


def _dated(first: date, last: date, zone: ZoneInfo) -> Iterator[Interval]:
    """Whole local days, `first` to `last`, as entries in UTC.

    In UTC, because Alertmanager up to 0.33 measures a month as (hours / 24) in the entry's
    location: the month of the change to summer time comes out a day short, and its last day
    (31 March in Paris) would not be quiet.
    """
    start = datetime.combine(first, time(), zone).astimezone(UTC)
    end = datetime.combine(last + timedelta(days=1), time(), zone).astimezone(UTC)
    whole_first = start.date() if start.time() == time() else start.date() + timedelta(days=1)
    if start.date() < whole_first:
        until = DAY if start.date() < end.date() else _minute(end.time())
        yield _on(start.date(), start.date(), (_minute(start.time()), until))
    day = whole_first
    while day < end.date():
        next_month = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        month_end = min(end.date(), next_month) - timedelta(days=1)
        yield _on(day, month_end, (0, DAY))
        day = month_end + timedelta(days=1)
    if whole_first <= end.date() and end.time() != time():
        yield _on(end.date(), end.date(), (0, _minute(end.time())))


def _on(first: date, last: date, minutes: tuple[int, int]) -> Interval:
    return Interval("UTC", minutes, (), (first.day, last.day), first.month, first.year)


def _changes(quiet: tuple[Interval, ...], at: datetime) -> Iterator[datetime]:
    """Every instant after `at` at which quiet can end, in order, up to the horizon.

    Offsets from UTC and changes of the clock are whole quarters of an hour, so an end at minute
    m of some clock is an end at m, m+15, m+30 or m+45 of every clock.
    """
    ends = {0, *(interval.minutes[1] for interval in quiet)}
    minutes = sorted({(end + quarter) % 60 for end in ends for quarter in (0, 15, 30, 45)})
    hour = at.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while hour < at + HORIZON:
        yield from (moment for m in minutes if (moment := hour + timedelta(minutes=m)) > at)
        hour += timedelta(hours=1)
