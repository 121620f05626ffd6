"""people.yml: WHO is told, and WHEN they want peace."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from zoneinfo import available_timezones

from pydantic import BeforeValidator

from dolcevita.config import week
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
from dolcevita.config.quiet import Quiet, QuietModel, Times, Working
from dolcevita.config.source import Source, Where, read

Hears = Literal["resolved", "down", "overdue", "warnings", "report"]
SHORT_FORMS = ("email", "webhook", "apprise")

OVERDUE_AFTER = 4 * 3600.0
"""Seconds, for an owner who hears of what is overdue and does not say when that is."""


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
class Person:
    """What owners and providers have in common."""

    name: str
    language: str
    timezone: str
    notify: tuple[Channel, ...]


@dataclass(frozen=True, slots=True)
class Escalation:
    """Who is called when a provider has not fixed an incident `after` seconds."""

    to: str
    after: float


@dataclass(frozen=True, slots=True)
class Provider(Person):
    """On call round the clock: gets every page and every recovery.

    Warnings wait while `off`: the time outside of their working hours.
    """

    off: Quiet | None = None
    escalate: Escalation | None = None


@dataclass(frozen=True, slots=True)
class Owner(Person):
    """Gets good news, never in quiet hours. `overdue_after` is seconds, None when not told."""

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


class _Person(Strict):
    name: Name
    language: Literal["en", "fr"] = "en"
    timezone: Annotated[str, BeforeValidator(_timezone)] = "UTC"
    notify: list[Any] = []


class _Escalation(Strict):
    to: Name
    after: Duration


class _Provider(_Person):
    working_hours: Working | None = None
    escalate: _Escalation | None = None


class _Owner(_Person):
    hears: Annotated[list[Hears], one_or_many()] = ["resolved"]
    quiet: QuietModel | None = None
    overdue_after: Duration | None = None
    overdue_wakes: bool = False


_TIMES: Mapping[str, tuple[str, week.ReadHours]] = {
    "providers": ("working_hours", week.read_off),
    "owners": ("quiet", week.read_quiet),
}
"""By list of people: the key of their times, and how its hours become quiet ones."""


class _File(Strict):
    providers: list[Any]
    owners: list[Any]
    watchdog: Any = None
    watchdog_file: Any = None


class PeopleReader:
    """Reads one people.yml, gathering every problem before it gives up.

    After `read`, `watchdog` is where to send the sign of life, a webhook, if anywhere.
    """

    def __init__(self, path: Path, today: date) -> None:
        self.path = path
        self.today = today
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.watchdog: Channel | None = None

    def read(self) -> tuple[tuple[Owner, ...], tuple[Provider, ...]]:
        """Owners and providers in file order. Raises ConfigError with every problem."""
        source = read(self.path)
        if not isinstance(source.data, dict):
            message = f"found {kind(source.data)}, expected 'providers:' and 'owners:'"
            raise ConfigError([source.problem((), message)])
        file = validate(_File, source.data, source, (), self.problems)
        if file is None:
            raise ConfigError(self.problems)
        times = Times(source, self.today, self.problems, self.warnings)
        providers = self._people(source, "providers", file.providers, _Provider, times)
        owners = self._people(source, "owners", file.owners, _Owner, times)
        self.watchdog = self._watchdog(source)
        self._check_escalations(source, providers)
        if self.problems:
            raise ConfigError(sorted(self.problems, key=lambda p: p.line), times.files)
        return (
            tuple(self._owner(source, where, person, times) for where, person in owners),
            tuple(self._provider(source, where, person, times) for where, person in providers),
        )

    def _people(
        self,
        source: Source,
        role: str,
        entries: list[Any],
        model: type[_Person],
        times: Times,
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
            key, read_hours = _TIMES[role]
            times.read_hours((*where, key), read_hours)
            person = validate(model, entry, source, where, self.problems)
            if person is None:
                continue
            if wanted := getattr(person, key):
                times.read((*where, key), wanted, person.timezone)
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

    def _watchdog(self, source: Source) -> Channel | None:
        given = [key for key in ("watchdog", "watchdog_file") if key in source.data]
        if len(given) > 1:
            message = "found 'watchdog' and 'watchdog_file'; keep one"
            self.problems.append(source.problem((given[1],), message))
        for key in given:
            value = source.data[key]
            form = key.replace("watchdog", "webhook")
            if isinstance(value, str) and _CHECKS[form](value):
                place = f"{source.file}:{source.line((key,))}"
                return Channel("webhook", value, form != "webhook", place)
            hidden = " (not shown, it may be a secret)" if isinstance(value, str) else ""
            message = f"{key}: found {kind(value)}{hidden}, expected {_EXPECTED_VALUE[form]}"
            self.problems.append(source.problem((key,), message))
        return None

    def _check_escalations(
        self, source: Source, providers: list[tuple[Where, "_Provider"]]
    ) -> None:
        names = {person.name for _, person in providers}
        for where, person in providers:
            if person.escalate is None or person.escalate.to in names - {person.name}:
                continue
            to = person.escalate.to
            hint = (
                "name somebody else"
                if to == person.name
                else did_you_mean(to, names - {person.name})
            )
            message = f"escalate.to: found {short(to)}, expected another provider: {hint}"
            self.problems.append(source.problem((*where, "escalate", "to"), message))

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

    def _provider(self, source: Source, where: Where, person: _Provider, times: Times) -> Provider:
        escalate = person.escalate
        return Provider(
            name=person.name,
            language=person.language,
            timezone=person.timezone,
            notify=self._notify(source, where),
            off=times.of((*where, "working_hours")),
            escalate=Escalation(escalate.to, escalate.after) if escalate else None,
        )

    def _owner(self, source: Source, where: Where, person: _Owner, times: Times) -> Owner:
        overdue_after = person.overdue_after
        if overdue_after is None and "overdue" in person.hears:
            overdue_after = OVERDUE_AFTER
        return Owner(
            name=person.name,
            language=person.language,
            timezone=person.timezone,
            notify=self._notify(source, where),
            hears=frozenset(person.hears),
            quiet=times.of((*where, "quiet")),
            overdue_after=overdue_after,
            overdue_wakes=person.overdue_wakes,
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
