"""Domains: when a registration runs out and what the registry says of it.

Registries want to be asked rarely and answer slowly. So a lookup runs beside the scrapes, its
answer holds for hours, and how old it is is told with it.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from yarl import URL

from dolcevita.config import Duration, Strict, format_duration, one_or_many
from dolcevita.probes import rdap, whois
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.registration import Registration, Unavailable, status
from dolcevita.probes.result import Reason, Result, Sample

log = logging.getLogger(__name__)

LOOKUP = 20.0
"""Seconds for one question to one server."""

AT_ONCE = 2
"""Lookups under way at the same time: registries refuse to answer those who ask too fast."""

SOON = 600.0
"""Seconds until the next lookup after one that failed or that found the domain in trouble."""

MOST_DOMAINS = 5000

BOOTSTRAP_REFRESH = 86400.0

DAY = 86400.0

LOST = frozenset(
    [
        "client hold",
        "server hold",
        "inactive",
        "redemption period",
        "pending restore",
        "pending delete",
    ]
)
"""Statuses of a domain that does not resolve, or is about to be given to others (RFC 5731)."""


class Options(Strict):
    """Who is asked, and how often."""

    server: str | None = Field(
        default=None,
        description=(
            "The RDAP base URL (https://...) or whois://HOST to ask, instead of the ones that "
            "IANA lists."
        ),
    )
    refresh: Duration = Field(default=6 * 3600.0, description="How long an answer is good for.")

    @field_validator("server")
    @classmethod
    def _can_be_asked(cls, server: str | None) -> str | None:
        if server is None:
            return None
        parts = urlsplit(server)
        if parts.scheme not in ("http", "https", "whois") or not parts.hostname:
            raise ValueError("expected https://HOST/PATH of an RDAP server, or whois://HOST")
        return server


class Expect(Expectations):
    """What the registration must be, beyond being there and in force."""

    valid_for: Duration | None = Field(
        default=None, description="It runs out later than in this time, say 14d."
    )
    status: Annotated[tuple[str, ...], one_or_many()] = Field(
        default=(), description="Statuses it must have, such as 'client transfer prohibited'."
    )


HELP = {
    "probe_domain_age_seconds": "Age of what is known of the registration; absent before",
    "probe_domain_expiry_timestamp_seconds": (
        "Unix time when the registration runs out; absent where the registry does not tell"
    ),
    "probe_domain_info": "The registrar, and the server that said so",
    "probe_domain_lookup_success": "1 if the last lookup worked; absent before the first",
    "probe_domain_registered": "1 if the domain is registered",
    "probe_domain_status": "1 for each status that the registry gives the domain",
}


class _Entry:
    """What is known of one domain. Times are unix seconds."""

    def __init__(self) -> None:
        self.registration: Registration | None = None
        self.known_at = 0.0
        self.trouble = ""
        self.tried_at = 0.0
        self.task: asyncio.Task[None] | None = None


class _Registries:
    """The lookups of one event loop and what they found."""

    def __init__(self) -> None:
        self.entries: OrderedDict[tuple[str, str | None], _Entry] = OrderedDict()
        self.turn = asyncio.Semaphore(AT_ONCE)
        self.one_list = asyncio.Lock()
        self.servers: dict[str, str] = {}
        self.servers_at = 0.0

    def entry(self, domain: str, options: Options) -> _Entry:
        """What is known, with a lookup begun if it is due."""
        key = (domain, options.server)
        entry = self.entries.setdefault(key, _Entry())
        self.entries.move_to_end(key)
        if len(self.entries) > MOST_DOMAINS:
            _, oldest = self.entries.popitem(last=False)
            _cancel([oldest])
        wait = SOON if entry.trouble or _lost(entry.registration) else options.refresh
        due = entry.tried_at + min(wait, options.refresh)
        if entry.task is None and time.time() >= due:
            entry.task = asyncio.create_task(self._look_up(entry, domain, options.server))
        return entry

    async def _look_up(self, entry: _Entry, domain: str, server: str | None) -> None:
        try:
            async with self.turn:
                entry.registration = await self._ask(domain, server)
            entry.known_at, entry.trouble = time.time(), ""
        except Unavailable as error:
            entry.trouble = str(error)
        except Exception:
            log.exception("The lookup of %s failed", domain)
            entry.trouble = "The lookup itself failed: the exporter's log says why."
        entry.tried_at = time.time()
        entry.task = None

    async def _ask(self, domain: str, server: str | None) -> Registration:
        if server:
            parts = urlsplit(server)
            if parts.scheme == "whois" and parts.hostname:
                return await whois.look_up(domain, parts.hostname, parts.port or 43, LOOKUP)
            return await rdap.look_up(domain, server, LOOKUP)
        return await self._ask_registry(domain)

    async def _ask_registry(self, domain: str) -> Registration:
        """RDAP, and WHOIS where there is no RDAP or it does not tell the expiry."""
        found: Registration | None = None
        trouble: Unavailable | None = None
        try:
            base = rdap.server_of(domain, await self._rdap_servers())
            found = await rdap.look_up(domain, base, LOOKUP) if base else None
        except Unavailable as error:
            trouble = error
        if found and (found.expires or not found.registered):
            return found
        try:
            place = await whois.server_of(domain, LOOKUP)
            second = await whois.look_up(domain, *place, LOOKUP) if place else None
        except Unavailable as error:
            second, trouble = None, trouble or error
        if found:
            return replace(found, expires=second.expires) if second else found
        if second:
            return second
        raise trouble or Unavailable(f"No registry answers for {domain}: IANA lists no server.")

    async def _rdap_servers(self) -> dict[str, str]:
        async with self.one_list:
            if time.time() - self.servers_at > BOOTSTRAP_REFRESH:
                try:
                    self.servers = await rdap.servers(LOOKUP)
                    self.servers_at = time.time()
                except Unavailable:
                    if not self.servers:
                        raise
        return self.servers


_registries: dict[asyncio.AbstractEventLoop, _Registries] = {}


def _running() -> _Registries:
    return _registries.setdefault(asyncio.get_running_loop(), _Registries())


async def close() -> None:
    """Break off the lookups that are under way on the running loop."""
    registries = _registries.pop(asyncio.get_running_loop(), None)
    if registries:
        tasks = _cancel(registries.entries.values())
        await asyncio.gather(*tasks, return_exceptions=True)


def _cancel(entries: Iterable[_Entry]) -> list[asyncio.Task[None]]:
    tasks = [entry.task for entry in entries if entry.task]
    for task in tasks:
        task.cancel()
    return tasks


async def settle(target: Target[Options, Expect], seconds: float) -> None:
    """Wait for the lookup that is under way."""
    task = _running().entry(_domain(target.url), target.options).task
    if task:
        await asyncio.wait([task], timeout=seconds)


async def probe(target: Target[Options, Expect], budget: float) -> Result:
    """What the last lookup found, at once; a lookup that is due begins beside it."""
    domain = _domain(target.url)
    now = time.time()
    entry = _running().entry(domain, target.options)
    samples = [Sample("probe_domain_lookup_success", not entry.trouble)] if entry.tried_at else []
    registration = entry.registration
    if registration is None:
        detail = entry.trouble or f"The registration of {domain} is being looked up."
        return Result(success=True, known=False, detail=detail, samples=tuple(samples))
    samples += _samples(registration, now - entry.known_at)
    failure = _verdict(domain, registration, target.expect, now)
    return Result(
        success=failure is None,
        reason=failure[0] if failure else None,
        detail=failure[1] if failure else _words(domain, registration, now),
        samples=tuple(samples),
        facts=_facts(entry, registration, now),
    )


def _domain(url: str) -> str:
    """The domain of the URL in ASCII, lower case."""
    return (URL(url).raw_host or "").removesuffix(".").lower()


def _lost(registration: Registration | None) -> bool:
    """Whether it is gone, or would be noticed as soon as it is renewed."""
    if registration is None:
        return False
    expired = registration.expires is not None and registration.expires <= time.time()
    return expired or not registration.registered or not LOST.isdisjoint(registration.statuses)


def _verdict(
    domain: str, registration: Registration, expect: Expect, now: float
) -> tuple[Reason, str] | None:
    if not registration.registered:
        return Reason.EXPIRED, f"{registration.source} knows no registration of {domain}."
    expires = registration.expires
    if expires is not None and expires <= now:
        return Reason.EXPIRED, f"The registration of {domain} ran out on {_day(expires)}."
    if lost := sorted(LOST.intersection(registration.statuses)):
        return Reason.EXPIRED, f"The registry gives {domain} the status '{lost[0]}'."
    if expect.valid_for and expires is not None and expires - now < expect.valid_for:
        left = format_duration(max(1.0, (expires - now) // 3600 * 3600))
        words = f"runs out on {_day(expires)}, in {left}"
        wanted = f"expected {format_duration(expect.valid_for)} or more"
        return Reason.EXPIRED, f"The registration of {domain} {words}, {wanted}."
    for word in expect.status:
        if status(word) not in registration.statuses:
            has = ", ".join(registration.statuses) or "none"
            return Reason.STATUS, f"{domain} has not the status '{status(word)}', it has: {has}."
    return None


def _words(domain: str, registration: Registration, now: float) -> str:
    if registration.expires is None:
        return f"{domain} is registered; its registry does not tell until when."
    days = int((registration.expires - now) // DAY)
    return f"{domain} is registered until {_day(registration.expires)}, {days} days left."


def _samples(registration: Registration, age: float) -> list[Sample]:
    samples = [
        Sample("probe_domain_age_seconds", age),
        Sample("probe_domain_registered", registration.registered),
    ]
    if registration.expires is not None:
        samples.append(Sample("probe_domain_expiry_timestamp_seconds", registration.expires))
    if registration.registered:
        labels = {"registrar": registration.registrar, "server": registration.source}
        samples.append(Sample("probe_domain_info", 1, labels))
    samples += [Sample("probe_domain_status", 1, {"status": s}) for s in registration.statuses]
    return samples


def _facts(entry: _Entry, registration: Registration, now: float) -> dict[str, str]:
    facts = {
        "registrar": registration.registrar,
        "status": ", ".join(registration.statuses),
        "said by": f"{registration.source}, {now - entry.known_at:.0f} s ago",
        "last lookup": entry.trouble,
    }
    return {label: text for label, text in facts.items() if text}


def _day(timestamp: float) -> str:
    try:
        return datetime.fromtimestamp(timestamp, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return "a day beyond reckoning"


KIND = Kind(
    "domain",
    ("domain",),
    Options,
    Expect,
    probe,
    HELP,
    again=False,
    settle=settle,
    close=close,
)
