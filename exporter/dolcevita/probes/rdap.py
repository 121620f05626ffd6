"""RDAP: what a registry says of a domain, over HTTP (RFC 9082, RFC 9083), found as in RFC 9224.

Not through a library of its own: those that there are open their own connections, read answers of
any length, guess dates, and raise errors of every sort for what is not as they expect.
"""

import json
from datetime import UTC, datetime
from typing import Any

from dolcevita.probes.background import Unavailable
from dolcevita.probes.fetch import fetch
from dolcevita.probes.registration import MOST_LETTERS, Registration, statuses

BOOTSTRAP = "https://data.iana.org/rdap/dns.json"
"""IANA's list of the RDAP servers of each top-level domain."""

MOST_BYTES = 2_000_000


async def servers(budget: float) -> dict[str, str]:
    """The base URL of the RDAP server of each top-level domain that has one.

    Raises Unavailable, at the latest after `budget` seconds.
    """
    _, data = await _get(BOOTSTRAP, budget)
    services = data.get("services")
    found: dict[str, str] = {}
    for service in services if isinstance(services, list) else []:
        match service:
            case [list(domains), list(urls), *_]:
                secure = [url for url in urls if isinstance(url, str) and url[:6] == "https:"]
                if secure:
                    found |= {d.lower(): secure[0] for d in domains if isinstance(d, str)}
    if not found:
        raise Unavailable(f"{BOOTSTRAP} lists no RDAP server.")
    return found


def server_of(domain: str, known: dict[str, str]) -> str | None:
    """The server for the longest part of the domain's end that is listed."""
    labels = domain.split(".")
    ends = (".".join(labels[i:]) for i in range(len(labels)))
    return next((known[end] for end in ends if end in known), None)


async def look_up(domain: str, server: str, budget: float) -> Registration:
    """Ask the RDAP server at that base URL. Raises Unavailable."""
    code, data = await _get(f"{server.rstrip('/')}/domain/{domain}", budget)
    if code == 404:
        return Registration(registered=False, source=server)
    words = data.get("status")
    return Registration(
        registered=True,
        source=server,
        expires=_expiry(data.get("events")),
        statuses=statuses([w for w in words if isinstance(w, str)])
        if isinstance(words, list)
        else (),
        registrar=_registrar(data.get("entities"))[:MOST_LETTERS],
    )


async def _get(url: str, budget: float) -> tuple[int, dict[str, Any]]:
    """Status (200 or 404) and the JSON object of a 200."""
    accept = ["Accept: application/rdap+json, application/json"]
    document = await fetch(url, budget, MOST_BYTES, accept)
    if document.failure:
        raise Unavailable(document.failure.detail)
    code = document.final.status
    if code == 404:
        return code, {}
    if code != 200:
        hint = ": it is asked too often" if code == 429 else ""
        raise Unavailable(f"{document.final.url} answers with {code}{hint}.")
    try:
        # RecursionError: brackets in brackets by the thousand.
        data = None if document.cut else json.loads(document.body)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise Unavailable(f"The answer of {document.final.url} is not a JSON object.")
    return code, data


def _expiry(events: Any) -> float | None:
    for event in events if isinstance(events, list) else []:
        match event:
            case {"eventAction": "expiration", "eventDate": str(date)}:
                return instant(date)
    return None


def instant(text: str) -> float | None:
    """Unix seconds of a date and time of RFC 3339, None for anything else.

    A registry's "never" may be the year 1: None, as there were no domains before 1985.
    """
    try:
        moment = datetime.fromisoformat(text.strip().upper())
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return aware.timestamp() if aware.year >= 1985 else None
    except (ValueError, OverflowError):
        return None


def _registrar(entities: Any) -> str:
    """The formatted name in the registrar's jCard (RFC 7095), '' without one."""
    for entity in entities if isinstance(entities, list) else []:
        match entity:
            case {"roles": list(roles), "vcardArray": ["vcard", list(fields)]} if (
                "registrar" in roles
            ):
                for field in fields:
                    match field:
                        case ["fn", _, _, str(name)]:
                            return name
    return ""
