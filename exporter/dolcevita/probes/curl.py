"""libcurl on the event loop: one HTTP exchange, name to last byte. Nothing else knows libcurl.

The times are those of the page "curl_easy_getinfo", section TIMES.
"""

import asyncio
import errno
import itertools
import socket
import ssl
from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache, lru_cache, partial
from importlib.metadata import version
from ipaddress import ip_address
from pathlib import Path
from time import perf_counter
from typing import Any, Literal, NamedTuple

import pycurl
from yarl import URL

from dolcevita.probes import certificate
from dolcevita.probes.certificate import Certificate
from dolcevita.probes.resolve import GUARD, Unresolved, check, resolve
from dolcevita.probes.result import Reason

USER_AGENT = f"dolcevita/{version('dolcevita')}"

Headers = tuple[tuple[str, str], ...]
"""Names in lower case, and values, in the order received."""

HTTP_VERSIONS = {
    pycurl.CURL_HTTP_VERSION_1_0: 1.0,
    pycurl.CURL_HTTP_VERSION_1_1: 1.1,
    pycurl.CURL_HTTP_VERSION_2_0: 2.0,
    pycurl.CURL_HTTP_VERSION_3: 3.0,
}


ASKED_VERSIONS = {
    "1.1": pycurl.CURL_HTTP_VERSION_1_1,
    "2": pycurl.CURL_HTTP_VERSION_2TLS,
    "2 only": pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE,
    "3": pycurl.CURL_HTTP_VERSION_3ONLY,
}

OLDEST_TLS = {
    "TLS 1.0": pycurl.SSLVERSION_TLSv1_0,
    "TLS 1.1": pycurl.SSLVERSION_TLSv1_1,
    "TLS 1.2": pycurl.SSLVERSION_TLSv1_2,
    "TLS 1.3": pycurl.SSLVERSION_TLSv1_3,
}
NEWEST_TLS = {
    "TLS 1.0": pycurl.SSLVERSION_MAX_TLSv1_0,
    "TLS 1.1": pycurl.SSLVERSION_MAX_TLSv1_1,
    "TLS 1.2": pycurl.SSLVERSION_MAX_TLSv1_2,
    "TLS 1.3": pycurl.SSLVERSION_MAX_TLSv1_3,
}

CLASSIC_GROUPS = "X25519:P-256:P-384:P-521"
"""The key exchanges that every server of today has one of. OpenSSL's own choice begins with a
hybrid against quantum computers, which takes longer to prepare, for both sides."""

CIPHERS = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""Those of TLS 1.3, the cheapest first; OpenSSL's own choice is another order."""

_TEXT, _REQUEST = pycurl.INFOTYPE_TEXT, pycurl.INFOTYPE_HEADER_OUT
_RECEIVED = pycurl.INFOTYPE_SSL_DATA_IN
_SESSION = b"SSL connection using "
_CERTIFICATE = b"\x0b"
"""The type of the message of a handshake that has the certificates (RFC 8446, section 4)."""

MOST_IDLE = 32
"""Handles of a shape that are kept between exchanges, as many as a batch has sites."""

MOST_SHAPES = 16
"""Shapes of which any are kept."""

MOST_CERTIFICATES = 100
"""Of a server that are looked at, as many as libcurl takes."""

