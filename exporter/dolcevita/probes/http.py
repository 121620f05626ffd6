"""HTTP and HTTPS, with the metrics of blackbox_exporter's http prober."""

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Annotated
from urllib.parse import SplitResult, urlsplit

from pydantic import Field

from dolcevita.config import Strict, one_or_many
from dolcevita.probes import address, certificate
from dolcevita.probes.curl import Exchange, Failure, Headers, Request, exchange
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.result import Phase, Reason, Result, Sample

MOST_REDIRECTS = 10
MOST_BODY = 10_000_000
"""Bytes of a decoded body that are read; what comes after them is not looked at."""


class Options(Strict):
    """How the page is asked for. `headers` go to the site's own host only."""

    headers: dict[str, str] = {}
    ca_file: Path | None = None


class Expect(Expectations):
    """What the answer must be.

    `status` lists the accepted ones, else any 2xx; a redirect that is listed is not followed.
    `contains` and `absent` are looked for in the body, `header` maps a name to text that its
    value must contain, `final_url` is where redirects must end.
    """

    status: Annotated[tuple[Annotated[int, Field(ge=100, le=599)], ...], one_or_many()] = ()
    contains: Annotated[tuple[str, ...], one_or_many()] = ()
    absent: Annotated[tuple[str, ...], one_or_many()] = ()
    header: dict[str, str] = {}
    final_url: str | None = None


HELP = {
    **address.HELP,
    **certificate.HELP,
    "probe_http_content_length": "Content-Length of the answer, -1 where it is not sent",
    "probe_http_duration_seconds": "Time of each finished phase, all redirects together",
    "probe_http_last_modified_timestamp_seconds": "Last-Modified of the answer in unix time",
    "probe_http_redirects": "Redirects that were followed",
    "probe_http_ssl": "1 if the last request of the redirects was over TLS",
    "probe_http_status_code": "Status of the answer, 0 without one",
    "probe_http_uncompressed_body_length": "Bytes of the decoded body that were read",
    "probe_http_version": "Version of HTTP of the answer, 0 without one",
}
PHASES = ("resolve", "connect", "tls", "processing", "transfer")


async def probe(target: Target[Options, Expect], budget: float) -> Result:
    """GET the URL, follow redirects, compare the last answer with what is expected."""
    begin = perf_counter()
    hops: list[Exchange] = []
    phases: list[Phase] = []
    url = target.url
    while True:
        start = perf_counter() - begin
        body = _Body((*target.expect.contains, *target.expect.absent))
        hop = await exchange(
            Request(
                url=url,
                timeout=budget - start,
                connect_timeout=(budget - start) / 2,
                on_answer=body.begin,
                headers=_headers_for(url, target),
                cookies=hops[-1].cookies if hops else (),
                ca_file=target.options.ca_file,
            )
        )
        hops.append(hop)
        phases += _phases(hop, start)
        if hop.failure or not hop.redirect or hop.status in target.expect.status:
            break
        if len(hops) > MOST_REDIRECTS:
            break
        url = hop.redirect
    failure = _verdict(target.expect, hops, body)
    final = hops[-1]
    return Result(
        success=failure is None,
        reason=failure.reason if failure else None,
        detail=failure.detail if failure else f"{final.url} answers with {final.status}.",
        duration=perf_counter() - begin,
        samples=tuple(_samples(hops, phases, body.length)),
        phases=tuple(phases),
        certificates=final.certificates,
        facts=_facts(hops, body.length),
    )


class _Body:
    """Looks for texts in a body as it comes, and keeps none of it.

    So the memory of a probe does not depend on what a server sends, and no decoder runs on it:
    a text is looked for in the bytes that it has in the encodings a page may be in.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.length = 0
        self.found: set[str] = set()
        self.patterns: list[tuple[str, bytes]] = []
        self.overlap = b""
        self.longest = 0

    def begin(self, headers: Headers) -> Callable[[bytes], bool]:
        encodings = ("utf-8", "cp1252", "utf-16-le", "utf-16-be", _charset(headers))
        patterns = {(text, _encode(text, name)) for text in self.texts for name in encodings}
        self.patterns = [(text, pattern) for text, pattern in patterns if pattern]
        self.longest = max((len(pattern) for _, pattern in self.patterns), default=0)
        self.found = {text for text in self.texts if not text}
        return self.take

    def take(self, piece: bytes) -> bool:
        self.length += len(piece)
        if self.patterns:
            window = self.overlap + piece
            self.found |= {text for text, pattern in self.patterns if pattern in window}
            self.overlap = window[-self.longest :]
        return self.length < MOST_BODY


def _charset(headers: Headers) -> str:
    content_type = dict(headers).get("content-type", "")
    _, _, name = content_type.lower().partition("charset=")
    return name.partition(";")[0].strip("\"' ") or "utf-8"


def _encode(text: str, encoding: str) -> bytes:
    """The bytes of the text, b'' if the encoding is unknown or has not all its characters."""
    try:
        return text.encode(encoding)
    except (LookupError, ValueError):
        return b""


def _split(url: str) -> SplitResult:
    """A URL's parts, all of them empty if it is none: a server can redirect to anything."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return urlsplit("")
    return parts


