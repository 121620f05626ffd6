"""blackbox_exporter's configuration file: every option of release 0.28, or why not.

The source of names, types and defaults is "Blackbox exporter configuration"
(CONFIGURATION.md) and, for what the HTTP client takes, Prometheus' common library.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

import dns.exception
import dns.rdatatype
from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from dolcevita.config import ConfigError, Problem, Strict, did_you_mean
from dolcevita.config.model import validate
from dolcevita.config.source import Source, Where, read
from dolcevita.probes.cel import CEL
from dolcevita.probes.pattern import Regex

UNITS = {
    "ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0,
}  # fmt: skip

SIZES = {"B": 1, "KB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}
"""Powers of two under either spelling, as blackbox_exporter reads them."""


def _duration(value: Any) -> Any:
    """Seconds from Go's durations: '1m30s', '500ms', or a number of nanoseconds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value / 1e9
    text = str(value)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)", text)
    if text != "0" and (not parts or "".join(a + b for a, b in parts) != text):
        raise ValueError("expected a duration such as 5s or 1m30s")
    return sum(float(amount) * UNITS[unit] for amount, unit in parts)


def _size(value: Any) -> Any:
    match = re.fullmatch(r"(\d{1,15})\s*(?:([KMGT]?)i?(B))?", str(value).strip())
    if not match:
        raise ValueError("expected a size such as 10MB")
    return int(match[1]) * SIZES[(match[2] or "") + (match[3] or "B")]


