"""HTTP and HTTPS, with the metrics of blackbox_exporter's http prober."""

import re
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from time import perf_counter
from typing import Annotated, Any, Literal, NamedTuple, Self
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies_environment

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator
from requests.utils import should_bypass_proxies

from dolcevita.config import Duration, Strict, one_or_many
from dolcevita.probes import address, chain, pattern, security, stream
from dolcevita.probes.certificate import Certificate
from dolcevita.probes.course import Broken, Course
from dolcevita.probes.curl import (
    Exchange,
    Failure,
    Headers,
    Proxy,
    Request,
    Tls,
    ca_bundle,
    exchange,
    shown,
)
from dolcevita.probes.evidence import MOST_SEEN, Evidence, gather, is_secret
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.oauth2 import Client, forget, token
from dolcevita.probes.pattern import JSONPath, Regex
from dolcevita.probes.resolve import GUARD, Unresolved
from dolcevita.probes.result import Phase, Reason, Result, Sample
from dolcevita.probes.secret import read
from dolcevita.probes.security import TlsOptions
from dolcevita.probes.stream import Address, NetworkOptions, Place

MOST_REDIRECTS = 10
MOST_BODY = 10_000_000
"""Bytes of a decoded body that are read; what comes after them is not looked at."""

MOST_KEPT = 1_000_000
"""Bytes of a decoded body that regular expressions and JSONPaths see, without `body_limit`."""

CLOSER_LOOK = 2.0
"""Seconds for a second look at a certificate that was refused."""

REDIRECTS = (301, 302, 303, 307, 308)
"""The statuses that lead elsewhere (RFC 9110, section 15.4); the last two keep the method."""

PHASES = ("resolve", "connect", "tls", "processing", "transfer")

