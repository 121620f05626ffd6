"""libcurl on the event loop: one HTTP exchange, name to last byte. Nothing else knows libcurl.

The times are those of the page "curl_easy_getinfo", section TIMES.
"""

import asyncio
import errno
import hashlib
import re
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

import pycurl
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from yarl import URL

from dolcevita.probes.certificate import Certificate
from dolcevita.probes.resolve import Unresolved, resolve
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


@dataclass(frozen=True, slots=True)
class Request:
    """One GET over a connection of its own, redirects not followed.

    `timeout` is for all of it, `connect_timeout` for the name, the connection and TLS, both in
    seconds. `on_answer` gets the headers and gives what takes the decoded body in pieces and
    returns whether it wants more; to want no more is no failure. `headers` are whole lines.
    """

    url: str
    timeout: float
    connect_timeout: float
    on_answer: Callable[[Headers], Callable[[bytes], bool]]
    headers: Sequence[str] = ()
    cookies: Sequence[bytes] = ()
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an exchange did not come to its end."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class Exchange:
    """What came of a Request; after a failure, what is known up to it.

    `resolved` to `ended` are seconds from the beginning to the end of each step, 0 where it was
    not reached, or for `secured` without TLS. `status` and `version` are 0 without an answer,
    `content_length` (bytes) and `last_modified` (unix seconds) -1 where the server does not
    say. `redirect` is the absolute URL that the answer points to, or ''.
    """

    url: str
    failure: Failure | None
    resolved: float = 0.0
    connected: float = 0.0
    secured: float = 0.0
    answered: float = 0.0
    ended: float = 0.0
    address: str = ""
    status: int = 0
    version: float = 0.0
    headers: Headers = ()
    cookies: tuple[bytes, ...] = ()
    content_length: int = 0
    last_modified: int = -1
    redirect: str = ""
    certificates: tuple[Certificate, ...] = ()
    tls_version: str = ""
    tls_cipher: str = ""


_multis: dict[asyncio.AbstractEventLoop, pycurl.AsyncCurlMulti] = {}


def _multi() -> pycurl.AsyncCurlMulti:
    """The running loop's libcurl: it keeps the parsed CA certificates between exchanges."""
    loop = asyncio.get_running_loop()
    if loop not in _multis:
        _multis[loop] = pycurl.AsyncCurlMulti()
    return _multis[loop]


async def close() -> None:
    """End what is under way on the running loop and free its libcurl."""
    multi = _multis.pop(asyncio.get_running_loop(), None)
    if multi:
        await multi.aclose()


@cache
def ca_bundle() -> str:
    """The file of trusted CAs: $SSL_CERT_FILE, else the system's, else the one of certifi."""
    return ssl.get_default_verify_paths().cafile or DEFAULT_CA_BUNDLE_PATH


async def exchange(request: Request) -> Exchange:
    """Send the request and read the answer. Raises nothing of the network's."""
    begin = perf_counter()
    try:
        url = _ascii(request.url)
        host, port = url.raw_host, url.port
    except ValueError:
        host = None
    if not host or not port:
        return Exchange(request.url, Failure(Reason.PROTOCOL, f"{request.url} is not a web URL."))
    try:
        addresses = await resolve(host, request.connect_timeout)
    except Unresolved as error:
        ended = perf_counter() - begin
        return Exchange(request.url, Failure(Reason.DNS, str(error)), ended=ended)
    resolved = perf_counter() - begin
    transfer = _Transfer(request)
    transfer.prepare(str(url), f"{host}:{port}", addresses, resolved)
    code = pycurl.E_OK
    try:
        await _multi().perform(transfer.curl)
    except pycurl.error as error:
        code = int(error.args[0])
    result = transfer.result(resolved, code)
    # Frees it now: the handle and its callbacks refer to each other.
    transfer.curl.close()
    return result


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


def _ascii(url: str) -> URL:
    """As it stands if it is ASCII, else with the host in Punycode and the rest quoted."""
    return URL(url, encoded=url.isascii())


