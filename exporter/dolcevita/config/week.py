"""Hours of the week, as people.yml gives them: one range, several, or some for each weekday."""

import re
from collections.abc import Callable, Iterable, Iterator
from datetime import time
from typing import Any

from dolcevita.config.problems import Problem, found, kind, nearest, short
from dolcevita.config.source import Source, Where

DAY = 24 * 60
WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

Week = tuple[tuple[int, int, int], ...]
"""(weekday from Monday as 0, from, to): minutes of that day, [from, to). In order, none touch."""

ReadHours = Callable[[Source, Where, Any, list[Problem]], Week]

ALWAYS: Week = tuple((day, 0, DAY) for day in range(7))

Nights = list[tuple[int, int, int]]
"""Like a Week as it was written: `to` is not after `from` where a range goes over midnight."""


def parse_hours(value: str) -> tuple[time, time]:
    """('19:00-09:00') to (from, to); an end of 24:00 is midnight. Raises ValueError."""
    match = re.fullmatch(r"(\d{1,2}):(\d{2})\s*[-\u2013\u2014]\s*(\d{1,2}):(\d{2})", value)
    if not match:
        raise ValueError(f"found {found(value)}, expected one range such as 19:00-09:00")
    hour, minute, to_hour, to_minute = (int(group) for group in match.groups())
    last_hour = 23 if (to_hour, to_minute) == (24, 0) else to_hour
    if max(hour, last_hour) > 23 or max(minute, to_minute) > 59:
        raise ValueError(f"found {found(value)}, expected times from 00:00 to 23:59")
    if (hour, minute) == (to_hour, to_minute):
        raise ValueError(
            f"found {found(value)}, which begins and ends at the same time, "
            "expected one range such as 19:00-09:00"
        )
    return time(hour, minute), time(to_hour % 24, to_minute)


def read_quiet(source: Source, where: Where, value: Any, problems: list[Problem]) -> Week:
    """When nobody wants to be disturbed; what is wrong goes to `problems`.

    A night belongs to the day it begins on. Where the day before has no hours of its own, the
    morning of the first day is quiet as well: `mon-fri: "19:00-09:00"` leaves no hole on Monday.
    """
    before = len(problems)
    nights = _read(source, where, value, problems)
    days = {day for day, _, _ in nights}
    mornings = [
        (day, 0, end) for day, start, end in nights if end <= start and (day - 1) % 7 not in days
    ]
    week = _within_days(nights + [morning for morning in mornings if morning[2]])
    if week == ALWAYS and len(problems) == before:
        message = (
            f"{_name(where)}: found the whole week, expected a time at which a message may come"
        )
        problems.append(source.problem(where, message))
    return week


def read_weekly(
    source: Source, where: Where, texts: Iterable[str], problems: list[Problem]
) -> Nights:
    """When something happens each week, as 'sunday 02:00-04:00'; what is wrong goes to `problems`.

    A night belongs to the day it begins on.
    """
    nights: Nights = []
    for text in texts:
        match = re.fullmatch(r"\s*([^\d\s][^\d]*?)\s+(\d.*)", text)
        days = _days(match[1]) if match else ""
        if match is None or isinstance(days, str):
            message = days or f"found {short(text)}, expected days and hours: sunday 02:00-04:00"
            problems.append(source.problem(where, f"{where[-1]}: {message}"))
            continue
        try:
            start, end = (m.hour * 60 + m.minute for m in parse_hours(match[2]))
        except ValueError as error:
            problems.append(source.problem(where, f"{where[-1]}: {error}"))
            continue
        nights += [(day, start, end) for day in days]
    return nights


def read_off(source: Source, where: Where, value: Any, problems: list[Problem]) -> Week:
    """When somebody with these working hours does not work; what is wrong goes to `problems`.

    A night belongs to the day it begins on.
    """
    return _inverted(_within_days(_read(source, where, value, problems)))