MOST_ADDRESSES = 16
"""Addresses of a name that are tried; more would be a scan of somebody's network."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How TLS is spoken; `server_name` is asked for and checked instead of the URL's host."""

    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    server_name: str | None = None
    insecure: bool = False
    min_version: str = "TLS 1.2"
    max_version: str = "TLS 1.3"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy's URL, and whole header lines for it alone.

    `resolves` says that it looks up names; else it is asked for the address found here.
    """

    url: str
    headers: Sequence[str] = ()
    resolves: bool = True


def any_address(host: str, found: Sequence[str]) -> Sequence[str]:
    """The choice of who has no preference."""
    return found


@dataclass(slots=True)
class Request:
    """One request over a connection of its own, redirects not followed.

    `timeout` is for all of it, `connect_timeout` for the name, the connection and TLS, both in
    seconds. `on_answer` gets the headers and gives what takes the decoded body in pieces and
    returns whether it wants more; to want no more is no failure. `headers` are whole lines;
    a Host among them is also the name that TLS asks for.

    `version` is of HTTP, None for what the server likes best; "2 only" speaks it without asking,
    also without TLS. `encodings` are the content
    encodings to ask for, None for all that libcurl decodes; `encodings=()` asks for none and
    decodes none. `choose` gets the host and its addresses and gives those to try; it may raise
    Unresolved. `source` is an address of this machine. A URL of the configuration's own need not
    be `guarded`.
    """

    url: str
    timeout: float
    connect_timeout: float
    on_answer: Callable[[Headers], Callable[[bytes], bool]]
    method: str = "GET"
    body: bytes | None = None
    headers: Sequence[str] = ()
    cookies: Sequence[bytes] = ()
    version: Literal["1.1", "2", "2 only", "3"] | None = None
    encodings: Sequence[str] | None = None
    tls: Tls = field(default_factory=Tls)
    proxy: Proxy | None = None
    choose: Callable[[str, Sequence[str]], Sequence[str]] = any_address
    source: str | None = None
    guarded: bool = True


class Failure(NamedTuple):
    """Why an exchange did not come to its end."""

    reason: Reason
    detail: str


@dataclass(slots=True)
class Exchange:
    """What came of a Request; after a failure, what is known up to it.

    `resolved` to `ended` are seconds from the beginning to the end of each step, 0 where it was
    not reached, or for `secured` without TLS. Of `addresses`, `address` is the last that was
    tried. `status` and `version` are 0 without an answer,
    `content_length` (bytes) and `last_modified` (unix seconds) -1 where the server does not
    say. `redirect` is the absolute URL that the answer points to, or '', and `cookies` are what
    goes there with the next request.
    """

    url: str
    failure: Failure | None
    resolved: float = 0.0
    connected: float = 0.0
    secured: float = 0.0
    answered: float = 0.0
    ended: float = 0.0
    addresses: tuple[str, ...] = ()
    address: str = ""
    status: int = 0
    version: float = 0.0
    headers: Headers = ()
    cookies: tuple[bytes, ...] = ()
    content_length: int = 0
    last_modified: int = -1
    redirect: str = ""
    certificates: tuple[Certificate, ...] = ()
    chain: tuple[bytes, ...] = ()
    tls_version: str = ""
    tls_cipher: str = ""

    @property
    def tried(self) -> str:
        """The address in use, or that would have been, '' without any."""
        return self.address or next(iter(self.addresses), "")


_multis: dict[asyncio.AbstractEventLoop, pycurl.AsyncCurlMulti] = {}


def _multi() -> pycurl.AsyncCurlMulti:
    """The running loop's libcurl: it keeps the parsed CA certificates between exchanges."""
    loop = asyncio.get_running_loop()
    if loop not in _multis:
        _multis[loop] = pycurl.AsyncCurlMulti()
    return _multis[loop]


async def close() -> None:
    """End what is under way on the running loop and free its libcurl."""
    _forget_idle()
    multi = _multis.pop(asyncio.get_running_loop(), None)
    if multi:
        await multi.aclose()


@cache
def ca_bundle() -> str:
    """The file of trusted CAs: $SSL_CERT_FILE, else the system's, else the one of certifi."""
    if system := ssl.get_default_verify_paths().cafile:
        return system
    from requests.utils import DEFAULT_CA_BUNDLE_PATH  # takes memory that few need

    return DEFAULT_CA_BUNDLE_PATH


