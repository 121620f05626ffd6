"""The probers: one file a kind, one shape, one registry.

A new prober is a file with a `KIND`, its test, and its line in `_ALL` below.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from dolcevita.probes import (
    browser,
    cel,
    curl,
    dns,
    domain,
    ftp,
    grpc,
    heartbeat,
    http,
    icmp,
    imap,
    page,
    pop3,
    smtp,
    tcp,
    tls,
    unix,
    websocket,
)
from dolcevita.probes.attempts import probe
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.result import Phase, Reason, Result, Sample

__all__ = [
    "BY_NAME",
    "KINDS",
    "PLANNED",
    "Expectations",
    "Kind",
    "Phase",
    "Reason",
    "Result",
    "Sample",
    "Target",
    "close",
    "kind_of",
    "on_this_machine",
    "once",
    "probe",
]

_ALL: tuple[Kind, ...] = (
    browser.KIND,
    dns.KIND,
    domain.KIND,
    ftp.KIND,
    grpc.KIND,
    heartbeat.KIND,
    http.KIND,
    icmp.KIND,
    imap.KIND,
    page.KIND,
    pop3.KIND,
    smtp.KIND,
    tcp.KIND,
    tls.KIND,
    unix.KIND,
    websocket.KIND,
)

KINDS: Mapping[str, Kind] = {scheme: kind for kind in _ALL for scheme in kind.schemes}
"""The prober of each URL scheme."""

BY_NAME: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}
"""The prober that a site of sites.yml names as its kind."""

PLANNED: frozenset[str] = frozenset("starttls ssh ldap ldaps postgres mysql redis mqtt ntp".split())
"""Schemes that sites.yml may already use, with a warning that nothing watches them yet."""


def on_this_machine() -> Mapping[str, Kind]:
    """KINDS for who is about to probe: a URL is also at fault if this machine cannot probe it."""

    def here(kind: Kind) -> Kind:
        return replace(kind, fault=lambda url: kind.fault(url) or kind.missing())

    return {scheme: here(kind) for scheme, kind in KINDS.items()}


async def close() -> None:
    """End what the probers keep running on this event loop."""
    for kind in _ALL:
        if kind.close:
            await kind.close()
    await cel.close()
    await curl.close()


async def once(kind: Kind, target: Target[Any, Any], budget: float) -> Result:
    """One probe by itself, with what is otherwise looked up beside the scrapes."""
    try:
        if kind.settle:
            await kind.settle(target, budget)
        return await probe(kind, target, budget)
    finally:
        await close()


def kind_of(url: str) -> Kind | None:
    """The prober for a URL, None if there is none or it is no URL."""
    try:
        return KINDS.get(urlsplit(url).scheme)
    except ValueError:
        return None
