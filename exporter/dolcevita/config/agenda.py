"""iCalendar files (RFC 5545): when somebody is busy."""

import math
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from dolcevita.config.problems import short

Span = tuple[datetime, datetime]
"""[from, to), in UTC, whole minutes."""

MOST_EVENTS = 5000
LARGEST = 20 * 1024 * 1024
TOO_OFTEN = ("SECONDLY", "MINUTELY", "HOURLY")
WITHIN_A_DAY = ("BYHOUR", "BYMINUTE", "BYSECOND")


class Unreadable(Exception):
    """What is wrong with a file, and what to do, without its name."""


def files(path: Path) -> tuple[Path, ...]:
    """The calendars at `path`: the file itself, or those directly in the folder."""
    return tuple(sorted(path.glob("*.ics"))) if path.is_dir() else (path,)


def busy(path: Path, timezone: str, first: date, last: date) -> tuple[Span, ...]:
    """The events of one file that touch the days `first` to `last` of `timezone`, joined.

    Times without a zone and whole days are those of `timezone`. Events that are cancelled, or
    marked as not taking time (TRANSP:TRANSPARENT), do not count. Raises Unreadable.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise Unreadable("no such file or folder; create it, or name another one") from None
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    if len(content) > LARGEST:
        raise Unreadable("larger than 20 MiB; export fewer events")
    zone = ZoneInfo(timezone)
    try:
        events = [event for calendar in _calendars(content) for event in _of(calendar, first, last)]
        spans = [_span(event, zone) for event in events if _counts(event)]
    except Unreadable:
        raise
    # Which errors these libraries raise on nonsense is written down nowhere.
    except Exception as error:
        words = " ".join(str(error).split())[:100] or type(error).__name__
        raise Unreadable(f"no proper iCalendar file ({words}); export it again") from None
    if len(spans) > MOST_EVENTS:
        raise Unreadable(f"{len(spans)} events in two years, expected at most {MOST_EVENTS}")
    return joined(spans)


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Those that touch or overlap become one, and empty ones none."""
    result: list[Span] = []
    for start, end in sorted(span for span in spans if span[0] < span[1]):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return tuple(result)


def _calendars(content: bytes) -> list[Any]:
    import icalendar  # beside its use: it takes memory that few need

    found = icalendar.Calendar.from_ical(content, multiple=True)
    if not found or any(calendar.name != "VCALENDAR" for calendar in found):
        raise Unreadable("no VCALENDAR in it; export it again as iCalendar (.ics)")
    return found


def _of(calendar: Any, first: date, last: date) -> list[Any]:
    """The events of a calendar, each repetition one."""
    for event in calendar.walk("VEVENT"):
        rules = event.get("RRULE", [])
        for rule in rules if isinstance(rules, list) else [rules]:
            times_a_day = math.prod(max(1, len(rule.get(part, []))) for part in WITHIN_A_DAY)
            if times_a_day > 24 or rule["FREQ"][0] in TOO_OFTEN:
                name = str(event.get("SUMMARY", "an event"))
                raise Unreadable(f"{short(name)} repeats within a day; give it hours instead")
    # A day more on both sides: days begin earlier and end later elsewhere.
    import recurring_ical_events  # type: ignore[import-untyped]

    found: list[Any] = recurring_ical_events.of(calendar).between(
        first - timedelta(days=1), last + timedelta(days=2)
    )
    return found


def _counts(event: Any) -> bool:
    return (
        str(event.get("STATUS", "")).upper() != "CANCELLED"
        and str(event.get("TRANSP", "")).upper() != "TRANSPARENT"
    )


def _span(event: Any, zone: ZoneInfo) -> Span:
    """From the event's first minute to the end of its last."""
    # The library gives every repetition an end, from DURATION where there is no DTEND.
    start, end = (_instant(event[key].dt, zone) for key in ("DTSTART", "DTEND"))
    up = timedelta(seconds=59, microseconds=999999)
    return tuple(t.replace(second=0, microsecond=0) for t in (start, max(start, end + up)))  # type: ignore[return-value]


def _instant(value: date | datetime, zone: ZoneInfo) -> datetime:
    if not isinstance(value, datetime):
        value = datetime.combine(value, time())
    return (value if value.tzinfo else value.replace(tzinfo=zone)).astimezone(UTC)