def _headers_for(url: str, target: Target[Options, Expect]) -> list[str]:
    own, here = _split(target.url), _split(url)
    downgraded = own.scheme == "https" and here.scheme != "https"
    if here.hostname != own.hostname or downgraded:
        return []
    return [f"{name}: {value}" for name, value in target.options.headers.items()]


def _phases(hop: Exchange, start: float) -> list[Phase]:
    """The phases of one exchange; the one that a failure broke off is last and not finished."""
    ends = (hop.resolved, hop.connected, hop.secured, hop.answered)
    phases: list[Phase] = []
    before = 0.0
    for name, end in zip(PHASES, ends, strict=False):
        if end:
            phases.append(Phase(name, start + before, end - before))
            before = end
        elif name != "tls" or (_split(hop.url).scheme == "https" and hop.failure):
            phases.append(Phase(name, start + before, hop.ended - before, finished=False))
            return phases
    complete = hop.failure is None
    phases.append(Phase("transfer", start + before, hop.ended - before, finished=complete))
    return phases


def _verdict(expect: Expect, hops: Sequence[Exchange], body: _Body) -> Failure | None:
    final = hops[-1]
    if final.failure:
        if len(hops) > 1 and final.failure.reason is Reason.PROTOCOL and not final.connected:
            detail = f"{hops[-2].url} redirects to {final.url}, which is not a web URL."
            return Failure(Reason.REDIRECT, detail)
        return final.failure
    if len(hops) > MOST_REDIRECTS:
        detail = f"{hops[0].url} redirects more than {MOST_REDIRECTS} times."
        return Failure(Reason.REDIRECT, detail)
    if expect.status:
        if final.status not in expect.status:
            wanted = " or ".join(map(str, expect.status))
            detail = f"{final.url} answers with {final.status}, expected {wanted}."
            return Failure(Reason.STATUS, detail)
    elif not 200 <= final.status < 300:
        return Failure(Reason.STATUS, f"{final.url} answers with {final.status}, expected 2xx.")
    if expect.final_url and _normal(final.url) != _normal(expect.final_url):
        detail = f"The redirects end at {final.url}, expected {expect.final_url}."
        return Failure(Reason.REDIRECT, detail)
    for name, text in expect.header.items():
        values = [value for key, value in final.headers if key == name.lower()]
        if not any(text in value for value in values):
            sent = f"is '{values[-1][:100]}'" if values else "is not sent"
            detail = f"The header {name} {sent}, expected it to contain '{text}'."
            return Failure(Reason.CONTENT, detail)
    for text in expect.contains:
        if text not in body.found:
            return Failure(Reason.CONTENT, f"'{text}' is not in the page.")
    for text in expect.absent:
        if text in body.found:
            return Failure(Reason.CONTENT, f"'{text}' is in the page and should not be.")
    return None


def _normal(url: str) -> tuple[str, str, int | None, str, str]:
    """What makes two URLs the same page: https://A.example and https://a.example:443/ are."""
    parts = _split(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port, parts.path or "/", parts.query


def _samples(hops: Sequence[Exchange], phases: Sequence[Phase], length: int) -> list[Sample]:
    final = hops[-1]
    spent = dict.fromkeys(PHASES, 0.0)
    for phase in phases:
        if phase.finished:
            spent[phase.name] += phase.seconds
    samples = [
        Sample("probe_http_duration_seconds", seconds, {"phase": name})
        for name, seconds in spent.items()
    ]
    samples += [
        Sample("probe_http_content_length", final.content_length),
        Sample("probe_http_redirects", len(hops) - 1),
        Sample("probe_http_ssl", final.secured > 0),
        Sample("probe_http_status_code", final.status),
        Sample("probe_http_uncompressed_body_length", length),
        Sample("probe_http_version", final.version),
        *address.samples(phases[0].seconds, final.address),
    ]
    if final.last_modified >= 0:
        name = "probe_http_last_modified_timestamp_seconds"
        samples.append(Sample(name, final.last_modified))
    if final.certificates:
        expiry = certificate.earliest_expiry(final.certificates)
        chain = certificate.chain_labels(final.certificates)
        samples.append(Sample("probe_ssl_earliest_cert_expiry", expiry))
        samples.append(Sample("probe_ssl_last_chain_info", 1, chain))
    if final.tls_version:
        samples.append(Sample("probe_tls_version_info", 1, {"version": final.tls_version}))
        samples.append(Sample("probe_tls_cipher_info", 1, {"cipher": final.tls_cipher}))
    return samples


def _facts(hops: Sequence[Exchange], length: int) -> dict[str, str]:
    final = hops[-1]
    facts = {}
    if len(hops) > 1:
        facts["redirects"] = " -> ".join(hop.url for hop in hops)
    if final.address:
        facts["address"] = final.address
    if final.tls_version:
        facts["encryption"] = f"{final.tls_version}, {final.tls_cipher}"
    if final.status:
        facts["answer"] = f"HTTP/{final.version:g} {final.status}, {length:,} bytes"
    return facts


KIND = Kind("http", ("http", "https"), Options, Expect, probe, HELP)