async def exchange(request: Request) -> Exchange:
    """Send the request and read the answer. Raises nothing of the network's."""
    begin = perf_counter()
    try:
        url = _ascii(request.url)
        host, port = url.raw_host, url.port
    except ValueError:
        host = port = None
    if not host or not port:
        detail = f"{shown(request.url)} is not a web URL."
        return Exchange(request.url, Failure(Reason.PROTOCOL, detail))
    addresses: Sequence[str] = ()
    known = {}
    proxy = request.proxy
    try:
        if not proxy or not proxy.resolves:
            found = await resolve(host, request.connect_timeout, request.guarded)
            addresses = request.choose(host, found)[:MOST_ADDRESSES]
        elif request.guarded:
            check(host)
        if proxy:
            known = await _resolved_proxy(proxy, begin + request.connect_timeout - perf_counter())
    except Unresolved as error:
        ended = perf_counter() - begin
        return Exchange(request.url, Failure(Reason.DNS, str(error)), ended=ended)
    resolved = perf_counter() - begin
    where = _Where(url, addresses, known, resolved)
    classic = url.scheme == "https" and not _has_secrets(request)
    result = await _transferred(request, where, classic, resolved)
    if classic and result.failure and result.failure.reason is Reason.TLS:
        again = await _transferred(request, where, False, perf_counter() - begin)
        if not again.failure or again.failure.reason is not Reason.TIMEOUT:
            result = again
    return result


class _Where(NamedTuple):
    """The server of a request: `known` has the addresses of more names, as 'host:port'.

    Its name was `resolved` after so many seconds.
    """

    url: URL
    addresses: Sequence[str]
    known: Mapping[str, Sequence[str]]
    resolved: float


def _has_secrets(request: Request) -> bool:
    """Whether what is sent should stay unread for longer than today's key exchanges may last."""
    return bool(request.headers or request.cookies or request.body or request.tls.cert_file)


async def _transferred(request: Request, where: _Where, classic: bool, spent: float) -> Exchange:
    """Begin when `spent` seconds are. `classic` offers CLASSIC_GROUPS alone, else there is all
    that OpenSSL has."""
    idle = _idle_for(request, where.url, classic)
    transfer = idle.pop() if idle else _Transfer(request, where, classic)
    transfer.begin(request, where, spent)
    code = pycurl.E_OK
    try:
        await _multi().perform(transfer.curl)
    except pycurl.error as error:
        code = int(error.args[0])
    result = transfer.result(spent, code)
    if idle is not None and code == pycurl.E_OK and len(idle) < MOST_IDLE:
        transfer.curl.setopt(pycurl.COOKIELIST, "ALL")  # forgets what the server left
        idle.append(transfer)
    else:
        # Frees it now: the handle and its callbacks refer to each other.
        transfer.curl.close()
    return result


_idle: dict[Hashable, list["_Transfer"]] = {}
"""Handles that are set up and wait for the next request of their shape."""


def _idle_for(request: Request, url: URL, classic: bool) -> list["_Transfer"] | None:
    """Handles that another request left and that fit for this one as they are set up.

    None where none is to be used twice: what they share holds no secret and goes by no server's
    name.
    """
    alone = request.proxy or request.tls.server_name or (request.guarded and GUARD.get())
    if alone or _has_secrets(request):
        return None
    encodings = request.encodings and tuple(request.encodings)
    asked = (request.method, request.version, encodings, request.source)
    shape = (*asked, request.tls, url.scheme, classic)
    idle = _idle.get(shape)
    if idle is None:
        if len(_idle) == MOST_SHAPES:
            _forget_idle()
        idle = _idle[shape] = []
    return idle


def _forget_idle() -> None:
    for transfer in itertools.chain.from_iterable(_idle.values()):
        transfer.curl.close()
    _idle.clear()