class _Transfer:
    """One libcurl handle with its callbacks and what they gather."""

    def __init__(self, request: Request) -> None:
        self.curl = pycurl.Curl()
        self.request = request
        self.secure = request.url[:6].lower() == "https:"
        self.header_lines: list[bytes] = []
        self.take: Callable[[bytes], bool] | None = None
        self.stopped = False
        self.tls: list[str] = []

    def prepare(self, url: str, authority: str, addresses: list[str], spent: float) -> None:
        request, curl = self.request, self.curl
        joined = ",".join(f"[{a}]" if ":" in a else a for a in addresses)
        options: list[tuple[int, Any]] = [
            (pycurl.URL, url.encode()),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            # Replaces what another probe resolved; the + lets libcurl forget it after a minute.
            (pycurl.RESOLVE, [f"+{authority}:{joined}"]),
            (pycurl.PROXY, ""),
            (pycurl.USERAGENT, USER_AGENT),
            (pycurl.HTTPHEADER, list(request.headers)),
            (pycurl.COOKIEFILE, ""),
            # As a browser asks, so that a broken compression is seen.
            (pycurl.ACCEPT_ENCODING, ""),
            (pycurl.TIMEOUT_MS, _milliseconds(request.timeout - spent)),
            (pycurl.CONNECTTIMEOUT_MS, _milliseconds(request.connect_timeout - spent)),
            (pycurl.NOSIGNAL, 1),
            (pycurl.FRESH_CONNECT, 1),
            (pycurl.FORBID_REUSE, 1),
            (pycurl.OPT_FILETIME, 1),
            (pycurl.HEADERFUNCTION, self.header_lines.append),
            (pycurl.WRITEFUNCTION, self.on_body),
        ]
        options += [(pycurl.COOKIELIST, cookie) for cookie in request.cookies]
        if self.secure:
            options += [
                (pycurl.CAINFO, str(request.ca_file or ca_bundle())),
                (pycurl.SSL_SESSIONID_CACHE, 0),
                (pycurl.OPT_CERTINFO, 1),
                (pycurl.VERBOSE, 1),
                (pycurl.DEBUGFUNCTION, self.on_debug),
            ]
            # libcurl keeps parsed CAs only while they come from a file alone.
            curl.unsetopt(pycurl.CAPATH)
        for option, value in options:
            curl.setopt(option, value)

    def on_body(self, piece: bytes) -> int:
        if self.take is None:
            self.take = self.request.on_answer(_headers(self.header_lines))
        if self.take(piece):
            return len(piece)
        self.stopped = True
        return 0

    def on_debug(self, kind: int, text: bytes) -> None:
        # libcurl tells the TLS version and cipher nowhere else.
        prefix = b"SSL connection using "
        if kind == pycurl.INFOTYPE_TEXT and text.startswith(prefix):
            self.tls = _text(text.removeprefix(prefix)).split(" / ")

    def result(self, resolved: float, code: int) -> Exchange:
        """What the handle knows, once libcurl is done with it."""
        curl = self.curl

        def at(info: int) -> float:
            microseconds = curl.getinfo(info)
            return resolved + microseconds / 1e6 if microseconds else 0.0

        connected = at(pycurl.CONNECT_TIME_T)
        secured = at(pycurl.APPCONNECT_TIME_T) if self.secure else 0.0
        failure = None
        if code != pycurl.E_OK and not self.stopped:
            failure = _failure(curl, code, self.request, connected > 0, self.secure and not secured)
        return Exchange(
            url=self.request.url,
            failure=failure,
            resolved=resolved,
            connected=connected,
            secured=secured,
            answered=at(pycurl.STARTTRANSFER_TIME_T),
            ended=at(pycurl.TOTAL_TIME_T),
            address=_text(curl.getinfo_raw(pycurl.PRIMARY_IP)),
            status=curl.getinfo(pycurl.RESPONSE_CODE),
            version=HTTP_VERSIONS.get(curl.getinfo(pycurl.INFO_HTTP_VERSION), 0.0),
            headers=_headers(self.header_lines),
            cookies=tuple(curl.getinfo_raw(pycurl.INFO_COOKIELIST)),
            content_length=int(curl.getinfo(pycurl.CONTENT_LENGTH_DOWNLOAD_T)),
            last_modified=curl.getinfo(pycurl.FILETIME_T),
            redirect=_text(curl.getinfo_raw(pycurl.REDIRECT_URL)),
            certificates=_certificates(curl.getinfo_raw(pycurl.INFO_CERTINFO)),
            tls_version=_tls_version(self.tls[0]) if self.tls else "",
            tls_cipher=self.tls[1] if len(self.tls) > 1 else "",
        )


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
        name, colon, value = line.partition(b":")
        if colon:
            fields.append((_text(name).lower(), _text(value)))
    return tuple(fields)


