"""HTTP: what sites.yml may say of how a page is asked for, and of what must come back."""

import re
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, model_validator

from dolcevita.config import Duration, Strict, one_or_many
from dolcevita.probes import security
from dolcevita.probes.cel import CEL
from dolcevita.probes.curl import Tls
from dolcevita.probes.kind import Expectations
from dolcevita.probes.oauth2 import Client
from dolcevita.probes.pattern import JSONPath, Regex
from dolcevita.probes.security import TlsOptions
from dolcevita.probes.stream import Address

MOST_REDIRECTS = 10
"""That are followed, unless the site says otherwise."""

UNITS = {
    "": 1, "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3,
    "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3,
}  # fmt: skip


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
    parts = split(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected the URL of a proxy, such as http://proxy.example.com:3128")
    return text


@lru_cache(maxsize=4096)
def split(url: str) -> SplitResult:
    """A URL's parts, all of them empty if it is none: a server can redirect to anything."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return urlsplit("")
    return parts


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

    @cached_property
    def bare(self) -> bool:
        """Whether nothing goes with the request: no header, no body, nothing secret."""
        given = (self.headers, self.header_files, self.body is not None, self.body_file)
        return not any((*given, self.basic_auth, self.authorization, self.oauth2))

    @cached_property
    def tls(self) -> Tls:
        """As libcurl's side takes it, for the site's own host."""
        return Tls(
            ca_file=self.ca_file,
            cert_file=self.cert_file,
            key_file=self.key_file,
            server_name=self.server_name,
            insecure=self.insecure,
            min_version=self.min_version,
            max_version=self.max_version,
        )

    @cached_property
    def tls_elsewhere(self) -> Tls:
        """The same for another host: without what is the site's own."""
        return replace(self.tls, cert_file=None, key_file=None, server_name=None)


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
    cel: Annotated[tuple[CEL, ...], one_or_many()] = ()
    """Expressions of CEL that must be true of the page, which is JSON and called `body`."""
    final_url: str | None = None
    """Where redirects must end."""


def _at_most_one(model: Strict, *names: str) -> None:
    given = [name for name in names if getattr(model, name)]
    if len(given) > 1:
        raise ValueError(f"expected only one of {' and '.join(given)}")