async def check_staple(
    host: str, port: int, address: str, within: float, ca_file: Path | None
) -> str:
    """What is wrong with the OCSP response that a TLS server staples, '' for a good one.

    The server is the one at the address; its certificate is expected to be good.
    """
    curl = pycurl.Curl()
    name = f"[{host}]" if ":" in host else host
    options: list[tuple[int, Any]] = [
        (pycurl.URL, f"https://{name}:{port}/"),
        (pycurl.RESOLVE, [f"+{name}:{port}:{f'[{address}]' if ':' in address else address}"]),
        (pycurl.DNS_CACHE_TIMEOUT, 1),
        (pycurl.PROXY, ""),
        (pycurl.CONNECT_ONLY, 1),
        (pycurl.SSL_VERIFYSTATUS, 1),
        (pycurl.SSL_SESSIONID_CACHE, 0),
        (pycurl.CAINFO, str(ca_file or ca_bundle())),
        (pycurl.TIMEOUT_MS, _milliseconds(within)),
        (pycurl.NOSIGNAL, 1),
    ]
    for option, value in options:
        curl.setopt(option, value)
    try:
        await _multi().perform(curl)
    except pycurl.error:
        return _text(curl.errstr_raw()) or "no handshake with it"
    finally:
        curl.close()
    return ""


@lru_cache(maxsize=4096)
def _ascii(url: str) -> URL:
    """As it stands if it is ASCII, else with the host in Punycode and the rest quoted."""
    return URL(url, encoded=url.isascii())


def shown(url: str) -> str:
    """The URL without a user name and password."""
    try:
        return str(URL(url, encoded=True).with_user(None)) if "@" in url else url
    except ValueError:
        return url.rpartition("@")[2]


async def _resolved_proxy(proxy: Proxy, within: float) -> dict[str, Sequence[str]]:
    """'host:port' of the proxy and its addresses, looked up as everything is: in no pool."""
    url = URL(proxy.url)
    if not url.raw_host or not url.port:
        raise Unresolved(f"The proxy {shown(proxy.url)} is no URL of a host.")
    return {f"{url.raw_host}:{url.port}": await resolve(url.raw_host, within, guarded=False)}


def _open(allowed: Container[object], purpose: int, wanted: Any) -> socket.socket | int:
    family, kind, protocol, address = wanted
    if ip_address(address[0]) not in allowed:
        return pycurl.SOCKET_BAD
    return socket.socket(family, kind, protocol)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


