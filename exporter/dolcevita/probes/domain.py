"""Domains: when a registration runs out and what the registry says of it.

Registries want to be asked rarely and answer slowly. So a lookup runs beside the scrapes, its
answer holds for hours, and how old it is is told with it.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, field_validator
from yarl import URL

from dolcevita.config import Duration, Strict, format_duration, one_or_many
from dolcevita.probes import rdap, whois
from dolcevita.probes.background import Background, Known, Unavailable
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.registration import Registration, status
from dolcevita.probes.result import Reason, Result, Sample

LOOKUP = 20.0
"""Seconds for one question to one server."""

AT_ONCE = 2
"""Lookups under way at the same time: registries refuse to answer those who ask too fast."""

SOON = 600.0
"""Seconds until the next lookup after one that failed or that found the domain in trouble."""

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


_lookups: Background[Registration] = Background(AT_ONCE)
_lists: Background[dict[str, str]] = Background(1)


def _ask(domain: str, options: Options) -> Known[Registration]:
    """What is known of the domain, with a lookup begun if it is due."""

    def holds(known: Known[Registration]) -> float:
        troubled = known.trouble or (known.value and _lost(known.value))
        return min(SOON, options.refresh) if troubled else options.refresh

    return _lookups.ask((domain, options.server), holds, lambda: _find(domain, options.server))


async def _find(domain: str, server: str | None) -> Registration:
    if not server:
        return await _find_registry(domain)
    parts = urlsplit(server)
    if parts.scheme == "whois" and parts.hostname:
        return await whois.look_up(domain, parts.hostname, parts.port or 43, LOOKUP)
    return await rdap.look_up(domain, server, LOOKUP)


async def _find_registry(domain: str) -> Registration:
    """RDAP, and WHOIS where there is no RDAP or it does not tell the expiry."""
    found: Registration | None = None
    trouble: Unavailable | None = None
    try:
        base = rdap.server_of(domain, await _rdap_servers())
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


async def _rdap_servers() -> dict[str, str]:
    """IANA's list, asked for once a day."""
    known = _lists.ask(
        rdap.BOOTSTRAP,
        lambda known: 0.0 if known.value is None else DAY,
        lambda: rdap.servers(LOOKUP),
    )
    if known.value is None:
        await known.settle(2 * LOOKUP)
    if known.value is None:
        raise Unavailable(known.trouble or f"{rdap.BOOTSTRAP} does not answer in time.")
    return known.value


async def close() -> None:
    """Break off the lookups that are under way on the running loop."""
    await _lookups.close()
    await _lists.close()


async def settle(target: Target[Options, Expect], seconds: float) -> None:
    """Wait for the lookup that is under way."""
    await _ask(_domain(target.url), target.options).settle(seconds)


async def probe(target: Target[Options, Expect], budget: float) -> Result:
    """What the last lookup found, at once; a lookup that is due begins beside it."""
    domain = _domain(target.url)
    now = time.time()
    known = _ask(domain, target.options)
    samples = [Sample("probe_domain_lookup_success", not known.trouble)] if known.tried_at else []
    registration = known.value
    if registration is None:
        detail = known.trouble or f"The registration of {domain} is being looked up."
        return Result(success=True, known=False, detail=detail, samples=tuple(samples))
    samples += _samples(registration, now - known.at)
    failure = _verdict(domain, registration, target.expect, now)
    return Result(
        success=failure is None,
        reason=failure[0] if failure else None,
        detail=failure[1] if failure else _words(domain, registration, now),
        samples=tuple(samples),
        facts=_facts(known, registration, now),
    )


def _domain(url: str) -> str:
    """The domain of the URL in ASCII, lower case."""
    return (URL(url).raw_host or "").removesuffix(".").lower()


def _fault(url: str) -> str:
    """A registration is of a name below a registry's, and of nothing within it."""
    parts, domain = urlsplit(url), _domain(url)
    try:
        ip_address(domain)
    except ValueError:
        pass
    else:
        return "is an address, and only names are registered: write the domain"
    if "." not in domain:
        return "is no domain with its ending: write for example domain://example.com"
    if parts.port or parts.path not in ("", "/") or parts.query:
        return "names more than a domain: take out what comes after it"
    return ""


def _lost(registration: Registration) -> bool:
    """Whether it is gone: then one wants to know soon that it is back."""
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


def _facts(known: Known[Registration], registration: Registration, now: float) -> dict[str, str]:
    facts = {
        "registrar": registration.registrar,
        "status": ", ".join(registration.statuses),
        "said by": f"{registration.source}, {now - known.at:.0f} s ago",
        "last lookup": known.trouble,
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
    fault=_fault,
    again=False,
    settle=settle,
    close=close,
)
