"""HTTP and HTTPS, with the metrics of blackbox_exporter's http prober."""

from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import NamedTuple
from urllib.request import getproxies_environment

from dolcevita.probes import address, chain, security
from dolcevita.probes.course import Broken
from dolcevita.probes.curl import (
    Exchange,
    Failure,
    Proxy,
    Request,
    ca_bundle,
    exchange,
    shown,
)
from dolcevita.probes.evidence import is_secret
from dolcevita.probes.http_answer import Body, seen, verdict
from dolcevita.probes.http_options import MOST_REDIRECTS, Expect, Options, split
from dolcevita.probes.kind import Kind, Target
from dolcevita.probes.oauth2 import forget, token
from dolcevita.probes.resolve import Unresolved
from dolcevita.probes.result import Phase, Result, Sample
from dolcevita.probes.secret import read

REDIRECTS = (301, 302, 303, 307, 308)
"""The statuses that lead elsewhere (RFC 9110, section 15.4); the last two keep the method."""

PHASES = ("resolve", "connect", "tls", "processing", "transfer")
_OF_PHASE = {name: {"phase": name} for name in PHASES}

HELP = {
    **address.HELP,
    **security.HELP,
    "probe_failed_due_to_cel": "1 if an expression of CEL made the probe fail",
    "probe_failed_due_to_regex": "1 if a regular expression made the probe fail",
    "probe_http_content_length": "Content-Length of the answer, -1 where it is not sent",
    "probe_http_duration_seconds": "Time of each finished phase, all redirects together",
    "probe_http_last_modified_timestamp_seconds": "Last-Modified of the answer in unix time",
    "probe_http_redirects": "Redirects that came",
    "probe_http_ssl": "1 if the last request of the redirects was over TLS",
    "probe_http_status_code": "Status of the answer, 0 without one",
    "probe_http_uncompressed_body_length": "Bytes of the decoded body that were read",
    "probe_http_version": "Version of HTTP of the answer, 0 without one",
    "probe_ip_success": "1 if the site answered as expected over this version of IP",
}


async def probe(target: Target[Options, Expect], budget: float) -> Result:
    """Ask for the URL, follow redirects, compare the last answer with what is expected."""
    if target.options.ip_version != "both":
        return await _probe(target, budget)
    return await _probe_both(target, budget)


async def _probe_both(target: Target[Options, Expect], budget: float) -> Result:
    """Over IPv4, then over IPv6; both must be fine, and the worse is told."""
    begin = perf_counter()
    results = []
    samples = []
    for version, share in ((4, budget / 2), (6, budget)):
        start = perf_counter() - begin
        options = target.options.model_copy(update={"ip_version": version})
        result = await _probe(replace(target, options=options), share - start)
        phases = tuple(phase._replace(start=start + phase.start) for phase in result.phases)
        results.append(replace(result, phases=phases))
        samples.append(Sample("probe_ip_success", result.success, {"ip_protocol": str(version)}))
    told = next((result for result in results if not result.success), results[-1])
    addresses = [result.facts["address"] for result in results if "address" in result.facts]
    facts = {**told.facts, "address": ", ".join(addresses)} if addresses else told.facts
    return replace(
        told,
        duration=perf_counter() - begin,
        samples=(*told.samples, *samples),
        phases=tuple(phase for result in results for phase in result.phases),
        facts=facts,
    )


async def _probe(target: Target[Options, Expect], budget: float) -> Result:
    begin = perf_counter()
    course = _Course([], [], Body(target.expect, target.options.body_limit))
    secrets = _Secrets()
    try:
        secrets = await _secrets(target.options, budget)
    except Broken as broken:
        failure = Failure(broken.reason, broken.detail)
        course.add(Exchange(target.url, failure, ended=perf_counter() - begin), 0.0)
    else:
        await _follow(target, secrets, course, begin, budget)
    hops, phases, body = course
    fault = await verdict(target, hops, body)
    told = fault.failure if fault else None
    final = hops[-1]
    if final.status == 401:
        forget(target.options.oauth2)
    samples = _samples(hops, phases, body.length, _chain_expiry(target.options, final))
    samples.append(Sample("probe_failed_due_to_regex", fault is not None and fault.regex))
    if target.expect.cel:
        samples.append(Sample("probe_failed_due_to_cel", fault is not None and fault.cel))
    return Result(
        success=fault is None,
        reason=told.reason if told else None,
        detail=told.detail if told else f"{shown(final.url)} answers with {final.status}.",
        duration=perf_counter() - begin,
        samples=tuple(samples),
        phases=tuple(phases),
        certificates=final.certificates,
        facts=_facts(hops, body.length),
        evidence=seen(final, bytes(body.head), secrets.words) if fault else None,
        again=not _refused_login(target, final),
    )