class _Transfer:
    """One libcurl handle with its callbacks and what they gather, for one exchange at a time."""

    def __init__(self, request: Request, where: _Where, classic: bool) -> None:
        """Set every option but where to and for how long."""
        self.curl = curl = pycurl.Curl()
        self.request = request
        self.where = where
        self.classic = classic
        self.secure = where.url.scheme == "https"
        self.header_lines: list[bytes] = []
        headers = list(request.headers)
        if self._as_asked() != where.url and not _header(headers, "host"):
            headers.append(f"Host: {_authority(where.url)}")
        options: list[tuple[int, Any]] = [
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.PROXY, request.proxy.url if request.proxy else ""),
            (pycurl.USERAGENT, USER_AGENT),
            (pycurl.HTTPHEADER, headers),
            (pycurl.COOKIEFILE, ""),
            (pycurl.NOSIGNAL, 1),
            (pycurl.FRESH_CONNECT, 1),
            (pycurl.FORBID_REUSE, 1),
            (pycurl.HEADERFUNCTION, self.header_lines.append),
            (pycurl.WRITEFUNCTION, self.on_body),
        ]
        if request.guarded and GUARD.get():
            # libcurl reads a URL in its own way: nothing is opened but what the guard let pass.
            found = itertools.chain(where.addresses, *where.known.values())
            allowed = set(map(ip_address, found))
            options.append((pycurl.OPENSOCKETFUNCTION, partial(_open, allowed)))
        options += [(pycurl.COOKIELIST, cookie) for cookie in request.cookies]
        options += self._of_request()
        if request.proxy:
            options += self._of_proxy(request.proxy)
        if self.secure:
            options += self._of_tls()
            # libcurl keeps parsed CAs only while they come from a file alone.
            curl.unsetopt(pycurl.CAPATH)
        for option, value in options:
            curl.setopt(option, value)

    def begin(self, request: Request, where: _Where, spent: float) -> None:
        """Set where to and for how long, when `spent` seconds are; forget the exchange before."""
        self.request = request
        self.where = where
        self.header_lines.clear()
        self.head: Headers = ()
        self.parsed = 0
        self.take: Callable[[bytes], bool] | None = None
        self.stopped = False
        self.reached = request.proxy is None
        self.session: list[str] = []
        self.message = b""
        url, known = self._as_asked(), where.known
        if where.addresses:
            known = {**known, f"{_bracketed(url.raw_host or '')}:{url.port}": where.addresses}
        setopt = self.curl.setopt
        setopt(pycurl.URL, str(url).encode())
        # Replaces what another probe resolved; the + lets libcurl forget it after a minute.
        setopt(pycurl.RESOLVE, [f"+{name}:{_joined(found)}" for name, found in known.items()])
        setopt(pycurl.TIMEOUT_MS, _milliseconds(request.timeout - spent))
        setopt(pycurl.CONNECTTIMEOUT_MS, _milliseconds(request.connect_timeout - spent))

    def _as_asked(self) -> URL:
        """The URL for libcurl, which takes from it the name for TLS, and what a proxy gets."""
        request, url, addresses = self.request, self.where.url, self.where.addresses
        if self.secure:
            name = request.tls.server_name or _without_port(_header(request.headers, "host"))
            return url.with_host(name) if name else url
        if request.proxy and addresses:
            return url.with_host(addresses[0])
        return url

    def _of_request(self) -> list[tuple[int, Any]]:
        request = self.request
        options: list[tuple[int, Any]] = []
        if request.body is not None:
            options.append((pycurl.POSTFIELDS, request.body))
        if request.method == "HEAD":
            options.append((pycurl.NOBODY, 1))
        elif request.method != ("GET" if request.body is None else "POST"):
            options.append((pycurl.CUSTOMREQUEST, request.method))
        if request.version:
            options.append((pycurl.HTTP_VERSION, ASKED_VERSIONS[request.version]))
        if request.encodings is None:
            options.append((pycurl.ACCEPT_ENCODING, ""))
        elif request.encodings:
            options.append((pycurl.ACCEPT_ENCODING, ", ".join(request.encodings)))
        if request.source:
            options.append((pycurl.INTERFACE, f"host!{request.source}"))
        return options

    def _of_proxy(self, proxy: Proxy) -> list[tuple[int, Any]]:
        options: list[tuple[int, Any]] = [
            # Neither is the target's secret for the proxy nor the proxy's for the target.
            (pycurl.HEADEROPT, pycurl.HEADER_SEPARATE),
            (pycurl.PROXYHEADER, list(proxy.headers)),
        ]
        url, addresses = self.where.url, self.where.addresses
        if self.secure and addresses:
            options.append((pycurl.CONNECT_TO, [f"::{_bracketed(addresses[0])}:{url.port}"]))
        return options

    def _of_tls(self) -> list[tuple[int, Any]]:
        tls = self.request.tls
        options: list[tuple[int, Any]] = [
            (pycurl.CAINFO, str(tls.ca_file or ca_bundle())),
            (pycurl.SSLVERSION, OLDEST_TLS[tls.min_version] | NEWEST_TLS[tls.max_version]),
            (pycurl.SSL_SESSIONID_CACHE, 0),
            (pycurl.VERBOSE, 1),
            (pycurl.DEBUGFUNCTION, self.on_debug),
        ]
        if self.request.version == "3":
            options.append((pycurl.OPT_CERTINFO, 1))
        if self.classic:
            options.append((pycurl.SSL_EC_CURVES, CLASSIC_GROUPS))
            options.append((pycurl.TLS13_CIPHERS, CIPHERS))
        if tls.insecure:
            options += [(pycurl.SSL_VERIFYPEER, 0), (pycurl.SSL_VERIFYHOST, 0)]
        if tls.cert_file:
            options.append((pycurl.SSLCERT, str(tls.cert_file)))
            options.append((pycurl.SSLKEY, str(tls.key_file or tls.cert_file)))
        if tls.min_version in ("TLS 1.0", "TLS 1.1"):
            # Nothing older is offered by OpenSSL 3 at its usual level.
            options.append((pycurl.SSL_CIPHER_LIST, "ALL:@SECLEVEL=0"))
        return options

    def on_body(self, piece: bytes) -> int:
        if self.take is None:
            self.take = self.request.on_answer(self._headers())
        if self.take(piece):
            return len(piece)
        self.stopped = True
        return 0

    def on_debug(self, kind: int, text: bytes) -> None:
        # libcurl tells the TLS version and cipher nowhere else; of all that it tells, they are one.
        # Until the proxy is asked for the site, it is the proxy's.
        if not self.reached:
            self.reached = kind == _REQUEST and text.startswith(b"CONNECT ")
        elif kind == _RECEIVED and text[:1] == _CERTIFICATE:
            self.message = text
        elif kind == _TEXT and text.startswith(_SESSION):
            self.session = _text(text.removeprefix(_SESSION)).split(" / ")

    def result(self, spent: float, code: int) -> Exchange:
        """What the handle knows, once libcurl is done with it; it began after `spent` seconds."""
        curl, where = self.curl, self.where

        def at(info: int) -> float:
            microseconds = curl.getinfo(info)
            return spent + microseconds / 1e6 if microseconds else 0.0

        connected = at(pycurl.CONNECT_TIME_T)
        secured = at(pycurl.APPCONNECT_TIME_T) if self.secure else 0.0
        failure = None
        if code != pycurl.E_OK and not self.stopped:
            securing = self.secure and not secured
            failure = _failure(curl, code, self.request, connected > 0, securing, self.reached)
        head = self._headers()
        location = _header_value(head, "location")
        sent = self._sent() if self.secure else _Sent()
        session = self.session
        return Exchange(
            url=self.request.url,
            failure=failure,
            resolved=where.resolved,
            connected=connected,
            secured=secured,
            answered=at(pycurl.STARTTRANSFER_TIME_T),
            ended=at(pycurl.TOTAL_TIME_T),
            addresses=tuple(where.addresses),
            address=_text(curl.getinfo_raw(pycurl.PRIMARY_IP)),
            status=curl.getinfo(pycurl.RESPONSE_CODE),
            version=HTTP_VERSIONS.get(curl.getinfo(pycurl.INFO_HTTP_VERSION), 0.0),
            headers=head,
            cookies=tuple(curl.getinfo_raw(pycurl.INFO_COOKIELIST)) if location else (),
            content_length=int(curl.getinfo(pycurl.CONTENT_LENGTH_DOWNLOAD_T)),
            last_modified=_unix_time(_header_value(head, "last-modified")),
            redirect=self._redirect(location) if location else "",
            certificates=sent.certificates,
            chain=sent.chain,
            tls_version=_tls_version(session[0]) if session else "",
            tls_cipher=session[1] if len(session) > 1 else "",
        )

    def _sent(self) -> "_Sent":
        # libcurl's own list of the certificates takes an eighth of a probe, but over QUIC it shows
        # no handshake.
        if self.request.version == "3":
            return _from_certinfo(self.curl.getinfo_raw(pycurl.INFO_CERTINFO))
        return _from_message(self.message)

    def _headers(self) -> Headers:
        """Of the answer so far: trailers come after its body."""
        if self.parsed != len(self.header_lines):
            self.parsed = len(self.header_lines)
            self.head = _headers(self.header_lines)
        return self.head

    def _redirect(self, location: str) -> str:
        """libcurl's idea of where it leads, under the name that was asked for."""
        leads_to = _text(self.curl.getinfo_raw(pycurl.REDIRECT_URL))
        asked = URL(_text(self.curl.getinfo_raw(pycurl.EFFECTIVE_URL)), encoded=True)
        elsewhere = "://" in location or location.startswith("//")
        if leads_to and not elsewhere and asked.raw_host != self.where.url.raw_host:
            there = URL(leads_to, encoded=True)
            return str(self.where.url.origin()) + there.raw_path_qs
        return leads_to


