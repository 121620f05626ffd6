"""status.yml: the pages of owners, planned maintenance, and notes. It may be missing."""

import hashlib
import hmac
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from datetime import time as clock
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field

from dolcevita.config.model import Duration, Name, Strict, one_or_many, validate
from dolcevita.config.people import Owner
from dolcevita.config.problems import ConfigError, Problem, did_you_mean, kind, short
from dolcevita.config.sites import Site
from dolcevita.config.source import Source, Where, read
from dolcevita.config.week import read_weekly

LOGOS = {".svg": "image/svg+xml", ".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}
"""Content type by the end of a logo's name."""

SHORTEST_TOKEN = 20


@dataclass(frozen=True, slots=True)
class OwnerPage:
    """The page of one owner's visitors. `title`, `colour` and `logo` may be empty or None."""

    owner: str
    token: str
    title: str
    colour: str
    logo: Path | None

    @property
    def path(self) -> str:
        """Where the page is, from the beginning of the server; the token in it is the secret."""
        return f"/status/{quote(self.owner, safe='')}/{self.token}"

    def badge_key(self, site: str) -> str:
        """What opens the badge of one site and nothing else: a page with it shows no token."""
        return hmac.new(self.token.encode(), site.encode(), hashlib.sha256).hexdigest()[:32]

    def badge(self, site: str) -> str:
        """Where the badge of a site is, from the beginning of the server."""
        owner, name = quote(self.owner, safe=""), quote(site, safe="")
        return f"/status/{owner}/badge/{self.badge_key(site)}/{name}.svg"


@dataclass(frozen=True, slots=True)
class Once:
    """[start, end) in unix seconds."""

    start: float
    end: float

    def ahead(self, now: float) -> tuple[float, float] | None:
        """The time itself, unless it is over."""
        return (self.start, self.end) if now < self.end else None


@dataclass(frozen=True, slots=True)
class Weekly:
    """Nights of each week on the clock of a time zone."""

    nights: tuple[tuple[int, int, int], ...]
    zone: ZoneInfo

    def ahead(self, now: float) -> tuple[float, float] | None:
        """[start, end) in unix seconds of the one under way, or of the next one."""
        today = datetime.fromtimestamp(now, self.zone).date()
        found = []
        for day in (today + timedelta(days=n) for n in range(-1, 15)):
            for weekday, begin, finish in self.nights:
                if weekday == day.weekday():
                    last = day if begin < finish else day + timedelta(days=1)
                    start, end = (
                        datetime.combine(d, clock(*divmod(m, 60)), self.zone).timestamp()
                        for d, m in ((day, begin), (last, finish))
                    )
                    # An hour that a change of the clock leaves out is no time at all.
                    if now < end and start < end:
                        found.append((start, end))
        return min(found, default=None)


@dataclass(frozen=True, slots=True)
class Window:
    """Planned work on sites and hosts, by name."""

    sites: tuple[str, ...]
    hosts: tuple[str, ...]
    when: Once | Weekly
    because: str
    counts: bool


@dataclass(frozen=True, slots=True)
class Note:
    """A word to visitors, of `owners` or of everyone where there are none. `at` is unix seconds."""

    at: float
    text: str
    owners: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Status:
    """One status.yml. `url` is where visitors reach the page, '' where that is not said."""

    url: str = ""
    pages: tuple[OwnerPage, ...] = ()
    maintenance: tuple[Window, ...] = ()
    notes: tuple[Note, ...] = ()

    @property
    def addresses(self) -> dict[str, str]:
        """Where the page of each owner is, for the owners that have one and can be sent there."""
        return {page.owner: self.url + page.path for page in self.pages if self.url}


def moment(text: str, timezone: str) -> float:
    """Unix seconds of '2027-07-10 22:00' on the clock of `timezone`. Raises ValueError."""
    if not re.fullmatch(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d", text):
        raise ValueError("expected a time such as 2027-07-10 22:00")
    try:
        naive = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("expected a day and time that exist, such as 2027-07-10 22:00") from None
    return naive.replace(tzinfo=ZoneInfo(timezone)).timestamp()


def _moment(text: str) -> str:
    moment(text, "UTC")
    return text


def _url(text: str) -> str:
    if not re.fullmatch(r"https?://[^\s/?#@{}\"'<>`\\]+(/[^\s?#{}\"'<>`\\]*)?", text):
        raise ValueError("expected an address such as https://status.example.com")
    return text.rstrip("/")


def _colour(text: str) -> str:
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", text):
        raise ValueError('expected a colour such as "#00695c"')
    return text


def _token(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_-]*", text):
        raise ValueError("found other characters than letters, digits, - and _ in it (not shown)")
    if len(text) < SHORTEST_TOKEN:
        raise ValueError(
            f"found {len(text)} characters (not shown), expected {SHORTEST_TOKEN} or more, so that "
            "nobody guesses them: `openssl rand -hex 16` makes some"
        )
    return text


Moment = Annotated[str, AfterValidator(_moment)]
Names = Annotated[list[Name], one_or_many()]
Text = Annotated[str, Field(min_length=1, max_length=2000)]


class _Page(Strict):
    owner: Name
    token: Annotated[str, AfterValidator(_token)]
    name: Name | None = None
    logo: str = ""
    colour: Annotated[str, AfterValidator(_colour)] | None = None


class _Window(Strict):
    sites: Names = []
    hosts: Names = []
    start: Moment | None = Field(None, alias="from")
    length: Duration | None = Field(None, alias="for")
    every: Annotated[list[str], one_or_many()] = []
    because: Text
    counts: bool = True


class _Note(Strict):
    at: Moment
    text: Text
    owners: Names = []


class _File(Strict):
    url: Annotated[str, AfterValidator(_url)] | None = None
    pages: list[Any] = []
    maintenance: list[Any] = []
    notes: list[Any] = []


def load_status(path: Path, sites: Iterable[Site], owners: Iterable[Owner]) -> Status:
    """Read status.yml; a file that is not there says nothing. Raises ConfigError.

    Its times are on the clock of the first owner of the sites or notes that they are about.
    """
    if not path.exists():
        return Status()
    return _Reader(path, tuple(sites), tuple(owners)).read()


class _Reader:
    """Reads one status.yml, gathering every problem before it gives up."""

    def __init__(self, path: Path, sites: tuple[Site, ...], owners: tuple[Owner, ...]) -> None:
        self.path = path
        self.sites = sites
        self.zones = {owner.name: owner.timezone for owner in owners}
        self.problems: list[Problem] = []

    def read(self) -> Status:
        source = read(self.path)
        if not isinstance(source.data, dict):
            message = f"found {kind(source.data)}, expected 'pages:', 'maintenance:' or 'notes:'"
            raise ConfigError([source.problem((), message)])
        file = validate(_File, source.data, source, (), self.problems)
        if file is None:
            raise ConfigError(self.problems)
        pages = [
            self._page(source, where, page)
            for where, page in self._entries(source, "pages", file.pages, _Page)
        ]
        windows = [
            self._window(source, where, window)
            for where, window in self._entries(source, "maintenance", file.maintenance, _Window)
        ]
        notes = [
            self._note(source, where, note)
            for where, note in self._entries(source, "notes", file.notes, _Note)
        ]
        if self.problems:
            raise ConfigError(sorted(self.problems, key=lambda problem: problem.line))
        return Status(file.url or "", tuple(pages), tuple(windows), tuple(notes))

    def _entries(
        self, source: Source, key: str, entries: list[Any], model: type[Strict]
    ) -> list[tuple[Where, Any]]:
        found: list[tuple[Where, Any]] = []
        for i, entry in enumerate(entries):
            where: Where = (key, i)
            if not isinstance(entry, dict):
                message = f"{key}: found {kind(entry)}, expected 'key: value' pairs"
                self.problems.append(source.problem(where, message))
            elif (parsed := validate(model, entry, source, where, self.problems)) is not None:
                found.append((where, parsed))
        return found

    def _page(self, source: Source, where: Where, page: _Page) -> OwnerPage:
        self._known(source, (*where, "owner"), "owner", [page.owner], self.zones)
        logo = self.path.parent / page.logo if page.logo else None
        if logo and logo.suffix.lower() not in LOGOS:
            message = f"logo: found {short(page.logo)}, expected a file named {', '.join(LOGOS)}"
            self.problems.append(source.problem((*where, "logo"), message))
        elif logo and not logo.is_file():
            message = f"logo: {short(page.logo)} is no file; the path counts from {self.path.name}"
            self.problems.append(source.problem((*where, "logo"), message))
        return OwnerPage(page.owner, page.token, page.name or "", page.colour or "", logo)

    def _window(self, source: Source, where: Where, window: _Window) -> Window:
        if not window.sites and not window.hosts:
            message = "found neither 'sites' nor 'hosts': say what is worked on"
            self.problems.append(source.problem(where, message))
        names = {site.name for site in self.sites}
        hosts = {site.host for site in self.sites if site.host}
        self._known(source, (*where, "sites"), "site", window.sites, names)
        self._known(source, (*where, "hosts"), "host", window.hosts, hosts)
        owners = [s.owner for s in self.sites if s.name in window.sites or s.host in window.hosts]
        return Window(
            tuple(window.sites),
            tuple(window.hosts),
            self._when(source, where, window, self._zone(owners)),
            window.because,
            window.counts,
        )

    def _when(self, source: Source, where: Where, window: _Window, zone: str) -> Once | Weekly:
        if window.every and window.start is None and window.length is None:
            nights = read_weekly(source, (*where, "every"), window.every, self.problems)
            return Weekly(tuple(nights), ZoneInfo(zone))
        if window.every or window.start is None or window.length is None:
            message = (
                "expected 'from' and 'for', or for what comes each week only 'every', "
                "such as every: sunday 02:00-04:00"
            )
            self.problems.append(source.problem(where, message))
            return Once(0, 0)
        start = moment(window.start, zone)
        return Once(start, start + window.length)

    def _note(self, source: Source, where: Where, note: _Note) -> Note:
        self._known(source, (*where, "owners"), "owner", note.owners, self.zones)
        return Note(moment(note.at, self._zone(note.owners)), note.text, tuple(note.owners))

    def _zone(self, owners: list[str]) -> str:
        known = [self.zones[name] for name in owners if name in self.zones]
        return next(iter([*known, *self.zones.values()]), "UTC")

    def _known(
        self, source: Source, where: Where, what: str, names: list[str], known: Collection[str]
    ) -> None:
        for name in names:
            if name not in known:
                message = f"no {what} is named {short(name)}: {did_you_mean(name, known)}"
                self.problems.append(source.problem(where, message))
