"""Alertmanager's time intervals, read as Alertmanager reads them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

DAY = 24 * 60
WEEKDAYS = ("sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday")
MONTHS = (
    "january february march april may june july august september october november december".split()
)

HORIZON = timedelta(days=400)
"""How far `Muting.left` looks: longer than a year means never."""

Ranges = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """One entry of `time_intervals` ("time_interval", Alertmanager configuration).

    An instant is inside when every part that is given holds on the wall clock of `location`;
    a part holds when one of its ranges does. `minutes` are [from, to) within the day, the others
    include both ends: `weekdays` count from Sunday as 0, `days` of the month from 1, or from -1
    at its end backwards.
    """

    location: str = "UTC"
    minutes: Ranges = ()
    weekdays: Ranges = ()
    days: Ranges = ()
    months: Ranges = ()
    years: Ranges = ()

    @classmethod
    def from_yaml(cls, entry: Mapping[str, Any]) -> "Interval":
        """An entry that Alertmanager accepts, as YAML gives it."""

        def ranges(key: str, names: Iterable[str] = (), first: int = 0) -> Ranges:
            numbers = {name: first + i for i, name in enumerate(names)}
            found = []
            for text in entry.get(key) or ():
                begin, colon, end = str(text).lower().partition(":")
                bounds = [begin, end if colon else begin]
                begin_, end_ = (numbers[b] if b in numbers else int(b) for b in bounds)
                found.append((begin_, end_))
            return tuple(found)

        return cls(
            location=str(entry.get("location") or "UTC"),
            minutes=tuple(
                (_minute(times["start_time"]), _minute(times["end_time"]))
                for times in entry.get("times") or ()
            ),
            weekdays=ranges("weekdays", WEEKDAYS),
            days=ranges("days_of_month"),
            months=ranges("months", MONTHS, 1),
            years=ranges("years"),
        )

    def as_yaml(self) -> dict[str, Any]:
        """The entry as Alertmanager 0.25 and later read it."""
        entry: dict[str, Any] = {"location": self.location}
        if self.minutes:
            entry["times"] = [
                {"start_time": _clock(start), "end_time": _clock(end)}
                for start, end in self.minutes
            ]
        if self.weekdays:
            entry["weekdays"] = [_range(*(WEEKDAYS[day] for day in r)) for r in self.weekdays]
        for key, ranges in (
            ("days_of_month", self.days),
            ("months", self.months),
            ("years", self.years),
        ):
            if ranges:
                entry[key] = [_range(*(str(bound) for bound in r)) for r in ranges]
        return entry

    def contains(self, at: datetime) -> bool:
        """Whether the aware instant `at` is inside."""
        wall = at.astimezone(ZoneInfo(self.location))
        minute = wall.hour * 60 + wall.minute
        return (
            (not self.minutes or any(start <= minute < end for start, end in self.minutes))
            and (not self.days or self._day_holds(wall))
            and _holds(self.months, wall.month)
            and _holds(self.weekdays, wall.isoweekday() % 7)
            and _holds(self.years, wall.year)
        )

    def lasts_until(self, at: datetime) -> datetime:
        """The first instant after `at`, which is inside, at which that can be over."""
        zone = ZoneInfo(self.location)
        wall = at.astimezone(zone)
        minute = wall.hour * 60 + wall.minute
        whole = at.astimezone(UTC).replace(second=0, microsecond=0)
        end = max((end for start, end in self.minutes if start <= minute < end), default=DAY)
        return _unless_clock_changes(whole, whole + timedelta(minutes=end - minute), zone)

    def may_begin(self, at: datetime) -> datetime:
        """The first instant after `at`, which is outside, at which one can be inside."""
        zone = ZoneInfo(self.location)
        wall = at.astimezone(zone)
        minute = wall.hour * 60 + wall.minute
        whole = at.astimezone(UTC).replace(second=0, microsecond=0)
        begin = min((start for start, _ in self.minutes if start > minute), default=DAY)
        return _unless_clock_changes(whole, whole + timedelta(minutes=begin - minute), zone)

    def _day_holds(self, wall: datetime) -> bool:
        next_month = (wall.replace(day=1) + timedelta(days=32)).replace(day=1)
        length = (next_month.date() - wall.date().replace(day=1)).days
        for begin, end in self.days:
            first, last = (length + 1 + day if day < 0 else day for day in (begin, end))
            if first <= wall.day <= last:
                return True
        return False


class Muting:
    """All entries of one name: inside one of them is inside."""

    def __init__(self, entries: Iterable[Interval]) -> None:
        self._undated: list[Interval] = []
        # A calendar makes thousands of entries, each of a few days in UTC.
        self._dated: dict[tuple[int, int], list[Interval]] = defaultdict(list)
        for entry in entries:
            months, years = entry.months, entry.years
            if entry.location == "UTC" and len(months) == len(years) == 1:
                (month, last_month), (year, last_year) = months[0], years[0]
                if month == last_month and year == last_year:
                    self._dated[year, month].append(entry)
                    continue
            self._undated.append(entry)

    def contains(self, at: datetime) -> bool:
        """Whether the aware instant `at` is inside."""
        return self._entry(at) is not None

    def left(self, at: datetime) -> datetime | None:
        """The first instant from `at` on that is outside: `at` itself, or a whole minute in UTC.

        None when that is more than a year away.
        """
        instant = at
        while instant < at + HORIZON:
            entry = self._entry(instant)
            if entry is None:
                return instant
            instant = entry.lasts_until(instant)
        return None

    def entered(self, at: datetime) -> datetime | None:
        """The first instant from `at` on that is inside; None when more than a year away."""
        entries = [*self._undated, *(entry for month in self._dated.values() for entry in month)]
        instant = at
        while entries and instant < at + HORIZON:
            if self.contains(instant):
                return instant
            instant = min(entry.may_begin(instant) for entry in entries)
        return None

    def _entry(self, at: datetime) -> Interval | None:
        day = at.astimezone(UTC)
        dated = self._dated.get((day.year, day.month), [])
        return next((entry for entry in self._undated + dated if entry.contains(at)), None)


def _unless_clock_changes(now: datetime, then: datetime, zone: ZoneInfo) -> datetime:
    """`then`, or sooner when the clock of `zone` changes before: on a quarter of an hour."""
    if then.astimezone(zone).utcoffset() == now.astimezone(zone).utcoffset():
        return then
    return min(then, now + timedelta(minutes=15 - now.minute % 15))


def _holds(ranges: Ranges, value: int) -> bool:
    return not ranges or any(first <= value <= last for first, last in ranges)


def _minute(text: str) -> int:
    hour, _, minute = text.partition(":")
    return int(hour) * 60 + int(minute)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


def _range(first: str, last: str) -> str:
    return first if first == last else f"{first}:{last}"