def _refused_login(target: Target[Options, Expect], final: Exchange) -> bool:
    """Whether a password was sent and not taken: servers count that and lock out."""
    options = target.options
    sent = options.basic_auth or options.authorization
    return final.status == 401 and sent is not None and _at_home(final.url, target.url)


class _Course(NamedTuple):
    """What there was so far: exchanges, their phases, and the body of the last one."""

    hops: list[Exchange]
    phases: list[Phase]
    body: Body

    def add(self, hop: Exchange, start: float) -> None:
        """Note an exchange that began after `start` seconds."""
        self.hops.append(hop)
        self.phases.extend(phases_of(hop, start))


async def _follow(
    target: Target[Options, Expect],
    secrets: "_Secrets",
    course: _Course,
    begin: float,
    budget: float,
) -> None:
    """Ask for the URL, and for what it redirects to."""
    step = _Step(target.url, target.options.method, secrets.body)
    while True:
        start = perf_counter() - begin
        course.body.reset()
        cookies = course.hops[-1].cookies if course.hops else ()
        request = _request(target, step, secrets, course.body, budget - start)
        request.cookies = cookies
        hop = await exchange(request)
        course.add(hop, start)
        if not _goes_on(hop, len(course.hops), target.options, target.expect):
            return
        step = step.after(hop)


class _Step(NamedTuple):
    """What is asked for next."""

    url: str
    method: str
    body: bytes | None

    def after(self, hop: Exchange) -> "_Step":
        """Where a redirect leads; as browsers do it (Fetch Standard, "HTTP-redirect fetch")."""
        if hop.status in (307, 308) or self.method in ("GET", "HEAD"):
            return self._replace(url=hop.redirect)
        return _Step(hop.redirect, "GET", None)


def _goes_on(hop: Exchange, made: int, options: Options, expect: Expect) -> bool:
    if hop.failure or not hop.redirect or hop.status not in REDIRECTS:
        return False
    if options.redirects is None:
        return made <= MOST_REDIRECTS and hop.status not in expect.status
    return made <= options.redirects


@dataclass(frozen=True, slots=True)
class _Secrets:
    """What goes to the site's own host only; `words` of it must be shown to nobody."""

    headers: Mapping[str, str | None] = field(default_factory=dict)
    body: bytes | None = None
    words: Sequence[str] = ()


_NOTHING = _Secrets()


async def _secrets(options: Options, budget: float) -> _Secrets:
    """Raises Broken where a file cannot be read or no token is given."""
    if options.bare:
        return _NOTHING
    headers = dict(options.headers)
    from_files = {name: read(file) for name, file in options.header_files.items()}
    headers |= from_files
    words = [*from_files.values()]
    body = options.body.encode() if options.body is not None else None
    if options.body_file:
        body = read(options.body_file).encode()
    if basic := options.basic_auth:
        user = read(basic.username_file) if basic.username_file else basic.username or ""
        password = read(basic.password_file) if basic.password_file else basic.password or ""
        headers["Authorization"] = f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"
        words += [password, f"{user}:{password}"]
    if given := options.authorization:
        file, text = given.credentials_file, given.credentials or ""
        headers["Authorization"] = f"{given.type} {read(file) if file else text}"
    if options.oauth2:
        headers["Authorization"] = f"Bearer {await token(options.oauth2, budget / 2)}"
    words += [value for name, value in headers.items() if value and is_secret(name)]
    words.append((headers.get("Authorization") or "").partition(" ")[2])
    return _Secrets(headers, body, words)


def _request(
    target: Target[Options, Expect], step: _Step, secrets: _Secrets, body: Body, left: float
) -> Request:
    options = target.options
    at_home = _at_home(step.url, target.url)
    headers = secrets.headers if at_home else {}
    encodings = None
    if options.compression:
        encodings = () if options.compression == "identity" else (options.compression,)
    if encodings is None and any(name.lower() == "accept-encoding" for name in headers):
        encodings = ()
    return Request(
        url=step.url,
        timeout=left,
        connect_timeout=min(options.connect_timeout or left / 2, left),
        on_answer=body.begin,
        method=step.method,
        body=step.body,
        headers=_lines(headers, step.body is not None),
        version=options.http_version,
        encodings=encodings,
        tls=options.tls if at_home else options.tls_elsewhere,
        proxy=_proxy(options, step.url),
        choose=_choice(options),
        source=options.source_ip_address,
    )


def _at_home(url: str, own: str) -> bool:
    """Whether what is secret may go there: to the same host, and not from https to http."""
    if url == own:
        return True
    here, home = split(url), split(own)
    downgraded = home.scheme == "https" and here.scheme != "https"
    return here.hostname == home.hostname and not downgraded