def _certificates(chain: Sequence[tuple[tuple[bytes, bytes], ...]]) -> tuple[Certificate, ...]:
    found = (_certificate(pairs) for pairs in chain)
    return tuple(certificate for certificate in found if certificate)


@lru_cache(maxsize=4096)
def _certificate(pairs: tuple[tuple[bytes, bytes], ...]) -> Certificate | None:
    """From one certificate of CURLINFO_CERTINFO; None if it cannot be read."""
    fields = {_text(name): _text(value) for name, value in pairs}
    names = fields.get("X509v3 Subject Alternative Name", "")
    try:
        der = ssl.PEM_cert_to_DER_cert(fields["Cert"])
        expires = ssl.cert_time_to_seconds(fields["Expire date"])
    except (KeyError, ValueError):
        return None
    return Certificate(
        subject=fields.get("Subject", ""),
        issuer=fields.get("Issuer", ""),
        names=tuple(re.findall(r"(?:DNS|IP Address):([^,\s]+)", names)),
        serial=fields.get("Serial Number", "").replace(":", ""),
        expires=float(expires),
        sha256=hashlib.sha256(der).hexdigest(),
    )


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
    curl: pycurl.Curl, code: int, request: Request, connected: bool, securing: bool
) -> Failure:
    """libcurl's error code in our words; `securing` while TLS is not agreed on yet."""
    url = URL(request.url)
    host, place = url.host, f"{url.host} port {url.port}"
    words = _text(curl.errstr_raw()) or f"libcurl error {code}"
    if code == pycurl.E_OPERATION_TIMEDOUT:
        if not connected:
            return Failure(Reason.CONNECT, f"{place} does not answer.")
        if securing:
            detail = f"{place} accepts connections but does not begin TLS in time."
        elif not curl.getinfo(pycurl.RESPONSE_CODE):
            detail = f"{place} accepts connections but does not answer in time."
        else:
            detail = f"The answer of {place} is not complete in time."
        return Failure(Reason.TIMEOUT, detail)
    if code == pycurl.E_COULDNT_CONNECT:
        cause = _CONNECT_CAUSES.get(curl.getinfo(pycurl.OS_ERRNO))
        return Failure(Reason.CONNECT, f"{place} {cause}." if cause else f"{words}.")
    if code == pycurl.E_PEER_FAILED_VERIFICATION:
        result = curl.getinfo(pycurl.SSL_VERIFYRESULT)
        cause = _CERTIFICATE_CAUSES.get(result, "is not accepted ({words})")
        cause = cause.format(words=words)
        return Failure(Reason.CERTIFICATE, f"The certificate of {host} {cause}.")
    if code == pycurl.E_SSL_CACERT_BADFILE:
        return Failure(Reason.CERTIFICATE, f"The CA file {request.ca_file} cannot be read.")
    if securing and connected:
        return Failure(Reason.TLS, f"The TLS handshake with {place} failed: {words}.")
    if code == pycurl.E_GOT_NOTHING:
        detail = f"{place} closed the connection without an answer."
        return Failure(Reason.PROTOCOL, detail)
    return Failure(Reason.PROTOCOL, f"The answer of {place} cannot be used: {words}.")