UNITS = {"": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KIB": 1024, "MIB": 1024**2}
UNITS["GIB"] = 1024**3


def _size(value: Any) -> Any:
    """Bytes from '500kB' or '1 MiB'; a number stays."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d{1,15})\s*([a-z]*)", value.strip(), re.IGNORECASE)
    if not match or match[2].upper() not in UNITS:
        raise ValueError("expected a size such as 500kB, 10MB or 1MiB")
    return int(match[1]) * UNITS[match[2].upper()]


def _text(value: Any) -> Any:
    """YAML reads 1.1 and 2 as numbers."""
    return f"{value:g}" if isinstance(value, int | float) else value


def _one_line(text: str) -> str:
    if re.search(r"[\x00\r\n]", text):
        raise ValueError("expected text on one line")
    return text


def _token(text: str) -> str:
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", text):
        raise ValueError("expected letters, digits and -")
    return text


def _proxy_url(text: str) -> str:
    parts = _split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected the URL of a proxy, such as http://proxy.example.com:3128")
    return text


Size = Annotated[int, BeforeValidator(_size), Field(ge=1)]
Line = Annotated[str, AfterValidator(_one_line)]
Token = Annotated[str, AfterValidator(_token)]
Version = Annotated[Literal["1.1", "2", "3"], BeforeValidator(_text)]
AnsweredVersion = Annotated[Literal["1", "1.1", "2", "3"], BeforeValidator(_text)]


class _Described(Strict):
    model_config = ConfigDict(use_attribute_docstrings=True)


class BasicAuth(_Described):
    """A user name and password (RFC 7617). Either may come from a file."""

    username: str | None = None
    username_file: Path | None = None
    password: str | None = None
    password_file: Path | None = None

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        _at_most_one(self, "username", "username_file")
        _at_most_one(self, "password", "password_file")
        return self


class Authorization(_Described):
    """The Authorization header: a scheme and what it takes, a token as a rule."""

    type: Token = "Bearer"
    credentials: Line | None = None
    credentials_file: Path | None = None

    @model_validator(mode="after")
    def _once(self) -> Self:
        _at_most_one(self, "credentials", "credentials_file")
        return self


class Options(TlsOptions):
    """How the page is asked for. Everything secret goes to the site's own host only."""

    method: Token = "GET"
    """The request's method."""
    headers: dict[Token, Line | None] = {}
    """Headers to send, to the site's own host only; `null` sends none of that name."""
    header_files: dict[Token, Path] = {}
    """Headers whose value is in a file, for a secret."""
    body: str | None = None
    """What to send."""
    body_file: Path | None = None
    """A file with what to send."""
    basic_auth: BasicAuth | None = None
    """`username` and `password`, or `username_file` and `password_file`."""
    authorization: Authorization | None = None
    """`credentials` or `credentials_file`, and their `type` if it is not Bearer."""
    oauth2: Client | None = None
    """A token for client credentials: `client_id`, `client_secret` or `client_secret_file`,
    `token_url`, and where asked `scopes` and `endpoint_params`."""
    proxy: Annotated[str, AfterValidator(_proxy_url)] | None = None
    """The URL of a proxy."""
    proxy_from_environment: bool = False
    """Take the proxy from http_proxy, https_proxy and no_proxy."""
    proxy_headers: dict[Token, Line] = {}
    """Headers for the proxy alone."""
    proxy_resolves: bool = True
    """Ask the proxy for the name; else for the address that this machine finds."""
    no_proxy: str = ""
    """Hosts, domains and networks that are reached without the proxy, between commas."""
    http_version: Version | None = None
    """Speak 1.1, 2 or 3; without it the newest over TCP that the server knows."""
    ip_version: Literal[4, 6, "both"] | None = None
    """Only over IPv4 or IPv6, or `both`, one after the other; as the system prefers without it."""
    ip_fallback: bool = False
    """Over the other version where the name has no address of `ip_version`."""
    one_address: bool = False
    """Try the first address alone; else the next ones too when it does not answer."""
    source_ip_address: Address | None = None
    """An address of this machine to send from."""
    connect_timeout: Duration | None = None
    """For the name, the connection and TLS; without it half of the time there is."""
    body_limit: Size | None = None
    """A longer page fails, in decoded bytes; without it 10 MB are read and the rest is not."""
    compression: Literal["gzip", "br", "deflate", "zstd", "identity"] | None = None
    """The one compression to ask for, and to come; `identity` for none. Without it as a browser."""
    redirects: Annotated[int, Field(ge=0, le=100)] | None = None
    """How many are followed; without it 10, and none whose status is expected."""

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        _at_most_one(self, "body", "body_file")
        _at_most_one(self, "basic_auth", "authorization", "oauth2")
        _at_most_one(self, "proxy", "proxy_from_environment")
        return self


class HeaderExpect(_Described):
    """What a header must be; of a header sent several times, one value must fit."""

    present: bool | None = None
    """It must be there, whatever its value, or with `false` must not."""
    contains: Annotated[tuple[str, ...], one_or_many()] = ()
    """Texts that must be in it."""
    matches: Annotated[tuple[Regex, ...], one_or_many()] = ()
    """Regular expressions that must be found in it."""
    not_matches: Annotated[tuple[Regex, ...], one_or_many()] = ()
    """Regular expressions that must be found in none of its values."""
    optional: bool = False
    """All of this only if it is there."""


def _header_expect(value: Any) -> Any:
    return {"contains": value} if isinstance(value, str) else value


def _json_expect(value: Any) -> Any:
    """Paths alone are paths to anything."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list) and all(isinstance(path, str) for path in value):
        return dict.fromkeys(value, ANYTHING)
    return value


class _Anything:
    def __repr__(self) -> str:
        return "anything"


ANYTHING = _Anything()


class Expect(Expectations):
    """What the answer must be."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    status: Annotated[tuple[Annotated[int, Field(ge=100, le=599)], ...], one_or_many()] = ()
    """The accepted ones, else any 2xx; a redirect that is listed is not followed."""
    http_version: Annotated[tuple[AnsweredVersion, ...], one_or_many()] = ()
    """The versions of HTTP the answer may have: 1.1, 2, 3."""
    tls: bool | None = None
    """Whether the last request must be over TLS, or must not."""
    tls_version: Annotated[tuple[security.Version, ...], one_or_many()] = ()
    """The versions of TLS it may be over."""
    header: dict[Token, Annotated[HeaderExpect, BeforeValidator(_header_expect)]] = {}
    """By name: a text that must be in the value, or `present`, `contains`, `matches`,
    `not_matches` and `optional`."""
    contains: Annotated[tuple[str, ...], one_or_many()] = ()
    """Texts that must be in the page."""
    absent: Annotated[tuple[str, ...], one_or_many()] = ()
    """Texts that must not be in the page."""
    matches: Annotated[tuple[Regex, ...], one_or_many()] = ()
    """Regular expressions that must be found in the page."""
    not_matches: Annotated[tuple[Regex, ...], one_or_many()] = ()
    """Regular expressions that must not be found in the page."""
    json_: Annotated[dict[JSONPath, Any], BeforeValidator(_json_expect), Field(alias="json")] = {}
    """JSONPaths that must lead to something, or each with the value it must lead to."""
    final_url: str | None = None
    """Where redirects must end."""


HELP = {
    **address.HELP,
    **security.HELP,
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


def _at_most_one(model: Strict, *names: str) -> None:
    given = [name for name in names if getattr(model, name)]
    if len(given) > 1:
        raise ValueError(f"expected only one of {' and '.join(given)}")


class Fault(NamedTuple):
    """Why the answer is not what is expected; `regex` where an expression said so."""

    failure: Failure
    regex: bool = False


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
    course = _Course([], [], _Body(target.expect, target.options.body_limit))
    secrets = _Secrets()
    try:
        secrets = await _secrets(target.options, budget)
    except Broken as broken:
        failure = Failure(broken.reason, broken.detail)
        course.add(Exchange(target.url, failure, ended=perf_counter() - begin), 0.0)
    else:
        await _follow(target, secrets, course, begin, budget)
    hops, phases, body = course
    fault = _verdict(target, hops, body)
    told = fault.failure if fault else None
    final = hops[-1]
    if final.status == 401:
        forget(target.options.oauth2)
    samples = _samples(hops, phases, body.length, _chain_expiry(target.options, final))
    samples.append(Sample("probe_failed_due_to_regex", fault is not None and fault.regex))
    certificates = final.certificates
    if told and told.reason is Reason.CERTIFICATE and not certificates:
        certificates = await _refused_chain(target, final, budget - (perf_counter() - begin))
    return Result(
        success=fault is None,
        reason=told.reason if told else None,
        detail=told.detail if told else f"{shown(final.url)} answers with {final.status}.",
        duration=perf_counter() - begin,
        samples=tuple(samples),
        phases=tuple(phases),
        certificates=certificates,
        facts=_facts(hops, body.length),
        evidence=seen(final, bytes(body.head), secrets.words) if fault else None,
        again=not _refused_login(target, final),
    )


async def _refused_chain(
    target: Target[Options, Expect], final: Exchange, left: float
) -> tuple[Certificate, ...]:
    """The certificates that were refused, for a person: libcurl tells none that it refuses."""
    url, options = _split(final.url), target.options
    if GUARD.get() or _proxy(options, final.url) or not final.address:
        return ()
    at_home = _at_home(final.url, target.url)
    tls = options if at_home else TlsOptions()
    course = Course(min(left, CLOSER_LOOK))
    late = Broken(Reason.TIMEOUT, f"{url.hostname} does not show its certificate in time.")
    try:
        there = Place(final.address, url.port or 443)
        connection = await stream.connect(there, course, NetworkOptions())
        try:
            async with course.phase("tls", course.left, late):
                name = tls.server_name or url.hostname
                session = await connection.secure(security.context(tls, verify=False), name)
        finally:
            connection.close()
    except Broken:
        return ()
    return session.chain


def _refused_login(target: Target[Options, Expect], final: Exchange) -> bool:
    """Whether a password was sent and not taken: servers count that and lock out."""
    options = target.options
    sent = options.basic_auth or options.authorization
    return final.status == 401 and sent is not None and _at_home(final.url, target.url)


class _Course(NamedTuple):
    """What there was so far: exchanges, their phases, and the body of the last one."""

    hops: list[Exchange]
    phases: list[Phase]
    body: "_Body"

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


async def _secrets(options: Options, budget: float) -> _Secrets:
    """Raises Broken where a file cannot be read or no token is given."""
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
    target: Target[Options, Expect], step: _Step, secrets: _Secrets, body: "_Body", left: float
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
        tls=_tls(options, at_home),
        proxy=_proxy(options, step.url),
        choose=_choice(options),
        source=options.source_ip_address,
    )


def _at_home(url: str, own: str) -> bool:
    """Whether what is secret may go there: to the same host, and not from https to http."""
    if url == own:
        return True
    here, home = _split(url), _split(own)
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


def _tls(options: Options, at_home: bool) -> Tls:
    return Tls(
        ca_file=options.ca_file,
        cert_file=options.cert_file if at_home else None,
        key_file=options.key_file if at_home else None,
        server_name=options.server_name if at_home else None,
        insecure=options.insecure,
        min_version=options.min_version,
        max_version=options.max_version,
    )


def _proxy(options: Options, url: str) -> Proxy | None:
    where, exceptions = options.proxy, options.no_proxy
    parts = _split(url)
    if options.proxy_from_environment:
        found = getproxies_environment()
        where, exceptions = found.get(parts.scheme), found.get("no", "")
        if parts.hostname in ("localhost", "127.0.0.1", "::1"):
            return None
    if not where or (exceptions and should_bypass_proxies(url, exceptions)):
        return None
    lines = [f"{name}: {value}" for name, value in options.proxy_headers.items()]
    return Proxy(where, lines, options.proxy_resolves)


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


class _Body:
    """Looks for texts in a body as it comes; keeps only what expressions must see, bounded.

    So the memory of a probe does not depend on what a server sends, and no decoder runs on it:
    a text is looked for in the bytes that it has in the encodings a page may be in.
    """

    def __init__(self, expect: Expect, limit: int | None) -> None:
        self.texts = (*expect.contains, *expect.absent)
        self.limit = limit
        expressions = expect.matches or expect.not_matches or expect.json_
        self.most_kept = min(limit or MOST_KEPT, MOST_BODY) if expressions else 0
        self.reset()

    def reset(self) -> None:
        """Forget the body of a redirect."""
        self.length = 0
        self.too_long = False
        self.head = bytearray()
        self.found: set[str] = set()
        self.patterns: list[tuple[str, bytes]] = []
        self.overlap = b""
        self.longest = 0
        self.charset = "utf-8"
        self.kept = bytearray()

    def begin(self, headers: Headers) -> Callable[[bytes], bool]:
        self.charset = _charset(headers)
        encodings = ("utf-8", "cp1252", "utf-16-le", "utf-16-be", self.charset)
        patterns = {(text, _encode(text, name)) for text in self.texts for name in encodings}
        self.patterns = [(text, pattern) for text, pattern in patterns if pattern]
        self.longest = max((len(pattern) for _, pattern in self.patterns), default=0)
        self.found = {text for text in self.texts if not text}
        return self.take

    def take(self, piece: bytes) -> bool:
        if self.limit is not None and self.length + len(piece) > self.limit:
            piece = piece[: self.limit - self.length]
            self.too_long = True
        self.length += len(piece)
        self.head += piece[: MOST_SEEN - len(self.head)]
        self.kept += piece[: self.most_kept - len(self.kept)]
        if self.patterns:
            window = self.overlap + piece
            self.found |= {text for text, pattern in self.patterns if pattern in window}
            self.overlap = window[-self.longest :]
        return not self.too_long if self.limit is not None else self.length < MOST_BODY

    def text(self) -> str:
        """What was kept of it, for expressions."""
        try:
            return self.kept.decode(self.charset, "replace")
        except LookupError:
            return self.kept.decode("utf-8", "replace")


def seen(final: Exchange, body: bytes, secrets: Iterable[str] = ()) -> Evidence:
    """The evidence of the last exchange and the begin of its body."""
    return gather(
        secrets=secrets,
        addresses=final.addresses,
        address=final.address,
        answer=f"HTTP/{final.version:g} {final.status}" if final.status else "",
        headers=final.headers,
        body=body,
        charset=_charset(final.headers),
    )


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


@lru_cache(maxsize=4096)
def _split(url: str) -> SplitResult:
    """A URL's parts, all of them empty if it is none: a server can redirect to anything."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return urlsplit("")
    return parts


def phases_of(hop: Exchange, start: float) -> list[Phase]:
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


def _verdict(
    target: Target[Options, Expect], hops: Sequence[Exchange], body: _Body
) -> Fault | None:
    """What is wrong first, in the order in which an answer comes."""
    expect, final = target.expect, hops[-1]
    if final.failure:
        if len(hops) > 1 and final.failure.reason is Reason.PROTOCOL and not final.connected:
            there = shown(final.url)
            detail = f"{shown(hops[-2].url)} redirects to {there}, which is not a web URL."
            return Fault(Failure(Reason.REDIRECT, detail))
        return Fault(final.failure)
    failure = _connection(target, hops)
    if failure:
        return Fault(failure)
    for name, wanted in expect.header.items():
        values = [value for key, value in final.headers if key == name.lower()]
        if fault := _header(name, values, wanted):
            return fault
    if body.too_long:
        detail = f"The page is longer than {body.limit:,} bytes."
        return Fault(Failure(Reason.CONTENT, detail))
    return _content(target, final, body)


def _connection(target: Target[Options, Expect], hops: Sequence[Exchange]) -> Failure | None:
    """What is wrong with the status, the versions and the URL."""
    expect, final, url = target.expect, hops[-1], shown(hops[-1].url)
    if len(hops) > MOST_REDIRECTS and target.options.redirects is None:
        detail = f"{shown(hops[0].url)} redirects more than {MOST_REDIRECTS} times."
        return Failure(Reason.REDIRECT, detail)
    if expect.status:
        if final.status not in expect.status:
            wanted = " or ".join(map(str, expect.status))
            detail = f"{url} answers with {final.status}, expected {wanted}."
            return Failure(Reason.STATUS, detail)
    elif not 200 <= final.status < 300:
        return Failure(Reason.STATUS, f"{url} answers with {final.status}, expected 2xx.")
    if expect.final_url and _normal(final.url) != _normal(expect.final_url):
        detail = f"The redirects end at {url}, expected {expect.final_url}."
        return Failure(Reason.REDIRECT, detail)
    if expect.http_version and f"{final.version:g}" not in expect.http_version:
        wanted = " or ".join(f"HTTP/{version}" for version in expect.http_version)
        detail = f"{url} answers with HTTP/{final.version:g}, expected {wanted}."
        return Failure(Reason.PROTOCOL, detail)
    if expect.tls is not None and expect.tls != (final.secured > 0):
        found, wanted = ("with", "without") if final.secured else ("without", "with")
        return Failure(Reason.TLS, f"{url} answers {found} TLS, expected {wanted}.")
    if expect.tls_version and final.tls_version not in expect.tls_version:
        wanted = " or ".join(expect.tls_version)
        detail = f"{url} answers over {final.tls_version or 'no TLS'}, expected {wanted}."
        return Failure(Reason.TLS, detail)
    return None


def _header(name: str, values: Sequence[str], wanted: HeaderExpect) -> Fault | None:
    asks = bool(wanted.matches or wanted.not_matches)
    if not values:
        if wanted.optional or wanted.present is False:
            return None
        return Fault(Failure(Reason.CONTENT, f"The header {name} is not sent."), asks)
    sent = f"The header {name} is '{values[-1][:100]}'"
    if wanted.present is False:
        return Fault(Failure(Reason.CONTENT, f"{sent}, expected it not to be sent."))
    for text in wanted.contains:
        if not any(text in value for value in values):
            return Fault(Failure(Reason.CONTENT, f"{sent}, expected it to contain '{text}'."))
    try:
        with pattern.bounded():
            for regex in wanted.not_matches:
                if any(pattern.compiled(regex).search(value) for value in values):
                    detail = f"{sent}, expected it not to match '{regex}'."
                    return Fault(Failure(Reason.CONTENT, detail), True)
            for regex in wanted.matches:
                if not any(pattern.compiled(regex).search(value) for value in values):
                    detail = f"{sent}, expected it to match '{regex}'."
                    return Fault(Failure(Reason.CONTENT, detail), True)
    except pattern.TooSlow:
        return _too_slow(f"the header {name}")
    return None


def _too_slow(where: str) -> Fault:
    detail = f"The regular expressions take too long for {where}: write simpler ones."
    return Fault(Failure(Reason.CONTENT, detail), True)


def _content(target: Target[Options, Expect], final: Exchange, body: _Body) -> Fault | None:
    """What is wrong with the page."""
    expect, options = target.expect, target.options
    if options.compression not in (None, "identity"):
        sent = next((value for key, value in final.headers if key == "content-encoding"), "none")
        if sent.lower() != options.compression:
            detail = f"The compression of the page is {sent}, expected {options.compression}."
            return Fault(Failure(Reason.CONTENT, detail))
    for text in expect.contains:
        if text not in body.found:
            return Fault(Failure(Reason.CONTENT, f"'{text}' is not in the page."))
    for text in expect.absent:
        if text in body.found:
            detail = f"'{text}' is in the page and should not be."
            return Fault(Failure(Reason.CONTENT, detail))
    if expect.matches or expect.not_matches:
        try:
            with pattern.bounded():
                if fault := _matches(expect, body.text()):
                    return fault
        except pattern.TooSlow:
            return _too_slow("the page")
    return Fault(failure) if expect.json_ and (failure := _json(expect, body)) else None


def _matches(expect: Expect, text: str) -> Fault | None:
    for regex in expect.not_matches:
        if pattern.compiled(regex).search(text):
            detail = f"The page matches '{regex}' and should not."
            return Fault(Failure(Reason.CONTENT, detail), True)
    for regex in expect.matches:
        if not pattern.compiled(regex).search(text):
            return Fault(Failure(Reason.CONTENT, f"The page does not match '{regex}'."), True)
    return None


def _json(expect: Expect, body: _Body) -> Failure | None:
    if body.length > len(body.kept):
        detail = f"The page is longer than the {len(body.kept):,} bytes of JSON that are read."
        return Failure(Reason.CONTENT, detail)
    try:
        with pattern.bounded():
            document = pattern.document(bytes(body.kept))
            for path, wanted in expect.json_.items():
                values = pattern.found(path, document)
                if not values:
                    return Failure(Reason.CONTENT, f"The page has nothing at {path}.")
                if wanted is not ANYTHING and not any(_same(value, wanted) for value in values):
                    there = repr(values[0])[:100]
                    detail = f"The page has {there} at {path}, expected {wanted!r}."
                    return Failure(Reason.CONTENT, detail)
    except ValueError as error:
        return Failure(Reason.CONTENT, f"The page is no JSON: {error}.")
    except pattern.TooSlow:
        return Failure(Reason.CONTENT, "The JSON of the page takes too long to look through.")
    return None


def _same(value: Any, wanted: Any) -> bool:
    """Equal in JSON, where true is not 1."""
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _normal(url: str) -> tuple[str, str, int | None, str, str]:
    """What makes two URLs the same page: https://A.example and https://a.example:443/ are."""
    parts = _split(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port, parts.path or "/", parts.query


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
        Sample("probe_http_duration_seconds", seconds, {"phase": name})
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
