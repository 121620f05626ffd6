"""people.yml: WHO is told, and WHEN they want peace."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, time
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import available_timezones

import holidays
from pydantic import BeforeValidator

from dolcevita.config.model import Duration, Name, Strict, one_or_many, validate
from dolcevita.config.problems import (
    ConfigError,
    Problem,
    did_you_mean,
    found,
    kind,
    nearest,
    short,
)
from dolcevita.config.source import Source, Where, read

Hears = Literal["resolved", "down", "overdue", "warnings", "report"]
SHORT_FORMS = ("email", "webhook", "apprise")
FIRST_YEAR, LAST_YEAR = 2000, 2999
"""An absence outside is a slip of the keyboard."""


@dataclass(frozen=True, slots=True)
class Channel:
    """One way to reach a person.

    `kind` is a short form (email, webhook, apprise) or the name of an Alertmanager receiver
    block (pagerduty_configs, ...). `value` is a text for a short form, else the raw block;
    with `file` it is the path of a file that holds the text. `source` is 'file:line'.
    """

    kind: str
    value: Any
    file: bool
    source: str


@dataclass(frozen=True, slots=True)
class Quiet:
    """When an owner wants peace: the union of its parts, in the owner's time zone.

    `hours` is (from, to) on the wall clock, over midnight when to <= from; a `to` of midnight
    ends the day. `public_holidays` is a country, with subdivision where there is one
    ('FR', 'FR-57'), or ''. `away` are inclusive ranges of days.
    """

    hours: tuple[time, time] | None
    weekends: bool
    public_holidays: str
    away: tuple[tuple[date, date], ...]


@dataclass(frozen=True, slots=True)
class Person:
    """What owners and providers have in common."""

    name: str
    language: str
    timezone: str
    notify: tuple[Channel, ...]


@dataclass(frozen=True, slots=True)
class Provider(Person):
    """On call round the clock: gets every page and every recovery."""


@dataclass(frozen=True, slots=True)
class Owner(Person):
    """Gets good news, never in quiet hours. `overdue_after` is seconds."""

    hears: frozenset[str]
    quiet: Quiet | None
    overdue_after: float | None
    overdue_wakes: bool


def _timezone(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a time zone such as Europe/Paris")
    zones = _zones()
    if value not in zones:
        cities = {zone.rpartition("/")[2]: zone for zone in sorted(zones, reverse=True)}
        city = nearest(value.replace(" ", "_").rpartition("/")[2], cities)
        match = nearest(value, zones) or cities.get(city)
        hint = f"did you mean '{match}'?" if match else "expected a name such as Europe/Paris"
        raise ValueError(f"found {found(value)}, which is no time zone: {hint}")
    return value


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _hours(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected one range such as 19:00-09:00")
    parse_hours(value)
    return value


def parse_hours(value: str) -> tuple[time, time]:
    """('19:00-09:00') to (from, to). Raises ValueError."""
    match = re.fullmatch(r"(\d{1,2}):(\d{2})\s*[-\u2013\u2014]\s*(\d{1,2}):(\d{2})", value)
    if not match:
        raise ValueError(f"found {found(value)}, expected one range such as 19:00-09:00")
    hour, minute, to_hour, to_minute = (int(group) for group in match.groups())
    if (to_hour, to_minute) == (24, 0):
        to_hour = 0
    if max(hour, to_hour) > 23 or max(minute, to_minute) > 59:
        raise ValueError(f"found {found(value)}, expected times from 00:00 to 23:59")
    if (hour, minute) == (to_hour, to_minute):
        raise ValueError(
            f"found {found(value)}, which begins and ends at the same time, "
            "expected one range such as 19:00-09:00"
        )
    return time(hour, minute), time(to_hour, to_minute)


def _country(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError("expected a country code such as FR")
    country, _, subdivision = value.partition("-")
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


class _Quiet(Strict):
    hours: Annotated[str, BeforeValidator(_hours)] | None = None
    weekends: bool = False
    public_holidays: Annotated[str, BeforeValidator(_country)] | None = None
    away: Annotated[list[Annotated[str, BeforeValidator(_away)]], one_or_many()] = []


class _Person(Strict):
    name: Name
    language: Literal["en", "fr"] = "en"
    timezone: Annotated[str, BeforeValidator(_timezone)] = "UTC"
    notify: list[Any] = []


class _Owner(_Person):
    hears: Annotated[list[Hears], one_or_many()] = ["resolved"]
    quiet: _Quiet | None = None
    overdue_after: Duration | None = None
    overdue_wakes: bool = False


class _File(Strict):
    providers: list[Any]
    owners: list[Any]


class PeopleReader:
    """Reads one people.yml, gathering every problem before it gives up."""

    def __init__(self, path: Path, today: date) -> None:
        self.path = path
        self.today = today
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []

    def read(self) -> tuple[tuple[Owner, ...], tuple[Provider, ...]]:
        """Owners and providers in file order. Raises ConfigError with every problem."""
        source = read(self.path)
        if not isinstance(source.data, dict):
            message = f"found {kind(source.data)}, expected 'providers:' and 'owners:'"
            raise ConfigError([source.problem((), message)])
        file = validate(_File, source.data, source, (), self.problems)
        if file is None:
            raise ConfigError(self.problems)
        providers = self._people(source, "providers", file.providers, _Person)
        owners = self._people(source, "owners", file.owners, _Owner)
        if self.problems:
            raise ConfigError(sorted(self.problems, key=lambda p: p.line))
        return (
            tuple(self._owner(source, where, person) for where, person in owners),
            tuple(
                Provider(person.name, person.language, person.timezone, self._notify(source, where))
                for where, person in providers
            ),
        )

    def _people(
        self, source: Source, role: str, entries: list[Any], model: type[_Person]
    ) -> list[tuple[Where, Any]]:
        if not entries:
            message = f"{role}: the list is empty: add at least one {role.removesuffix('s')}"
            self.problems.append(source.problem((role,), message))
        people: list[tuple[Where, Any]] = []
        first: dict[str, int] = {}
        for i, entry in enumerate(entries):
            where = (role, i)
            if not isinstance(entry, dict):
                message = f"{role}: found {kind(entry)}, expected 'name:' and a person's other keys"
                self.problems.append(source.problem(where, message))
                continue
            person = validate(model, entry, source, where, self.problems)
            if person is None:
                continue
            if person.name in first:
                message = (
                    f"found the name {short(person.name)} twice "
                    f"(first in line {first[person.name]}); give one of them another name"
                )
                self.problems.append(source.problem((*where, "name"), message))
            first.setdefault(person.name, source.line((*where, "name")))
            if not person.notify:
                message = (
                    f"{person.name} has no 'notify' and hears nothing: add for example an email"
                )
                self.warnings.append(source.problem(where, message))
            for n, entry in enumerate(person.notify):
                self._check_channel(source, (*where, "notify", n), entry)
            people.append((where, person))
        return people

    def _check_channel(self, source: Source, where: Where, entry: Any) -> None:
        def refuse(message: str) -> None:
            self.problems.append(source.problem(where, f"notify: {message}"))

        expected = (
            "expected 'email: ...', 'webhook: ...' or 'apprise: ...' (each also as '..._file'), "
            "or a receiver block of Alertmanager such as 'pagerduty_configs: ...'"
        )
        if isinstance(entry, dict) and len(entry) > 1:
            keys = " and ".join(short(key) for key in entry)
            refuse(f"found {keys} in one entry; give each an entry of its own")
            return
        if not isinstance(entry, dict) or not entry:
            refuse(f"found {kind(entry)}, {expected}")
            return
        key, value = next(iter(entry.items()))
        if key.endswith("_configs"):
            blocks = value if isinstance(value, list) else [value]
            if not blocks or not all(isinstance(block, dict) for block in blocks):
                refuse(
                    f"{key}: found {kind(value)}, expected 'key: value' pairs, or a list of such"
                )
            return
        form = key.removesuffix("_file")
        if form not in SHORT_FORMS:
            match = nearest(key, _CHECKS)
            hint = f"did you mean '{match}'?" if match else expected
            refuse(f"unknown channel {short(key)}: {hint}")
        elif not isinstance(value, str) or not value.strip():
            refuse(f"{key}: found {kind(value)}, expected {_EXPECTED_VALUE[key]}")
        elif not _CHECKS[key](value):
            shown = (
                f"found {found(value)}"
                if key == "email"
                else "found a text (not shown, it may be a secret)"
            )
            refuse(f"{key}: {shown}, expected {_EXPECTED_VALUE[key]}")

    def _notify(self, source: Source, where: Where) -> tuple[Channel, ...]:
        entries = _at(source.data, where).get("notify") or []
        channels = []
        for n, entry in enumerate(entries):
            place = f"{source.file}:{source.line((*where, 'notify', n))}"
            key, value = next(iter(entry.items()))
            if key.endswith("_configs"):
                blocks = value if isinstance(value, list) else [value]
                channels += [Channel(key, block, False, place) for block in blocks]
            else:
                short = key.removesuffix("_file")
                channels.append(Channel(short, value, short != key, place))
        return tuple(channels)

    def _owner(self, source: Source, where: Where, person: _Owner) -> Owner:
        return Owner(
            name=person.name,
            language=person.language,
            timezone=person.timezone,
            notify=self._notify(source, where),
            hears=frozenset(person.hears),
            quiet=self._quiet(source, (*where, "quiet"), person.quiet),
            overdue_after=person.overdue_after,
            overdue_wakes=person.overdue_wakes,
        )

    def _quiet(self, source: Source, where: Where, quiet: _Quiet | None) -> Quiet | None:
        if quiet is None:
            return None
        away = []
        for i, text in enumerate(quiet.away):
            first, last = parse_away(text)
            place = (*where, "away", i)
            if last < first:
                message = f"away: '{text}' is reversed; taken as {last}..{first}, write it so"
                self.warnings.append(source.problem(place, message))
                first, last = last, first
            if last < self.today:
                message = f"away: '{text}' is over; take it out"
                self.warnings.append(source.problem(place, message))
            away.append((first, last))
        return Quiet(
            hours=parse_hours(quiet.hours) if quiet.hours else None,
            weekends=quiet.weekends,
            public_holidays=quiet.public_holidays or "",
            away=tuple(away),
        )


def _is_http(value: str) -> bool:
    try:
        url = urlsplit(value)
        return url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
    except ValueError:
        return False


def _is_email(value: str) -> bool:
    return re.fullmatch(r"[^@\s,;<>:]+@[^@\s,;<>:]+", value) is not None


def _is_path(value: str) -> bool:
    return "://" not in value and value.isprintable()


_CHECKS: Mapping[str, Callable[[str], bool]] = {
    "email": _is_email,
    "webhook": _is_http,
    "apprise": lambda value: "://" in value,
    **{f"{form}_file": _is_path for form in SHORT_FORMS},
}
_EXPECTED_VALUE: Mapping[str, str] = {
    "email": "one address such as marie@example.com",
    "webhook": "a whole http or https URL such as https://hooks.example.com/abc",
    "apprise": "a whole Apprise URL such as ntfys://ntfy.example.com/topic",
    **{
        f"{form}_file": f"the path of a file with the {form} in it; "
        f"write '{form}:' for the {form} itself"
        for form in SHORT_FORMS
    },
}


def _at(data: Any, where: Where) -> Mapping[str, Any]:
    for step in where:
        data = data[step]
    return data  # type: ignore[no-any-return]
