"""sites.yml: WHAT is watched."""

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator

from dolcevita.config.model import (
    Duration,
    Name,
    Strict,
    format_duration,
    one_or_many,
    validate,
)
from dolcevita.config.problems import ConfigError, Problem, did_you_mean, found, kind, short
from dolcevita.config.source import Source, Where, read

EVERY = 15.0
SENTINEL_EVERY = 5.0
TIMEOUT = 10.0
SENTINEL_TIMEOUT = 3.0
SHORTEST_EVERY = 1.0
LONGEST_EVERY = 120.0
"""Prometheus forgets a series five minutes after its last sample; two scrapes must fit."""

RECOVER_AFTER = 70.0
"""Longer than a minute, so that a site flapping every minute stays one incident."""

RESERVED_LABELS = frozenset(
    "site owner provider host place instance job severity alertname alertstate since until digest "
    "audience drill reason phase version le quantile exported_job exported_instance "
    "__name__".split()
)

HERE = "here"
"""The address of the place whose exporter is this one."""

HOSTLESS = frozenset(["unix", "heartbeat"])
"""Schemes whose URLs may name no host."""


class KindModels(Protocol):
    """What the loader needs to know of a kind of prober.

    `fault` gives what is wrong with a URL, to be said after 'found URL, which'; '' for nothing.
    """

    @property
    def name(self) -> str: ...
    @property
    def options(self) -> type[Strict]: ...
    @property
    def expect(self) -> type[Strict]: ...
    @property
    def fault(self) -> Callable[[str], str]: ...


@dataclass(frozen=True, slots=True)
class Site:
    """One watched site. Times are seconds; `host` is '' where none was given.

    `options` and `expect` are the models of the site's kind. `objective` is the part of the time
    that it should answer, above 0 and below 1. `places` are those that it is watched from, all of
    them where none are named.
    """

    name: str
    url: str
    kind: str
    owner: str
    provider: str
    host: str
    every: float
    timeout: float
    down_after: float
    recover_after: float
    sentinel: bool
    labels: Mapping[str, str]
    options: BaseModel
    expect: BaseModel
    objective: float | None = None
    places: tuple[str, ...] = ()
    source: str = ""

    def watched_from(self, place: str) -> bool:
        """Whether it is probed at that place."""
        return not self.places or place in self.places


def check_url(
    text: str, kinds: Mapping[str, KindModels], planned: Collection[str] = ()
) -> SplitResult:
    """A URL that its kind of prober can take, or that is of a planned one.

    Raises ValueError as parse_url does.
    """
    url = parse_url(text, {*kinds, *planned})
    if url.scheme in kinds and (fault := kinds[url.scheme].fault(text)):
        raise ValueError(f"found {short(text)}, which {fault}")
    return url


def parse_url(text: str, schemes: Collection[str]) -> SplitResult:
    """A URL of one of `schemes`.

    Raises ValueError with what was found and what to do; it shows no password of the URL.
    """
    shown = short(re.sub(r"^([^/]*://)?.*@", r"\1...@", text, flags=re.DOTALL))
    if re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError(
            f"found {shown}, which has a space or line break: take it out, or write %20"
        )
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        rest = re.sub(r"^(https?)?[:/\\]*|^.*@", "", shown.strip("'"))
        if "://" in rest or not rest:
            rest = "www.example.com"
        raise ValueError(f"found {shown}, which has no scheme: write for example https://{rest}")
    try:
        url = urlsplit(text)
    except ValueError:
        raise ValueError(
            f"found {shown}, whose host cannot be read: check its spelling; "
            "an IPv6 address goes in brackets, as in https://[2001:db8::1]/"
        ) from None
    if url.scheme not in schemes:
        hint = did_you_mean(url.scheme, schemes)
        raise ValueError(f"found {shown}, whose scheme '{url.scheme}' is not known: {hint}")
    if url.username is not None or url.password is not None:
        raise ValueError(
            "holds a user name or password, which would be shown wherever the URL is: "
            "take it out, up to and with the @"
        )
    if url.scheme in HOSTLESS:
        return url
    if not url.hostname:
        hint = f"write for example {url.scheme}://www.example.com"
        raise ValueError(f"found {shown}, which has no host: {hint}")
    if "[" not in url.netloc and url.netloc.count(":") > 1:
        raise ValueError(
            f"found {shown}: an IPv6 address goes in brackets, as in {url.scheme}://[2001:db8::1]/"
        )
    if "[" not in url.netloc and not _is_host(url.hostname):
        message = f"whose host {short(url.hostname)} is no host name: check its spelling"
        raise ValueError(f"found {shown}, {message}")
    try:
        fits = url.port != 0
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"found {shown}, whose port is not a number from 1 to 65535")
    return url