def _lines(headers: Mapping[str, str | None], with_body: bool) -> list[str]:
    """Whole lines as libcurl takes them: 'Name:' sends none, 'Name;' an empty one."""
    lines = [
        f"{name}:" if value is None else f"{name}: {value}" if value.strip() else f"{name};"
        for name, value in headers.items()
    ]
    if with_body:
        lines.append("Expect:")
        if not any(name.lower() == "content-type" for name in headers):
            # libcurl would say that it is a form.
            lines.append("Content-Type:")
    return lines


def _proxy(options: Options, url: str) -> Proxy | None:
    where, exceptions = options.proxy, options.no_proxy
    if not where and not options.proxy_from_environment:
        return None
    parts = split(url)
    if options.proxy_from_environment:
        found = getproxies_environment()
        where, exceptions = found.get(parts.scheme), found.get("no", "")
        if parts.hostname in ("localhost", "127.0.0.1", "::1"):
            return None
    if not where or (exceptions and _bypasses(url, exceptions)):
        return None
    lines = [f"{name}: {value}" for name, value in options.proxy_headers.items()]
    return Proxy(where, lines, options.proxy_resolves)


def _bypasses(url: str, exceptions: str) -> bool:
    from requests.utils import should_bypass_proxies  # takes memory that few need

    return bool(should_bypass_proxies(url, exceptions))


def _choice(options: Options) -> Callable[[str, Sequence[str]], Sequence[str]]:
    version = options.ip_version

    def choose(host: str, found: Sequence[str]) -> Sequence[str]:
        wanted = [one for one in found if (6 if ":" in one else 4) == version] if version else found
        if not wanted and not options.ip_fallback:
            raise Unresolved(f"The name {host} has no IPv{version} address.")
        wanted = wanted or found
        return wanted[:1] if options.one_address else wanted

    return choose


def _chain_expiry(options: Options, final: Exchange) -> float | None:
    if not final.chain or options.insecure or not final.status:
        return None
    return chain.last_expiry(final.chain, options.ca_file or Path(ca_bundle()))


def phases_of(hop: Exchange, start: float) -> list[Phase]:
    """The phases of one exchange; the one that a failure broke off is last and not finished."""
    ends = (hop.resolved, hop.connected, hop.secured, hop.answered)
    phases: list[Phase] = []
    before = 0.0
    for name, end in zip(PHASES, ends, strict=False):
        if end:
            phases.append(Phase(name, start + before, end - before))
            before = end
        elif name != "tls" or (split(hop.url).scheme == "https" and hop.failure):
            phases.append(Phase(name, start + before, hop.ended - before, finished=False))
            return phases
    complete = hop.failure is None
    phases.append(Phase("transfer", start + before, hop.ended - before, finished=complete))
    return phases


def _samples(
    hops: Sequence[Exchange], phases: Sequence[Phase], length: int, last_chain: float | None
) -> list[Sample]:
    own, final = hops[0], hops[-1]
    redirected = bool(final.redirect) and final.status in REDIRECTS
    spent = dict.fromkeys(PHASES, 0.0)
    for phase in phases:
        if phase.finished:
            spent[phase.name] += phase.seconds
    samples = [
        Sample("probe_http_duration_seconds", seconds, _OF_PHASE[name])
        for name, seconds in spent.items()
    ]
    samples += [
        Sample("probe_http_content_length", final.content_length if final.status else 0),
        Sample("probe_http_redirects", len(hops) - 1 + redirected),
        Sample("probe_http_ssl", final.secured > 0),
        Sample("probe_http_status_code", final.status),
        Sample("probe_http_uncompressed_body_length", length),
        Sample("probe_http_version", final.version),
        *address.samples(phases[0].seconds, own.tried),
    ]
    if final.last_modified >= 0:
        name = "probe_http_last_modified_timestamp_seconds"
        samples.append(Sample(name, final.last_modified))
    samples += security.samples(final.tls_version, final.tls_cipher, final.certificates, last_chain)
    return samples


def _facts(hops: Sequence[Exchange], length: int) -> dict[str, str]:
    final = hops[-1]
    facts = {}
    if len(hops) > 1:
        facts["redirects"] = " -> ".join(shown(hop.url) for hop in hops)
    if final.address:
        facts["address"] = final.address
    if final.tls_version:
        facts["encryption"] = f"{final.tls_version}, {final.tls_cipher}"
    if final.status:
        facts["answer"] = f"HTTP/{final.version:g} {final.status}, {length:,} bytes"
    return facts


KIND = Kind("http", ("http", "https"), Options, Expect, probe, HELP)
