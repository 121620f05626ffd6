"""Pages: what ruins a site that answers 200, from a forgotten noindex to a stranger's script."""

import asyncio
import hashlib
import re
from collections.abc import Callable, Container, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from time import perf_counter, time
from typing import Annotated, Literal, get_args
from urllib.parse import urljoin, urlsplit
from urllib.robotparser import RobotFileParser

from pydantic import Field
from yarl import URL

from dolcevita.config import Duration, Strict, one_or_many
from dolcevita.probes import certificate, markup
from dolcevita.probes.background import Background, Known
from dolcevita.probes.curl import Failure
from dolcevita.probes.evidence import MOST_SEEN, Evidence, is_secret
from dolcevita.probes.fetch import Document, fetch
from dolcevita.probes.http_answer import seen
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.markup import Markup
from dolcevita.probes.resolve import GUARD, Forbidden
from dolcevita.probes.result import Reason, Result, Sample

MOST_BODY = 10_000_000
"""Bytes of a page that are read."""

MOST_PARSED = 1_000_000
"""Bytes of it that are kept and taken apart."""

PARSING = 2.0
"""Seconds for taking a page apart, at most half of what the probe has left."""

MOST_ROBOTS = 512_000
"""Bytes of robots.txt that count (RFC 9309, section 2.5)."""

MOST_RULES = 5000

CHECK = 10.0
"""Seconds for one asset or link."""

CHECKS_AT_ONCE = 4

SWEEPS_AT_ONCE = 4

SWEEP = 120.0
"""Seconds for all assets and links; those whose turn has not come by then are left out."""

SECOND_LOOK = 2.0
"""Seconds after which what is broken is asked for again, before it counts."""

WHILE_BROKEN = 60.0
"""Seconds from one sweep to the next while something is broken."""

SHOWN = 3

HALF_A_YEAR = 180 * 86400

ROBOT = "googlebot"
"""The search engine whose rules count, beside those for all."""

VALUED = frozenset(["unavailable_after", "max-snippet", "max-image-preview", "max-video-preview"])
"""Directives for robots that have a value after a colon, as names of robots have rules."""

ALLOWED_STATUSES = frozenset([401, 403, 405, 429])
"""Not for us, which does not mean broken."""

Part = Literal["title", "scripts", "text", "structure", "body"]

SecurityHeader = Literal[
    "strict-transport-security",
    "content-security-policy",
    "x-content-type-options",
    "x-frame-options",
    "referrer-policy",
]


class Options(Strict):
    """How the page is asked for, and what is looked at besides."""

    headers: dict[str, str] = Field(
        default={}, description="Headers that are sent, to the site's own origin only."
    )
    ca_file: Path | None = Field(
        default=None, description="The CAs to trust, instead of the system's."
    )
    links: Annotated[int, Field(ge=0, le=500)] = Field(
        default=50,
        description="How many assets and internal links of the page are checked; 0 for none.",
    )
    refresh: Duration = Field(
        default=600.0,
        description="Time from one check of assets, links and robots.txt to the next.",
    )
    fingerprint: Annotated[tuple[Part, ...], one_or_many()] = Field(
        default=("title", "scripts"),
        description=(
            "What should stay as it is: title, scripts (the hosts they come from), text, "
            "structure, body."
        ),
    )


class Expect(Expectations):
    """What the page must be. null takes what comes."""

    indexable: bool | None = Field(
        default=True, description="Search engines may list it; false: they must not."
    )
    mixed_content: bool | None = Field(
        default=False, description="Parts over http in a page over https."
    )
    broken: Annotated[int, Field(ge=0)] | None = Field(
        default=0, description="How many assets and internal links may be broken."
    )
    security_headers: Annotated[tuple[SecurityHeader, ...], one_or_many()] = Field(
        default=(), description="Headers that must be sent, and not be weak."
    )


HELP = {
    **certificate.HELP,
    "probe_http_status_code": "Status of the answer, 0 without one",
    "probe_page_bytes": "Bytes of the decoded page that were read",
    "probe_page_fingerprint": "A number that changes when that part of the page does",
    "probe_page_indexable": "1 if search engines may list the page",
    "probe_page_links_age_seconds": "Age of the last check of assets and links",
    "probe_page_links_broken": "Assets and internal links that were broken when last checked",
    "probe_page_links_checked": "Assets and internal links that were checked last",
    "probe_page_mixed_content": "Parts of the page that are over http while it is over https",
    "probe_page_security_header": "1 if the header is sent and not weak",
}


@dataclass(frozen=True, slots=True)
class _Sweep:
    """What robots.txt, the assets and the links were found to be.

    `disallowed` is why search engines may not fetch the page, '' if they may. `broken` has
    each URL and what is wrong with it.
    """

    disallowed: str = ""
    checked: int = 0
    broken: tuple[tuple[str, str], ...] = ()