def _is_host(host: str) -> bool:
    """Whether it may be a host name or an IPv4 address (RFC 1123; letters of any script)."""
    labels = host.removesuffix(".").split(".")
    if labels[-1].isdigit():
        try:
            ipaddress.IPv4Address(host)
        except ValueError:
            return False
    return len(host) < 254 and all(re.fullmatch(r"[\w-]{1,63}", label) for label in labels)


def parse_objective(value: Any) -> float:
    """0.999 from '99.9%'. Raises ValueError on what is no percentage between 0 and 100.

    100% is none: it leaves no error budget that could burn.
    """
    match = re.fullmatch(r"(\d{1,3}(?:\.\d{1,9})?)\s*%", value) if isinstance(value, str) else None
    percent = Decimal(match[1]) if match else Decimal(0)
    if not 0 < percent < 100:
        raise ValueError("expected a percentage above 0% and below 100%, such as 99.9%")
    return float(percent / 100)


def _default_objective(defaults: Mapping[str, Any]) -> float | None:
    text = defaults.get("objective")
    return None if text is None else parse_objective(text)


Objective = Annotated[float, BeforeValidator(parse_objective)]


def _label(value: Any) -> Any:
    if not isinstance(value, str | int | float):
        raise ValueError("expected a text")
    return value


class _Timing(Strict):
    every: Duration | None = None
    timeout: Duration | None = None
    down_after: Duration | None = None
    recover_after: Duration | None = None


class _Defaults(_Timing):
    owner: str | None = None
    provider: str | None = None
    host: str | None = None
    objective: Objective | None = None
    labels: dict[str, Annotated[Any, AfterValidator(_label)]] = {}


class _Entry(_Defaults):
    url: Any
    name: Name | None = None
    sentinel: bool = False
    places: Annotated[tuple[str, ...], one_or_many()] = ()


class _File(Strict):
    defaults: Any = None
    places: Any = None
    sites: list[Any]