def _text(value: Any) -> Any:
    """Go reads a number or a boolean as the text that was written."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else value


def _query_type(text: str) -> str:
    try:
        return dns.rdatatype.to_text(dns.rdatatype.from_text(text)) if text else ""
    except (dns.exception.DNSException, ValueError):
        raise ValueError("expected a type of DNS such as A or MX") from None


Text = Annotated[str, BeforeValidator(_text)]
Regexp = Annotated[Regex, BeforeValidator(_text)]
Seconds = Annotated[float, BeforeValidator(_duration)]
Size = Annotated[int, BeforeValidator(_size)]
IPProtocol = Literal["ip4", "ip6", ""]

_REF = "secrets come from the file itself or from a file of their own"
_WORKLOAD = "only a client_id with its secret is known here"


class Block(Strict):
    """A mapping of the file. `unsupported` are known options, with the reason and a way out."""

    unsupported: ClassVar[dict[str, str]] = {}

    @model_validator(mode="before")
    @classmethod
    def _of_go(cls, data: Any) -> Any:
        """A null is as nothing."""
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None}


class TLSConfig(Block):
    """`tls_config`."""

    unsupported = {"ca_ref": _REF, "cert_ref": _REF, "key_ref": _REF}

    ca: str = ""
    ca_file: str = ""
    cert: str = ""
    cert_file: str = ""
    key: str = ""
    key_file: str = ""
    server_name: str = ""
    insecure_skip_verify: bool = False
    min_version: Literal["TLS10", "TLS11", "TLS12", "TLS13"] | None = None
    max_version: Literal["TLS10", "TLS11", "TLS12", "TLS13"] | None = None

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        for one in ("ca", "cert", "key"):
            if getattr(self, one) and getattr(self, f"{one}_file"):
                raise ValueError(f"expected only one of {one} and {one}_file")
        if bool(self.cert or self.cert_file) != bool(self.key or self.key_file):
            raise ValueError("expected a certificate and its key, or neither")
        return self


class BasicAuth(Block):
    """`basic_auth`."""

    unsupported = {"username_ref": _REF, "password_ref": _REF}

    username: Text = ""
    username_file: str = ""
    password: Text = ""
    password_file: str = ""


class Authorization(Block):
    """`authorization`."""

    unsupported = {"credentials_ref": _REF}

    type: str = "Bearer"
    credentials: Text = ""
    credentials_file: str = ""


class OAuth2(Block):
    """`oauth2`."""

    unsupported = {
        "client_secret_ref": _REF,
        "proxy_url": "tokens are fetched without a proxy",
        "no_proxy": "tokens are fetched without a proxy",
        "proxy_from_environment": "tokens are fetched without a proxy",
        "proxy_connect_header": "tokens are fetched without a proxy",
        "grant_type": _WORKLOAD,
        "client_certificate_key_id": _WORKLOAD,
        "client_certificate_key": _WORKLOAD,
        "client_certificate_key_file": _WORKLOAD,
        "client_certificate_key_ref": _WORKLOAD,
        "signature_algorithm": _WORKLOAD,
        "iss": _WORKLOAD,
        "audience": _WORKLOAD,
        "claims": _WORKLOAD,
    }

    client_id: Text
    client_secret: Text = ""
    client_secret_file: str = ""
    scopes: tuple[str, ...] = ()
    token_url: str
    endpoint_params: dict[str, Text] = {}
    tls_config: TLSConfig = TLSConfig()

    @model_validator(mode="after")
    def _only_a_ca(self) -> Self:
        given = self.tls_config.model_fields_set - {"ca", "ca_file", "insecure_skip_verify"}
        if given:
            raise ValueError(
                f"'{sorted(given)[0]}' is not supported for tokens: only the ca, "
                "or insecure_skip_verify"
            )
        return self


class HeaderValues(Block):
    """One of `http_headers`."""

    values: tuple[Text, ...] = ()
    secrets: tuple[Text, ...] = ()
    files: tuple[str, ...] = ()


class HTTPClient(Block):
    """What every HTTP client of Prometheus takes."""

    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    oauth2: OAuth2 | None = None
    bearer_token: Text = ""
    bearer_token_file: str = ""
    tls_config: TLSConfig = TLSConfig()
    follow_redirects: bool = True
    enable_http2: bool = True
    proxy_url: str = ""
    no_proxy: str = ""
    proxy_from_environment: bool = False
    proxy_connect_header: dict[str, tuple[Text, ...]] = {}
    http_headers: dict[str, HeaderValues] = {}

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        ways = ("basic_auth", "authorization", "oauth2", "bearer_token", "bearer_token_file")
        given = [way for way in ways if getattr(self, way)]
        if len(given) > 1:
            raise ValueError(f"expected only one of {' and '.join(given)}")
        if self.proxy_url and self.proxy_from_environment:
            raise ValueError("expected only one of proxy_url and proxy_from_environment")
        return self


class HeaderMatch(Block):
    """One of `fail_if_header_matches` and `fail_if_header_not_matches`."""

    header: Annotated[str, Field(min_length=1)]
    regexp: Regexp
    allow_missing: bool = False


class HTTP(HTTPClient):
    """`http`."""

    valid_status_codes: tuple[int, ...] = ()
    valid_http_versions: tuple[Literal["HTTP/1.0", "HTTP/1.1", "HTTP/2.0", "HTTP/3.0"], ...] = ()
    preferred_ip_protocol: IPProtocol = ""
    ip_protocol_fallback: bool = True
    skip_resolve_phase_with_proxy: bool = False
    no_follow_redirects: bool | None = None
    fail_if_ssl: bool = False
    fail_if_not_ssl: bool = False
    method: str = ""
    headers: dict[str, Text] = {}
    fail_if_body_matches_regexp: tuple[Regexp, ...] = ()
    fail_if_body_not_matches_regexp: tuple[Regexp, ...] = ()
    fail_if_body_json_matches_cel: CEL | None = None
    fail_if_body_json_not_matches_cel: CEL | None = None
    fail_if_header_matches: tuple[HeaderMatch, ...] = ()
    fail_if_header_not_matches: tuple[HeaderMatch, ...] = ()
    body: Text = ""
    body_file: str = ""
    compression: str = ""
    body_size_limit: Size = 0
    enable_http3: bool = False

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.body and self.body_file:
            raise ValueError("expected only one of body and body_file")
        if self.compression.lower() not in ("", "gzip", "br", "deflate", "identity"):
            raise ValueError("compression: expected gzip, br, deflate or identity")
        if self.enable_http3 and self.enable_http2:
            raise ValueError("when enable_http3 is true, enable_http2 must be set to false")
        versions = set(self.valid_http_versions)
        if self.enable_http3 and versions - {"HTTP/3.0"}:
            raise ValueError("when enable_http3 is true, only HTTP/3.0 can be valid")
        if not self.enable_http3 and "HTTP/3.0" in versions:
            raise ValueError("HTTP/3.0 can only be valid when enable_http3 is true")
        if self.fail_if_ssl and self.fail_if_not_ssl:
            raise ValueError("fail_if_ssl and fail_if_not_ssl together always fail")
        return self


class Label(Block):
    """One of a step's `labels`."""

    name: str
    value: Text = ""


class QueryResponse(Block):
    """One step of `query_response`."""

    expect: Regexp | None = None
    expect_bytes: Text = ""
    labels: tuple[Label, ...] = ()
    send: Text = ""
    starttls: bool = False


class TCP(Block):
    """`tcp`."""

    preferred_ip_protocol: IPProtocol = ""
    ip_protocol_fallback: bool = True
    source_ip_address: str = ""
    query_response: tuple[QueryResponse, ...] = ()
    tls: bool = False
    tls_config: TLSConfig = TLSConfig()


class Unix(Block):
    """`unix`."""

    query_response: tuple[QueryResponse, ...] = ()
    tls: bool = False
    tls_config: TLSConfig = TLSConfig()


class ICMP(Block):
    """`icmp`."""

    preferred_ip_protocol: IPProtocol = ""
    ip_protocol_fallback: bool = True
    source_ip_address: str = ""
    payload_size: Annotated[int, Field(ge=0)] = 0
    dont_fragment: bool = False
    ttl: Annotated[int, Field(ge=0, le=255)] = 64