_sweeps: Background[_Sweep] = Background(SWEEPS_AT_ONCE)

# A parser keeps the interpreter busy: more at the same time would only delay other probes.
_parsers = ThreadPoolExecutor(2, "page")


async def probe(target: Target[Options, Expect], budget: float) -> Result:
    """Load the page, take it apart, and compare it and the last sweep with what is expected."""
    begin = perf_counter()
    options = target.options
    document = await _load(target, budget)
    final = document.final
    samples = [Sample("probe_http_status_code", final.status)]
    failure = document.failure
    if failure is None and not 200 <= final.status < 300:
        failure = Failure(Reason.STATUS, f"{final.url} answers with {final.status}, expected 2xx.")
    if final.certificates:
        expiry = certificate.earliest_expiry(final.certificates)
        samples.append(Sample("probe_ssl_earliest_cert_expiry", expiry))
    if failure:
        return _result(begin, target, document, failure, samples, {})
    seconds = min(PARSING, (budget - (perf_counter() - begin)) / 2)
    page = await _parse(document, seconds)
    known = _sweep(target, final.url, page)
    headers = _judge_headers(document)
    hindrance = _hindrance(document, page) or (known.value.disallowed if known.value else "")
    mixed = _mixed(final.url, page)
    samples += _samples(options, document, page, known)
    samples += [
        Sample("probe_page_indexable", not hindrance),
        Sample("probe_page_mixed_content", len(mixed)),
        *(
            Sample("probe_page_security_header", not fault, {"header": name})
            for name, fault in headers.items()
        ),
    ]
    failure = _verdict(target.expect, hindrance, mixed, headers, known.value)
    facts = {
        "title": page.title[:200],
        "headers": "; ".join(f"{name} {fault}" for name, fault in headers.items() if fault),
        "broken": _listed(f"{url} {fault}" for url, fault in known.value.broken)
        if known.value
        else "",
    }
    return _result(begin, target, document, failure, samples, facts)


def _result(
    begin: float,
    target: Target[Options, Expect],
    document: Document,
    failure: Failure | None,
    samples: Sequence[Sample],
    facts: dict[str, str],
) -> Result:
    return Result(
        success=failure is None,
        reason=failure.reason if failure else None,
        detail=failure.detail if failure else f"{document.final.url} is as a page should be.",
        duration=perf_counter() - begin,
        samples=tuple(samples),
        certificates=document.final.certificates,
        facts={label: text for label, text in facts.items() if text},
        evidence=_evidence(target, document) if failure else None,
    )


def _evidence(target: Target[Options, Expect], document: Document) -> Evidence:
    secrets = [value for name, value in target.options.headers.items() if is_secret(name)]
    return seen(document.final, document.body[:MOST_SEEN], secrets)


async def settle(target: Target[Options, Expect], seconds: float) -> None:
    """Wait for the check of assets and links."""
    begin = perf_counter()
    document = await _load(target, seconds / 2)
    if document.failure is None:
        page = await _parse(document, PARSING)
        known = _sweep(target, document.final.url, page)
        await known.settle(seconds - (perf_counter() - begin))


async def _load(target: Target[Options, Expect], budget: float) -> Document:
    options = target.options
    headers = [f"{name}: {value}" for name, value in options.headers.items()]
    url = target.url.removeprefix("page+")
    return await fetch(url, budget, MOST_PARSED, headers, MOST_BODY, options.ca_file)


async def _parse(document: Document, seconds: float) -> Markup:
    content_type = document.header("content-type").lower()
    if "html" not in content_type and content_type:
        return Markup()

    def read() -> Markup:
        return markup.read(_text(document.body, content_type), document.final.url, seconds)

    return await asyncio.get_running_loop().run_in_executor(_parsers, read)


def _text(body: bytes, content_type: str) -> str:
    name = content_type.partition("charset=")[2].partition(";")[0].strip("\"' ")
    if not name:
        declared = re.search(rb"<meta[^>]{0,200}charset=[\"']?([\w-]{1,40})", body[:1024], re.I)
        name = declared[1].decode() if declared else "utf-8"
    try:
        return body.decode(name, "replace")
    except (LookupError, ValueError):
        return body.decode("utf-8", "replace")


# ---- Search engines -------------------------------------------------------------------------


def _hindrance(document: Document, page: Markup) -> str:
    """Why search engines may not list the page, '' if they may."""
    for name, value in document.final.headers:
        if name == "x-robots-tag":
            rules = value.lower()
            # 'googlebot: noindex' is for that one alone.
            robot, colon, its_own = rules.partition(":")
            if colon and robot.strip() == ROBOT:
                rules = its_own
            elif colon and re.fullmatch(r"[\w-]+", robot) and robot not in VALUED:
                continue
            if markup.directives(rules) & {"noindex", "none"}:
                return f"its header X-Robots-Tag says '{value[:100]}'"
    if page.robots & {"noindex", "none"}:
        return "its meta element for robots says noindex"
    return ""


