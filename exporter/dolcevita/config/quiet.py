"""When somebody wants peace: hours, weekends, public holidays, absences, a calendar."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator

from dolcevita.config import agenda
from dolcevita.config.agenda import Span
from dolcevita.config.model import Strict, one_or_many
from dolcevita.config.problems import Problem, did_you_mean, found, nearest
from dolcevita.config.source import Source, Where
from dolcevita.config.week import ReadHours, Week

FIRST_YEAR, LAST_YEAR = 2000, 2999
"""An absence outside is a slip of the keyboard."""

YEARS_AHEAD = 2
"""Public holidays and calendars count for this year and so many after it."""


@dataclass(frozen=True, slots=True)
class Quiet:
    """When a person wants peace: the union of its parts, in their time zone.

    `public_holidays` is a country, with subdivision where there is one ('FR', 'FR-57'), or ''.
    With `bridge_days` the day between a holiday and a weekend counts as one. `away` are
    inclusive ranges of days. `busy` are the events of the calendars in `files`.
    """

    hours: Week = ()
    weekends: bool = False
    public_holidays: str = ""
    bridge_days: bool = False
    away: tuple[tuple[date, date], ...] = ()
    busy: tuple[Span, ...] = ()
    files: tuple[Path, ...] = ()


def last_day(today: date) -> date:
    """The last day that is known of what comes as dates."""
    return date(today.year + YEARS_AHEAD, 12, 31)


class Times:
    """The quiet times of one people.yml by place; what is wrong with them is noted."""

    def __init__(
        self, source: Source, today: date, problems: list[Problem], warnings: list[Problem]
    ) -> None:
        self.source = source
        self.today = today
        self.problems = problems
        self.warnings = warnings
        self.files: list[Path] = []
        """Calendars that were read, or could not be."""
        self._hours: dict[Where, Week] = {}
        self._read: dict[Where, Quiet] = {}

    def of(self, where: Where) -> Quiet | None:
        """What was read at `where`, if anything."""
        return self._read.get(where)

    def read_hours(self, where: Where, read: ReadHours) -> None:
        """Read the hours at `where`, whatever is wrong beside them."""
        value: Any = self.source.data
        for step in where:
            value = value.get(step) if isinstance(value, dict) else value[step]
        place = where
        if isinstance(value, dict) and any(key in WorkingModel.model_fields for key in value):
            place = (*where, "hours")
            value = value.get("hours")
        elif where[-1] == "quiet":
            return
        if value is not None:
            self._hours[where] = read(self.source, place, value, self.problems)

    def read(self, where: Where, model: "DatesModel", timezone: str) -> None:
        """Read all that is at `where`, after its hours; `model` is its valid form."""
        if model.bridge_days and not model.public_holidays:
            message = f"{where[-1]}.bridge_days: needs 'public_holidays' beside it: add a country"
            self.problems.append(self.source.problem((*where, "bridge_days"), message))
        files, busy = self._calendar(where, model.calendar, timezone)
        self._read[where] = Quiet(
            hours=self._hours.get(where, ()),
            weekends=isinstance(model, QuietModel) and model.weekends,
            public_holidays=model.public_holidays or "",
            bridge_days=model.bridge_days,
            away=self._away(where, model.away),
            busy=busy,
            files=files,
        )

    def _away(self, where: Where, texts: Sequence[str]) -> tuple[tuple[date, date], ...]:
        away = []
        for i, text in enumerate(texts):
            first, last = parse_away(text)
            place = (*where, "away", i)
            if last < first:
                message = f"away: '{text}' is reversed; taken as {last}..{first}, write it so"
                self.warnings.append(self.source.problem(place, message))
                first, last = last, first
            if last < self.today:
                message = f"away: '{text}' is over; take it out"
                self.warnings.append(self.source.problem(place, message))
            away.append((first, last))
        return tuple(away)

    def _calendar(
        self, where: Where, names: Sequence[str], timezone: str
    ) -> tuple[tuple[Path, ...], tuple[Span, ...]]:
        files: list[Path] = []
        spans: list[Span] = []
        for i, name in enumerate(names):
            place = (*where, "calendar", i) if len(names) > 1 else (*where, "calendar")
            path = Path(self.source.file).parent / name
            files.append(path)
            for file in agenda.files(path):
                try:
                    spans += agenda.busy(
                        file, timezone, self.today - timedelta(days=1), last_day(self.today)
                    )
                except agenda.Unreadable as error:
                    message = f"{where[-1]}.calendar: {file}: {error}"
                    self.problems.append(self.source.problem(place, message))
                if file != path:
                    files.append(file)
        self.files += files
        return tuple(files), agenda.joined(spans)


def _country(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a country code such as FR")
    country, _, subdivision = value.partition("-")
    import holidays  # takes memory that few exporters need

    supported = holidays.list_supported_countries()
    if country not in supported:
        upper = value.upper()
        match = upper if upper.partition("-")[0] in supported else _code_of(value)
        hint = f"did you mean '{match}'?" if match else "expected a country code such as FR"
        raise ValueError(f"found {found(value)}, which is no known country: {hint}")
    if subdivision and subdivision not in supported[country]:
        known = supported[country]
        hint = f": {did_you_mean(subdivision, known)}" if known else f"; write {country} alone"
        raise ValueError(
            f"found {found(value)}, but {country} has no subdivision '{subdivision}'{hint}"
        )
    return value


def _code_of(country: str) -> str:
    """The code of a country that is written out in English, or ''."""
    import holidays

    codes = {name: entity[1] for name, entity in holidays.registry.COUNTRIES.items()}
    name = nearest(country.replace(" ", "_"), codes, cutoff=0.8)
    return codes[name] if name else ""


def parse_away(value: str) -> tuple[date, date]:
    """('2027-07-10..2027-07-25') or one day to (first, last), as written. Raises ValueError."""
    first, dots, last = value.partition("..")
    return _day(first, value), _day(last if dots else first, value)


def _day(text: str, value: str) -> date:
    match = re.fullmatch(r"\s*(\d{4})-(\d{2})-(\d{2})\s*", text)
    if not match:
        raise ValueError(f"found {found(value)}, expected days such as 2027-07-10..2027-07-25")
    year, month, day = (int(group) for group in match.groups())
    try:
        found_day = date(year, month, day)
    except ValueError:
        raise ValueError(f"found {found(value)}, but there is no day {text.strip()}") from None
    if not FIRST_YEAR <= year <= LAST_YEAR:
        raise ValueError(f"found {found(value)}, expected years from {FIRST_YEAR} to {LAST_YEAR}")
    return found_day


def _away(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected days such as 2027-07-10..2027-07-25")
    parse_away(value)
    return value


def _calendar(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable() or not value.strip():
        raise ValueError("expected the path of an iCalendar file, or of a folder of them")
    if "://" in value:
        # Its address is often all that keeps a calendar private.
        raise ValueError(
            "found a URL, expected a path: fetch the calendar to a file, for example each hour"
        )
    return value


def _hours_alone(value: Any) -> Any:
    """`working_hours: "09:00-18:00"`, and hours by weekday, need no 'hours:' of their own."""
    known = isinstance(value, dict) and any(key in WorkingModel.model_fields for key in value)
    return value if known else {"hours": value}


class DatesModel(Strict):
    public_holidays: Annotated[str, BeforeValidator(_country)] | None = None
    bridge_days: bool = False
    away: Annotated[list[Annotated[str, BeforeValidator(_away)]], one_or_many()] = []
    calendar: Annotated[list[Annotated[str, BeforeValidator(_calendar)]], one_or_many()] = []


class QuietModel(DatesModel):
    hours: Any = None
    weekends: bool = False


class WorkingModel(DatesModel):
    hours: Any


Working = Annotated[WorkingModel, BeforeValidator(_hours_alone)]