class Records(Block):
    """One of the `validate_..._rrs`."""

    fail_if_matches_regexp: tuple[Regexp, ...] = ()
    fail_if_all_match_regexp: tuple[Regexp, ...] = ()
    fail_if_not_matches_regexp: tuple[Regexp, ...] = ()
    fail_if_none_matches_regexp: tuple[Regexp, ...] = ()


class DNS(Block):
    """`dns`."""

    preferred_ip_protocol: IPProtocol = ""
    ip_protocol_fallback: bool = True
    dns_over_tls: bool = False
    tls_config: TLSConfig = TLSConfig()
    source_ip_address: str = ""
    transport_protocol: Literal["udp", "tcp", ""] = ""
    query_class: str = ""
    query_name: Annotated[str, Field(min_length=1)]
    query_type: Annotated[str, AfterValidator(_query_type)] = ""
    recursion_desired: bool = True
    valid_rcodes: tuple[str, ...] = ()
    validate_answer_rrs: Records = Records()
    validate_authority_rrs: Records = Records()
    validate_additional_rrs: Records = Records()

    @model_validator(mode="after")
    def _tls_over_tcp(self) -> Self:
        if self.dns_over_tls and self.transport_protocol != "tcp":
            raise ValueError("dns_over_tls takes transport_protocol: tcp")
        return self


class GRPC(Block):
    """`grpc`."""

    service: str = ""
    tls: bool = False
    tls_config: TLSConfig = TLSConfig()
    ip_protocol_fallback: bool = True
    preferred_ip_protocol: IPProtocol = ""
    metadata: dict[str, tuple[Text, ...]] = {}


class Websocket(Block):
    """`websocket`."""

    http_config: HTTPClient = HTTPClient()
    headers: dict[str, HeaderValues] = {}
    query_response: tuple[QueryResponse, ...] = ()
    preferred_ip_protocol: IPProtocol = ""
    ip_protocol_fallback: bool = True

    @model_validator(mode="after")
    def _what_it_uses(self) -> Self:
        used = {"basic_auth", "authorization", "tls_config"}
        # blackbox_exporter takes these and does nothing with them.
        unused = self.http_config.model_fields_set - used - {"follow_redirects", "enable_http2"}
        if unused:
            raise ValueError(f"'{sorted(unused)[0]}' is not supported for websockets")
        for name, header in self.headers.items():
            if len(header.values + header.secrets + header.files) > 1:
                raise ValueError(f"several values of the header {name} are not supported")
        for step in self.query_response:
            if step.starttls or step.expect_bytes or step.labels:
                raise ValueError("a step of a websocket takes only 'expect' and 'send'")
        return self


class Module(Block):
    """One of `modules`. The blocks of other probers than its own are read and not used."""

    prober: Literal["http", "tcp", "dns", "icmp", "grpc", "unix", "websocket"]
    timeout: Seconds = 0.0
    http: HTTP = HTTP()
    tcp: TCP = TCP()
    dns: DNS | None = None
    icmp: ICMP = ICMP()
    grpc: GRPC = GRPC()
    unix: Unix = Unix()
    websocket: Websocket = Websocket()

    @model_validator(mode="after")
    def _has_a_question(self) -> Self:
        if self.prober == "dns" and self.dns is None:
            raise ValueError("a dns module takes a 'dns' block with a query_name")
        return self


def load(path: Path) -> tuple[Source, dict[str, Module]]:
    """The modules of a file by name. Raises ConfigError with every problem."""
    source = read(path)
    problems: list[Problem] = []
    modules: dict[str, Module] = {}
    data = source.data
    if not isinstance(data, dict) or not isinstance(data.get("modules"), dict):
        raise ConfigError([source.problem((), "expected 'modules:' with a module below it")])
    problems += [
        source.problem((key,), f"unknown key '{key}': {did_you_mean(key, ['modules'])}")
        for key in data
        if key != "modules"
    ]
    for name, given in data["modules"].items():
        where = ("modules", name)
        refused = list(_unsupported(Module, given, where))
        problems += [source.problem(place, message) for place, message in refused]
        module = None if refused else validate(Module, given, source, where, problems)
        if module:
            modules[str(name)] = module
    if problems:
        raise ConfigError(problems)
    return source, modules


def _unsupported(model: type[Block], data: Any, where: Where) -> Iterator[tuple[Where, str]]:
    """Where an option is that is known and not supported, and why it is not."""
    if isinstance(data, list):
        for number, entry in enumerate(data):
            yield from _unsupported(model, entry, (*where, number))
    if not isinstance(data, dict):
        return
    for key, value in data.items():
        if key in model.unsupported and value is not None:
            yield (*where, key), f"'{key}' is not supported: {model.unsupported[key]}"
        inner = _block_in(model.model_fields[key].annotation) if key in model.model_fields else None
        if inner:
            yield from _unsupported(inner, value, (*where, key))


def _block_in(annotation: Any) -> type[Block] | None:
    """The model within an annotation such as `tuple[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, Block):
        return annotation
    return next((found for part in get_args(annotation) if (found := _block_in(part))), None)