class SitesReader:
    """Reads one sites.yml, gathering every problem before it gives up."""

    def __init__(
        self,
        path: Path,
        kinds: Mapping[str, KindModels],
        planned: Collection[str],
        owners: tuple[str, ...],
        providers: tuple[str, ...],
    ) -> None:
        self.path = path
        self.kinds = kinds
        self.planned = planned
        self.people = {"owner": owners, "provider": providers}
        self.problems: list[Problem] = []
        self.warnings: list[Problem] = []
        self.lines: dict[str, int] = {}
        self.places: dict[str, str] = {}
        self.defaults_at_fault = False

    def read(self) -> tuple[Site, ...]:
        """The sites in file order. Raises ConfigError with every problem of the file."""
        source = read(self.path)
        if not isinstance(source.data, dict):
            message = f"found {kind(source.data)}, expected 'sites:' and a list below it"
            raise ConfigError([source.problem((), message)])
        file = validate(_File, source.data, source, (), self.problems)
        if file is None:
            raise ConfigError(self.problems)
        if not file.sites:
            message = "sites: the list is empty: add a URL to it"
            self.problems.append(source.problem(("sites",), message))
        defaults = self._defaults(source, file.defaults)
        self.places = self._places(source, file.places)
        sites = [
            site
            for i, entry in enumerate(file.sites)
            if (site := self._site(source, ("sites", i), entry, defaults))
        ]
        if self.problems:
            raise ConfigError(sorted(dict.fromkeys(self.problems), key=lambda p: p.line))
        return tuple(sites)

    def _defaults(self, source: Source, data: Any) -> dict[str, Any]:
        if data is None:
            return {}
        where: Where = ("defaults",)
        valid: dict[str, Any] = data if isinstance(data, dict) else {}
        if validate(_Defaults, data, source, where, self.problems) is None:
            # What is right of them still counts, or each site would be blamed as well.
            self.defaults_at_fault = True
            valid = {
                key: value
                for key, value in valid.items()
                if validate(_Defaults, {key: value}, source, where, [])
            }
        known = _Defaults.model_validate(valid)
        self._check_labels(source, (*where, "labels"), known.labels)
        for role in ("owner", "provider"):
            self._check_person(source, (*where, role), role, getattr(known, role))
        timing = self._timing(source, where, {}, valid, sentinel=False)
        if timing and known.every and known.timeout and known.timeout > known.every:
            self._refuse_timeout(source, (*where, "timeout"), known.timeout, known.every)
        return valid

    def _places(self, source: Source, data: Any) -> dict[str, str]:
        """The exporter of each place as `http://host:port`, HERE for this one."""
        expected = "expected 'name: http://address:9714', a line for each place, or 'name: here'"
        if data is None:
            return {}
        if not isinstance(data, dict):
            self.problems.append(
                source.problem(("places",), f"places: found {kind(data)}, {expected}")
            )
            return {}
        places: dict[str, str] = {}
        for name, address in data.items():
            try:
                if not isinstance(name, str) or not re.fullmatch(r"[\w.-]{1,60}", name):
                    raise ValueError(
                        f"found the name {short(str(name))}, expected letters, digits, . - and _"
                    )
                places[name] = self._exporter(address, expected)
                first = next(other for other in places if places[other] == places[name])
                if first != name:
                    raise ValueError(
                        f"found {short(address)} for {name} as for {first}: each place has an "
                        "exporter of its own"
                    )
            except ValueError as error:
                self.problems.append(source.problem(("places", name), f"places: {error}"))
        return places

    def _exporter(self, address: Any, expected: str) -> str:
        if address == HERE:
            return HERE
        if not isinstance(address, str):
            raise ValueError(f"found {found(address)}, {expected}")
        url = parse_url(address, ("http", "https"))
        if url.path.strip("/") or url.query or url.fragment:
            raise ValueError(f"found {short(address)}, expected no path behind the address")
        return f"{url.scheme}://{url.netloc}"

    def _site(
        self, source: Source, where: Where, data: Any, defaults: dict[str, Any]
    ) -> Site | None:
        if isinstance(data, str):
            data = {"url": data}
        if not isinstance(data, dict):
            message = (
                f"sites: found {found(data)}, expected a URL, or 'url:' and a site's other keys"
            )
            self.problems.append(source.problem(where, message))
            return None
        as_key = next((key for key in data if "://" in key), None)
        if as_key and "url" not in data:
            message = (
                "found a URL with a ':' behind it, expected 'url: ' before it "
                "and the site's other keys in lines below"
            )
            self.problems.append(source.problem((*where, as_key), message))
            return None
        before = len(self.problems)
        url = self._url(source, where, data.get("url"))
        kind = self.kinds.get(url.scheme) if url else None
        # Beside a URL that is none, every kind may be the one that is meant.
        every = (kind.name for kind in self.kinds.values())
        meant = {kind.name if kind else url.scheme} if url else set(every)
        special = ("expect", *sorted(meant))
        entry = validate(
            _Entry,
            {key: value for key, value in data.items() if key not in special},
            source,
            where,
            self.problems,
            also_known=special,
        )
        if entry is None:
            return None
        timing = self._timing(source, where, data, defaults, entry.sentinel)
        self._check_labels(source, (*where, "labels"), entry.labels)
        for i, place in enumerate(entry.places):
            if place not in self.places:
                hint = did_you_mean(place, self.places) if self.places else "add it to 'places:'"
                message = f"unknown place {short(place)}: {hint}"
                self.problems.append(source.problem((*where, "places", i), message))
        owner = self._person(source, where, "owner", entry.owner, defaults)
        provider = self._person(source, where, "provider", entry.provider, defaults)
        if url is None:
            return None
        name = entry.name or _name(url)
        if not name:
            message = "'name' is missing, and the URL has none to go by: add it"
            self.problems.append(source.problem((*where, "url"), message))
            return None
        self._refuse_duplicate(source, where, name)
        if kind is None:
            if len(self.problems) == before:
                message = f"no prober for {url.scheme} yet: {name} is not watched"
                self.warnings.append(source.problem((*where, "url"), message))
            return None
        options, expect = (
            validate(
                model,
                {} if data.get(key) is None else data[key],
                source,
                (*where, key),
                self.problems,
            )
            for key, model in ((kind.name, kind.options), ("expect", kind.expect))
        )
        if options is None or expect is None or timing is None or len(self.problems) > before:
            return None
        return Site(
            name=name,
            url=data["url"],
            kind=kind.name,
            owner=owner,
            provider=provider,
            host=entry.host or defaults.get("host") or "",
            every=timing["every"],
            timeout=timing["timeout"],
            down_after=timing["down_after"],
            recover_after=timing["recover_after"],
            sentinel=entry.sentinel,
            labels={
                **_label_texts(source, ("defaults", "labels"), defaults.get("labels", {})),
                **_label_texts(source, (*where, "labels"), entry.labels),
            },
            options=options,
            expect=expect,
            objective=entry.objective or _default_objective(defaults),
            places=entry.places,
            source=f"{source.file}:{source.line(where)}",
        )

    def _url(self, source: Source, where: Where, value: Any) -> SplitResult | None:
        where = (*where, "url")
        if value is None and where not in source.lines:
            return None  # Told as a missing key.
        try:
            if not isinstance(value, str) or not value:
                raise ValueError(
                    f"found {found(value)}, expected a URL such as https://www.example.com"
                )
            return check_url(value, self.kinds, self.planned)
        except ValueError as error:
            self.problems.append(source.problem(where, f"url: {error}"))
            return None

    def _timing(
        self,
        source: Source,
        where: Where,
        data: dict[str, Any],
        defaults: dict[str, Any],
        sentinel: bool,
    ) -> dict[str, float] | None:
        own = _Timing.model_validate({k: data[k] for k in _Timing.model_fields if k in data})
        common = _Timing.model_validate(
            {k: defaults[k] for k in _Timing.model_fields if k in defaults}
        )
        base = SENTINEL_EVERY if sentinel else common.every or EVERY
        every = own.every or base
        longest_fit = every - min(1.0, every / 5)
        wanted = SENTINEL_TIMEOUT if sentinel else common.timeout or TIMEOUT
        timeout = own.timeout or min(wanted, longest_fit)
        if not SHORTEST_EVERY <= every <= LONGEST_EVERY:
            place = (*where, "every") if "every" in data else ("defaults", "every")
            message = f"every: found {format_duration(every)}, expected a duration from 1s to 2m"
            self.problems.append(source.problem(place, message))
            return None
        if timeout > every:
            self._refuse_timeout(source, (*where, "timeout"), timeout, every)
            return None
        down_after = own.down_after or common.down_after or every + timeout
        recover_after = own.recover_after or common.recover_after or max(RECOVER_AFTER, 2 * every)
        return {
            "every": every,
            "timeout": timeout,
            "down_after": down_after,
            "recover_after": recover_after,
        }

    def _refuse_timeout(self, source: Source, where: Where, timeout: float, every: float) -> None:
        message = (
            f"timeout: found {format_duration(timeout)}, which is longer than "
            f"every: {format_duration(every)}; make it shorter"
        )
        self.problems.append(source.problem(where, message))

    def _check_labels(self, source: Source, where: Where, labels: Mapping[str, Any]) -> None:
        for name in labels:
            if name in RESERVED_LABELS:
                message = f"labels: '{name}' is used by the stack itself; choose another name"
            elif not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) or name.startswith("__"):
                message = (
                    f"labels: found the name {short(name)}, "
                    "expected letters, digits and _, not beginning with a digit or __"
                )
            else:
                continue
            self.problems.append(source.problem((*where, name), message))

    def _person(
        self, source: Source, where: Where, role: str, own: str | None, defaults: Mapping[str, Any]
    ) -> str:
        """The site's own, the default one, or the only one there is; '' with a problem noted."""
        names = self.people[role]
        if own is not None:
            self._check_person(source, (*where, role), role, own)
            return own
        if defaults.get(role) is not None:
            return str(defaults[role])
        if len(names) == 1:
            return names[0]
        if names and not self.defaults_at_fault:
            message = (
                f"'{role}' is missing: name one of {', '.join(sorted(names))}, "
                "here or in 'defaults:'"
            )
            self.problems.append(source.problem(where, message))
        return ""

    def _check_person(self, source: Source, where: Where, role: str, name: str | None) -> None:
        names = self.people[role]
        # No names at all: people.yml is at fault, and says so itself.
        if name is not None and names and name not in names:
            message = f"unknown {role} {short(name)}: {did_you_mean(name, names)}"
            self.problems.append(source.problem(where, message))

    def _refuse_duplicate(self, source: Source, where: Where, name: str) -> None:
        line = source.line(where)
        if name in self.lines:
            message = (
                f"found the name {short(name)} twice (first in line {self.lines[name]}); "
                "take one out, or give it another 'name'"
            )
            self.problems.append(source.problem(where, message))
        self.lines.setdefault(name, line)


def _name(url: SplitResult) -> str:
    """A URL alone is named by its host, with port and path where there are any."""
    path = url.path.rstrip("/")
    query = f"?{url.query}" if url.query else ""
    return f"{url.netloc}{path}{query}"


def _label_texts(source: Source, where: Where, labels: Mapping[str, Any]) -> dict[str, str]:
    """Labels as they were written: 1.10 is no number here."""
    return {name: _label_text(source, (*where, name), value) for name, value in labels.items()}


def _label_text(source: Source, where: Where, value: str | int | float | bool) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else source.numbers.get(where, str(value))