async def _disallowed(url: str, ca_file: Path | None) -> tuple[RobotFileParser, str]:
    """The site's robots.txt, and why search engines may not fetch the page (RFC 9309).

    '' if they may.
    """
    place = urljoin(url, "/robots.txt")
    rules = RobotFileParser(place)
    document = await fetch(place, CHECK, MOST_ROBOTS, ca_file=ca_file)
    final = document.final
    if document.failure or final.status != 200:
        rules.parse([])
        # Of a server that fails, search engines take all as forbidden.
        broken = document.failure is None and final.status >= 500
        return rules, f"{place} answers with {final.status}" if broken else ""
    lines = document.body.decode("utf-8", "replace").splitlines()
    rules.parse(lines[:MOST_RULES])
    return rules, "" if rules.can_fetch(ROBOT, url) else f"{place} disallows it"


# ---- Headers --------------------------------------------------------------------------------


def _judge_headers(document: Document) -> dict[str, str]:
    """What is wrong with each security header, '' where nothing is."""
    secure = urlsplit(document.final.url).scheme == "https"
    judged = {}
    for name in get_args(SecurityHeader):
        if name == "strict-transport-security" and not secure:
            continue
        value = document.header(name)
        if name == "x-frame-options" and not value:
            value = _directive(document.header("content-security-policy"), "frame-ancestors")
            judged[name] = _FAULTS["frame-ancestors"](value) if value else "is not sent"
            continue
        judged[name] = _FAULTS[name](value.lower()) if value else "is not sent"
    return judged


def _directive(policy: str, *names: str) -> str:
    """The value of the first of the directives that the policy has."""
    found: dict[str, str] = {}
    for part in policy.lower().split(";"):
        name, _, value = part.strip().partition(" ")
        found.setdefault(name, value.strip() or "'none'")
    return next((found[name] for name in names if name in found), "")


def _transport_fault(value: str) -> str:
    age = re.search(r"max-age\s*=\s*\"?(\d{1,15})", value)
    if not age:
        return "has no max-age"
    return "is weak: max-age below half a year" if int(age[1]) < HALF_A_YEAR else ""


def _policy_fault(value: str) -> str:
    sources = _directive(value, "script-src", "default-src").split()
    if not sources:
        return "is weak: it allows scripts from everywhere"
    if "'strict-dynamic'" in sources:
        return ""
    if open_ := {"*", "http:", "https:", "data:"}.intersection(sources):
        return f"is weak: it allows scripts from {min(open_)}"
    pinned = any(source.startswith(("'nonce-", "'sha")) for source in sources)
    return (
        "is weak: it allows inline scripts" if "'unsafe-inline'" in sources and not pinned else ""
    )


_FAULTS: dict[str, Callable[[str], str]] = {
    "strict-transport-security": _transport_fault,
    "content-security-policy": _policy_fault,
    "x-content-type-options": lambda value: "" if value == "nosniff" else "is not 'nosniff'",
    "x-frame-options": lambda value: (
        "" if value in ("deny", "sameorigin") else "is neither DENY nor SAMEORIGIN"
    ),
    "frame-ancestors": lambda value: (
        "is weak: every site may frame it" if {"*", "http:", "https:"} & set(value.split()) else ""
    ),
    "referrer-policy": lambda value: "is weak: unsafe-url" if "unsafe-url" in value else "",
}


def _mixed(url: str, page: Markup) -> list[str]:
    if urlsplit(url).scheme != "https":
        return []
    parts = (*page.assets, *page.submits)
    return [part for part in dict.fromkeys(parts) if part.startswith("http:")]


# ---- Assets and links -----------------------------------------------------------------------


def _sweep(target: Target[Options, Expect], url: str, page: Markup) -> Known[_Sweep]:
    """What the last sweep found, with one begun if it is due."""
    options = target.options

    def holds(known: Known[_Sweep]) -> float:
        troubled = known.trouble or (known.value and (known.value.broken or known.value.disallowed))
        return min(WHILE_BROKEN, options.refresh) if troubled else options.refresh

    key = (target.url, options.links, options.ca_file, tuple(options.headers.items()))
    return _sweeps.ask(key, holds, lambda: _find(options, url, page))