def _milliseconds(seconds: float) -> int:
    # 0 would mean no limit to libcurl.
    return max(1, round(seconds * 1000))


def _text(raw: bytes | None) -> str:
    return (raw or b"").decode("utf-8", "replace").strip()


def _tls_version(word: str) -> str:
    """'TLS 1.2' as blackbox_exporter writes it, from OpenSSL's 'TLSv1.2' and 'TLSv1'."""
    number = word.removeprefix("TLSv")
    return f"TLS {number}" if "." in number else f"TLS {number}.0"


def _headers(lines: Sequence[bytes]) -> Headers:
    """The fields of the last answer: an interim one (103 Early Hints) may come before it."""
    fields: list[tuple[str, str]] = []
    for line in lines:
        if line.startswith(b"HTTP/"):
            fields.clear()
            continue
        name, colon, value = line.decode("utf-8", "replace").partition(":")
        if colon:
            fields.append((name.strip().lower(), value.strip()))
    return tuple(fields)


def _header(lines: Sequence[str], name: str) -> str:
    """The value of a header among whole lines, '' if there is none."""
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip().lower() == name:
            return value.strip()
    return ""


def _header_value(headers: Headers, name: str) -> str:
    for key, value in headers:
        if key == name:
            return value
    return ""


@lru_cache(maxsize=4096)
def _unix_time(date: str) -> int:
    """From an HTTP date in any of its three forms (RFC 9110, section 5.6.7), else -1."""
    for form in ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"):
        with suppress(ValueError):
            return int(datetime.strptime(date, form).replace(tzinfo=UTC).timestamp())
    return -1


