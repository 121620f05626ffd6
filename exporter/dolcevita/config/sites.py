"""sites.yml: WHAT is watched."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Protocol
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, Field

from dolcevita.config.model import Duration, Strict, format_duration, validate
from dolcevita.config.problems import ConfigError, Problem, did_you_mean, found
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
    "site owner provider host instance job severity alertname alertstate since until digest "
    "reason phase version le quantile exported_job exported_instance __name__".split()
)


class KindModels(Protocol):
    """What the loader needs to know of a kind of prober."""

    @property
    def name(self) -> str: ...
    @property
    def options(self) -> type[Strict]: ...
    @property
    def expect(self) -> type[Strict]: ...


@dataclass(frozen=True, slots=True)
class Site:
    """One watched site. Times are seconds; `host` is '' where none was given.

    `options` and `expect` are the models of the site's kind.
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
    source: str = ""


class _Timing(Strict):
    every: Duration | None = None
    timeout: Duration | None = None
    down_after: Duration | None = None
    recover_after: Duration | None = None


class _Defaults(_Timing):
    owner: str | None = None
    provider: str | None = None
    host: str | None = None
    labels: dict[str, str | int | float | bool] = {}


class _Entry(_Defaults):
    url: str
    name: Annotated[str, Field(min_length=1, max_length=120)] | None = None
    sentinel: bool = False