async def _find(options: Options, url: str, page: Markup) -> _Sweep:
    refused: set[str] = set()
    GUARD.set(_guard(_host(url), refused))
    rules, disallowed = await _disallowed(url, options.ca_file)
    loop = asyncio.get_running_loop()
    wanted = await loop.run_in_executor(_parsers, _wanted, options, url, page, rules)
    broken = await _broken(wanted, options, refused)
    if broken:
        await asyncio.sleep(SECOND_LOOK)
        broken = await _broken(tuple(broken), options, refused)
    return _Sweep(disallowed, len(wanted), tuple(broken.items()))


def _guard(own: str, refused: set[str]) -> Callable[[str, Sequence[str]], None]:
    """Lets the site's own host pass, and of others those that are public.

    A page is written by others: it must not make this machine call its neighbours.
    """
    outer = GUARD.get()

    def check(host: str, addresses: Sequence[str]) -> None:
        if outer:
            outer(host, addresses)
        if host != own and not all(ip_address(address).is_global for address in addresses):
            refused.add(host)
            raise Forbidden(f"{host} is not public.")

    return check


def _host(url: str) -> str:
    try:
        return URL(url).raw_host or ""
    except ValueError:
        return ""


def _wanted(options: Options, url: str, page: Markup, rules: RobotFileParser) -> tuple[str, ...]:
    """The assets, then the links within the site that robots may follow."""
    own = urlsplit(url)[:2]
    links = (
        link
        for link in page.links
        if urlsplit(link)[:2] == own and rules.can_fetch("dolcevita", link)
    )
    every = dict.fromkeys([*page.assets, *links])
    every.pop(url, None)
    return tuple(every)[: options.links]


async def _broken(urls: Sequence[str], options: Options, refused: Container[str]) -> dict[str, str]:
    """What is wrong with each that is broken, in the order of `urls`.

    Of what leads to a host that the guard has `refused` nothing is known.
    """
    turn = asyncio.Semaphore(CHECKS_AT_ONCE)
    deadline = perf_counter() + SWEEP

    async def check(url: str) -> str:
        async with turn:
            if perf_counter() > deadline:
                return ""
            document = await fetch(url, CHECK, 1, ca_file=options.ca_file)
        if document.failure:
            unknown = _host(document.final.url) in refused
            return "" if unknown else f"({document.failure.detail.rstrip('.')})"
        status = document.final.status
        return f"({status})" if status >= 400 and status not in ALLOWED_STATUSES else ""

    faults = await asyncio.gather(*map(check, urls))
    return {url: fault for url, fault in zip(urls, faults, strict=True) if fault}


# ---- Verdict --------------------------------------------------------------------------------


def _verdict(
    expect: Expect,
    hindrance: str,
    mixed: Sequence[str],
    headers: dict[str, str],
    sweep: _Sweep | None,
) -> Failure | None:
    if expect.indexable is True and hindrance:
        return _content(f"Search engines may not list the page: {hindrance}.")
    if expect.indexable is False and not hindrance:
        return _content("Search engines may list the page, and should not.")
    if expect.mixed_content is False and mixed:
        return _content(f"The page is over https and has parts over http: {_listed(mixed)}.")
    for name in expect.security_headers:
        if fault := headers.get(name, ""):
            return _content(f"The header {name} {fault}.")
    if expect.broken is not None and sweep and len(sweep.broken) > expect.broken:
        listed = _listed(f"{url} {fault}" for url, fault in sweep.broken)
        return _content(f"The page refers to what is broken: {listed}.")
    return None


def _content(detail: str) -> Failure:
    return Failure(Reason.CONTENT, detail)


def _listed(items: Iterable[str]) -> str:
    every = [item[:200] for item in items]
    more = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + more


def _samples(
    options: Options, document: Document, page: Markup, known: Known[_Sweep]
) -> list[Sample]:
    samples = [Sample("probe_page_bytes", document.length)]
    samples += [
        Sample("probe_page_fingerprint", _number(_part(part, document, page)), {"part": part})
        for part in options.fingerprint
        if page.whole or part in ("title", "body")
    ]
    if known.value:
        samples += [
            Sample("probe_page_links_age_seconds", time() - known.at),
            Sample("probe_page_links_broken", len(known.value.broken)),
            Sample("probe_page_links_checked", known.value.checked),
        ]
    return samples


def _part(part: Part, document: Document, page: Markup) -> bytes:
    match part:
        case "title":
            return page.title.encode("utf-8", "replace")
        case "scripts":
            return "\n".join(sorted({_host(url) for url in page.scripts})).encode()
        case "text":
            return page.text
        case "structure":
            return page.structure
        case "body":
            return document.digest


def _number(part: bytes) -> int:
    """48 bits of its SHA-256: a float holds them exactly."""
    return int.from_bytes(hashlib.sha256(part).digest()[:6])


KIND = Kind(
    "page",
    ("page+https", "page+http"),
    Options,
    Expect,
    probe,
    HELP,
    settle=settle,
    close=_sweeps.close,
)