def _without_port(authority: str) -> str:
    try:
        return URL(f"http://{authority}").raw_host or ""
    except ValueError:
        return ""


def _authority(url: URL) -> str:
    host = _bracketed(url.raw_host or "")
    return host if url.is_default_port() else f"{host}:{url.port}"


def _joined(addresses: Sequence[str]) -> str:
    return ",".join([_bracketed(address) for address in addresses])


class _Sent(NamedTuple):
    """The certificates of a server, its own first, as DER and those of them that can be read."""

    chain: tuple[bytes, ...] = ()
    certificates: tuple[Certificate, ...] = ()


def _from_certinfo(info: Sequence[tuple[tuple[bytes, bytes], ...]]) -> _Sent:
    """From CURLINFO_CERTINFO."""
    pems = [_text(value) for pairs in info for name, value in pairs if name == b"Cert"]
    return _readable(tuple(map(ssl.PEM_cert_to_DER_cert, pems)))


@lru_cache(maxsize=1024)
def _from_message(message: bytes) -> _Sent:
    """From the Certificate message of a handshake: of TLS 1.2 (RFC 5246, section 7.4.2), or of
    1.3 (RFC 8446, section 4.4.2), which has a context before and extensions in the list."""
    body = message[4:]
    older = int.from_bytes(body[:3]) == len(body) - 3
    at = 3 if older else 1 + body[0] + 3 if body else 0
    chain: list[bytes] = []
    while at < len(body) and len(chain) < MOST_CERTIFICATES:
        end = at + 3 + int.from_bytes(body[at : at + 3])
        chain.append(body[at + 3 : end])
        at = end if older else end + 2 + int.from_bytes(body[end : end + 2])
    return _readable(tuple(chain))