class _File(Strict):
    defaults: Any = None
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

    def read(self) -> tuple[Site, ...]:
        """The sites in file order. Raises ConfigError with every problem of the file."""
        source = read(self.path)
        if not isinstance(source.data, dict):
            message = f"found {found(source.data)}, expected 'sites:' and a list below it"
            raise ConfigError([source.problem((), message)])
        file = validate(_File, source.data, source, (), self.problems)
        if file is None:
            raise ConfigError(self.problems)
        defaults = self._defaults(source, file.defaults)
        if not file.sites:
            self.problems.append(source.problem(("sites",), "the list is empty: add a URL to it"))
        sites = [
            site
            for i, entry in enumerate(file.sites)
            if (site := self._site(source, ("sites", i), entry, defaults))
        ]
        self._refuse_duplicates(sites)
        if self.problems:
            raise ConfigError(sorted(self.problems, key=lambda p: p.line))
        return tuple(sites)

    def _defaults(self, source: Source, data: Any) -> dict[str, Any]:
        if data is None:
            return {}
        known = validate(_Defaults, data, source, ("defaults",), self.problems)
        if known is None:
            return {}
        self._check_labels(source, ("defaults", "labels"), known.labels)
        for role in ("owner", "provider"):
            self._person(source, ("defaults", role), role, getattr(known, role), optional=True)
        return dict(data)

    def _site(
        self, source: Source, where: Where, data: Any, defaults: dict[str, Any]
    ) -> Site | None:
        if isinstance(data, str):
            data = {"url": data}
        if not isinstance(data, dict):
            message = f"found {found(data)}, expected a URL or a mapping with 'url:'"
            self.problems.append(source.problem(where, message))
            return None
        before = len(self.problems)
        url = self._url(source, where, data.get("url"))
        kind = self.kinds.get(url.scheme) if url else None
        special = ("expect", kind.name if kind else url.scheme if url else "")
        entry = validate(
            _Entry,
            {key: value for key, value in data.items() if key not in special},
            source,
            where,
            self.problems,
            also_known=special,
        )
        if entry is None or url is None:
            return None
        timing = self._timing(source, where, data, defaults, entry.sentinel)
        labels = {**defaults.get("labels", {}), **entry.labels}
        self._check_labels(source, (*where, "labels"), entry.labels)
        owner = self._person(
            source, (*where, "owner"), "owner", entry.owner or defaults.get("owner")
        )
        provider = self._person(
            source, (*where, "provider"), "provider", entry.provider or defaults.get("provider")
        )
        name = entry.name or _name(url)
        if kind is None:
            if len(self.problems) == before:
                message = f"no prober for {url.scheme} yet: {name} is not watched"
                self.warnings.append(source.problem((*where, "url"), message))
            return None
        options = validate(
            kind.options, data.get(kind.name) or {}, source, (*where, kind.name), self.problems
        )
        expect = validate(
            kind.expect, data.get("expect") or {}, source, (*where, "expect"), self.problems
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
            labels={key: _label_text(value) for key, value in labels.items()},
            options=options,
            expect=expect,
            source=f"{source.file}:{source.line(where)}",
        )

    def _url(self, source: Source, where: Where, value: Any) -> SplitResult | None:
        where = (*where, "url")

        def refuse(message: str) -> None:
            self.problems.append(source.problem(where, f"url: found {found(value)}, {message}"))

        if not isinstance(value, str):
            if value is not None:
                refuse("expected a URL such as https://www.example.com")
            return None
        if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", value):
            refuse(f"which has no scheme, expected for example https://{value.lstrip('/')}")
            return None
        if re.search(r"[\s\x00-\x1f\x7f]", value):
            refuse("which has a space or control character: write %20 for a space")
            return None
        try:
            url = urlsplit(value)
            port = url.port
        except ValueError as error:
            reason = "whose port is not a number from 1 to 65535" if "ort" in str(error) else None
            refuse(reason or "which is not a URL: check the brackets and the host")
            return None
        known = {*self.kinds, *self.planned}
        if url.scheme not in known:
            refuse(f"whose scheme '{url.scheme}' is not known: {did_you_mean(url.scheme, known)}")
            return None
        if not url.hostname and url.scheme not in ("unix", "heartbeat"):
            refuse(f"which has no host, expected for example {url.scheme}://www.example.com")
            return None
        if port == 0:
            refuse("whose port is not a number from 1 to 65535")
            return None
        if url.username is not None or url.password is not None:
            # Not repeated in the message: this may be a password.
            message = (
                "url: holds a user name or password, which every label would show: take it out"
            )
            self.problems.append(source.problem(where, message))
            return None
        return url

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

        def refuse(key: str, message: str) -> None:
            place = (*where, key) if key in data else ("defaults", key)
            self.problems.append(source.problem(place, f"{key}: {message}"))

        if not SHORTEST_EVERY <= every <= LONGEST_EVERY:
            refuse("every", f"found {format_duration(every)}, expected 1s to 2m")
            return None
        if timeout > every:
            refuse(
                "timeout",
                f"found {format_duration(timeout)}, which is longer than "
                f"every: {format_duration(every)}; make it shorter",
            )
            return None
        down_after = own.down_after or common.down_after or every + timeout
        recover_after = own.recover_after or common.recover_after or max(RECOVER_AFTER, 2 * every)
        return {
            "every": every,
            "timeout": timeout,
            "down_after": down_after,
            "recover_after": recover_after,
        }

    def _check_labels(self, source: Source, where: Where, labels: Mapping[str, Any]) -> None:
        for name in labels:
            if name in RESERVED_LABELS:
                message = f"labels: '{name}' is used by the stack itself, choose another name"
            elif not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) or name.startswith("__"):
                message = (
                    f"labels: found the name '{name}', "
                    "expected letters, digits and _, not beginning with a digit or __"
                )
            else:
                continue
            self.problems.append(source.problem((*where, name), message))

    def _person(
        self, source: Source, where: Where, role: str, name: Any, optional: bool = False
    ) -> str:
        names = self.people[role]
        if name is None:
            if optional:
                return ""
            if len(names) == 1:
                return names[0]
            if names:
                message = f"'{role}' is missing and there are several: {', '.join(sorted(names))}"
                self.problems.append(source.problem(where[:-1], message))
            return ""
        if names and name not in names:
            message = f"unknown {role} '{name}': {did_you_mean(str(name), names)}"
            self.problems.append(source.problem(where, message))
        return str(name)

    def _refuse_duplicates(self, sites: list[Site]) -> None:
        first: dict[str, Site] = {}
        for site in sites:
            if site.name in first:
                file, _, line = site.source.rpartition(":")
                other = first[site.name].source.rpartition(":")[2]
                message = (
                    f"found the name '{site.name}' twice (first in line {other}); "
                    "give one of them another 'name'"
                )
                self.problems.append(Problem(file, int(line), message))
            first.setdefault(site.name, site)


def _name(url: SplitResult) -> str:
    """A URL alone is named by its host, with port and path where there are any."""
    path = url.path.rstrip("/")
    query = f"?{url.query}" if url.query else ""
    return f"{url.netloc}{path}{query}"


def _label_text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