def _inverted(week: Week) -> Week:
    gaps = []
    for day in range(7):
        before = 0
        for _, start, end in (entry for entry in week if entry[0] == day):
            if before < start:
                gaps.append((day, before, start))
            before = end
        if before < DAY:
            gaps.append((day, before, DAY))
    return tuple(gaps)


def _read(source: Source, where: Where, value: Any, problems: list[Problem]) -> Nights:
    if not isinstance(value, dict):
        return list(_ranges(source, where, value, range(7), problems))
    nights: Nights = []
    first: dict[int, str] = {}
    for key, ranges in value.items():
        place = (*where, key)
        days = _days(key)
        if isinstance(days, str):
            problems.append(source.problem(place, f"{_name(where)}: {days}"))
            continue
        twice = next((day for day in days if day in first), None)
        if twice is not None:
            message = (
                f"{_name(where)}: found {WEEKDAYS[twice]} in {short(first[twice])} and in "
                f"{short(key)}, expected each day once"
            )
            problems.append(source.problem(place, message))
            continue
        for day in days:
            first[day] = key
        nights += _ranges(source, place, ranges, days, problems)
    if not value:
        message = f"{_name(where)}: found an empty mapping, expected hours such as 19:00-09:00"
        problems.append(source.problem(where, message))
    return nights


def _ranges(
    source: Source, where: Where, value: Any, days: range | list[int], problems: list[Problem]
) -> Iterator[tuple[int, int, int]]:
    entries = value if isinstance(value, list) and value else [value]
    for i, entry in enumerate(entries):
        place = (*where, i) if isinstance(value, list) and value else where
        try:
            if not isinstance(entry, str):
                raise ValueError(
                    f"found {found(entry) if not isinstance(entry, dict) else kind(entry)}, "
                    "expected one range such as 19:00-09:00"
                )
            start, end = (m.hour * 60 + m.minute for m in parse_hours(entry))
        except ValueError as error:
            problems.append(source.problem(place, f"{_name(where)}: {error}"))
            continue
        for day in days:
            yield day, start, end


def _days(key: str) -> list[int] | str:
    """('mon-fri', 'sat, sun') to weekdays, or what is wrong with it."""
    found_days: list[int] = []
    for part in key.lower().split(","):
        ends = []
        for name in part.strip().split("-"):
            day = name.strip()[:3]
            if day not in WEEKDAYS or not _FULL[day].startswith(name.strip()):
                match = nearest(name.strip(), WEEKDAYS)
                hint = f": did you mean '{match}'?" if match else ""
                return f"found {short(key)}, expected days such as mon-fri or sat{hint}"
            ends.append(WEEKDAYS.index(day))
        if len(ends) > 2:
            return f"found {short(key)}, expected days such as mon-fri or sat"
        length = (ends[-1] - ends[0]) % 7
        found_days += [(ends[0] + i) % 7 for i in range(length + 1)]
    return found_days


def _within_days(nights: Nights) -> Week:
    ranges: list[tuple[int, int, int]] = []
    for day, start, end in nights:
        if start < end:
            ranges.append((day, start, end))
        else:
            ranges.append((day, start, DAY))
            if end:
                ranges.append(((day + 1) % 7, 0, end))
    merged: list[tuple[int, int, int]] = []
    for day, start, end in sorted(ranges):
        if merged and merged[-1][0] == day and start <= merged[-1][2]:
            merged[-1] = (day, merged[-1][1], max(end, merged[-1][2]))
        else:
            merged.append((day, start, end))
    return tuple(merged)


def _name(where: Where) -> str:
    """The key as messages name it: without the list of people and without positions in lists."""
    return ".".join(str(step) for step in where[2:] if isinstance(step, str))


_FULL = dict(
    zip(
        WEEKDAYS,
        "monday tuesday wednesday thursday friday saturday sunday".split(),
        strict=True,
    )
)