def _readable(chain: tuple[bytes, ...]) -> _Sent:
    return _Sent(chain, tuple(read for der in chain if (read := certificate.from_der(der))))


_CONNECT_CAUSES = {
    errno.ECONNREFUSED: "refuses the connection",
    errno.EHOSTUNREACH: "cannot be reached: no route to the host",
    errno.ENETUNREACH: "cannot be reached: no route to its network",
    errno.ETIMEDOUT: "does not answer",
}

# OpenSSL, "X509_STORE_CTX_get_error". Without a verdict of OpenSSL's (1) it is the name, which
# libcurl checks itself.
_CERTIFICATE_CAUSES = {
    1: "is for another name",
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed and not trusted",
    19: "is signed by a private CA that is not trusted",
    20: "is signed by an unknown CA, or the server does not send the whole chain",
    21: "is signed by an unknown CA, or the server does not send the whole chain",
    23: "was revoked",
}


def _failure(
    curl: pycurl.Curl,
    code: int,
    request: Request,
    connected: bool,
    securing: bool,
    reached: bool,
) -> Failure:
    """libcurl's error code in our words; `securing` while TLS is not agreed on yet.

    The site is not `reached` while its proxy was not asked for it.
    """
    url = URL(request.url)
    host, place = url.host, f"{url.host} port {url.port}"
    words = _text(curl.errstr_raw()) or f"libcurl error {code}"
    status = curl.getinfo(pycurl.RESPONSE_CODE)
    if request.proxy and not status and (not connected or code != pycurl.E_OPERATION_TIMEDOUT):
        refusal = curl.getinfo(pycurl.HTTP_CONNECTCODE)
        if refusal > 299:
            detail = f"The proxy answers with {refusal} instead of connecting to {place}."
            return Failure(Reason.CONNECT, detail)
        place = f"The proxy {shown(request.proxy.url)}" if not connected else place
    if code == pycurl.E_OPERATION_TIMEDOUT:
        if not connected:
            return Failure(Reason.CONNECT, f"{place} does not answer.")
        if securing:
            detail = f"{place} accepts connections but does not begin TLS in time."
        elif not status:
            detail = f"{place} accepts connections but does not answer in time."
        else:
            detail = f"The answer of {place} is not complete in time."
        return Failure(Reason.TIMEOUT, detail)
    if code in (pycurl.E_COULDNT_CONNECT, pycurl.E_INTERFACE_FAILED):
        cause = _CONNECT_CAUSES.get(curl.getinfo(pycurl.OS_ERRNO))
        return Failure(Reason.CONNECT, f"{place} {cause}." if cause else f"{words}.")
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        if request.proxy and not reached:
            proxy = shown(request.proxy.url)
            detail = f"The certificate of the proxy {proxy} is not accepted: {words}."
            return Failure(Reason.CONNECT, detail)
        result = curl.getinfo(pycurl.SSL_VERIFYRESULT)
        cause = _CERTIFICATE_CAUSES.get(result, "is not accepted ({words})")
        cause = cause.format(words=words)
        return Failure(Reason.CERTIFICATE, f"The certificate of {host} {cause}.")
    if code == pycurl.E_SSL_CACERT_BADFILE:
        return Failure(Reason.LOCAL, f"The CA file {request.tls.ca_file} cannot be read.")
    if code == pycurl.E_SSL_CERTPROBLEM:
        detail = f"The certificate {request.tls.cert_file} or its key cannot be used."
        return Failure(Reason.LOCAL, detail)
    if securing and connected:
        return Failure(Reason.TLS, f"The TLS handshake with {place} failed: {words}.")
    if code == pycurl.E_GOT_NOTHING:
        detail = f"{place} closed the connection without an answer."
        return Failure(Reason.PROTOCOL, detail)
    return Failure(Reason.PROTOCOL, f"The answer of {place} cannot be used: {words}.")
