"""gRPC's health protocol over HTTP/2, with the metrics of blackbox_exporter's grpc prober.

The two messages are small enough to be written and read here: "GRPC Health Checking Protocol"
has their definition, "gRPC over HTTP2" what is around them, "Protocol Buffers Encoding" their form.
"""

from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import ConfigDict

from dolcevita.config import one_or_many
from dolcevita.probes import address, security
from dolcevita.probes.course import Broken
from dolcevita.probes.curl import Exchange, Failure, Headers, Request, Tls, exchange
from dolcevita.probes.http import phases_of
from dolcevita.probes.http_answer import seen
from dolcevita.probes.http_options import Line, Token
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.resolve import Unresolved
from dolcevita.probes.result import Reason, Result, Sample
from dolcevita.probes.secret import read
from dolcevita.probes.security import TlsOptions
from dolcevita.probes.stream import NetworkOptions

MOST_ANSWER = 4096
"""Bytes of an answer; two are enough."""

MOST_SHOWN = 100
"""Characters of a server's words that are told."""

SERVING_STATUSES = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")

CODES = (
    "OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS "
    "PERMISSION_DENIED RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED "
    "INTERNAL UNAVAILABLE DATA_LOSS UNAUTHENTICATED"
).split()
"""The status codes of gRPC, by their number."""

_OF_HTTP = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
"""What a status of HTTP means where gRPC says nothing ("HTTP to gRPC Status Code Mapping")."""


class Options(NetworkOptions, TlsOptions):
    """How the server is asked."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    service: str | None = None
    """The service whose health is asked for; else the path of the URL, else the whole server."""
    metadata: dict[Token, Annotated[tuple[Line, ...], one_or_many()]] = {}
    """Metadata to send, one value of a name or a list."""
    metadata_files: dict[Token, Path] = {}
    """Metadata whose value is in a file, for a secret."""


class Expect(Expectations):
    """What the server must answer: always SERVING."""


HELP = {
    **address.HELP,
    **security.HELP,
    "probe_grpc_duration_seconds": "Time to resolve the name, and to check from then on",
    "probe_grpc_healthcheck_response": "1 for the health that the server tells",
    "probe_grpc_ssl": "1 if the connection was over TLS",
    "probe_grpc_status_code": "Status code of gRPC, 14 without an answer, 4 without one in time",
}


async def probe(target: Target[Options, Expect], budget: float) -> Result:
    """Ask for the health of the service, or of the server."""
    answer = _Answer()
    try:
        request = _request(target, answer, budget)
    except Broken as broken:
        return Result(False, broken.detail, broken.reason)
    hop = await exchange(request)
    code, health, failure = _verdict(target, hop, answer)
    samples = [
        Sample("probe_grpc_duration_seconds", hop.resolved, {"phase": "resolve"}),
        Sample("probe_grpc_ssl", hop.secured > 0),
        Sample("probe_grpc_status_code", code),
        *address.samples(hop.resolved or hop.ended, hop.tried),
        *security.samples(hop.tls_version, hop.tls_cipher, hop.certificates, None),
    ]
    if hop.resolved:
        spent = hop.ended - hop.resolved
        samples.append(Sample("probe_grpc_duration_seconds", spent, {"phase": "check"}))
        samples += [
            Sample("probe_grpc_healthcheck_response", name == health, {"serving_status": name})
            for name in SERVING_STATUSES
        ]
    facts = {"address": hop.address} if hop.address else {}
    if hop.tls_version:
        facts["encryption"] = f"{hop.tls_version}, {hop.tls_cipher}"
    return Result(
        success=failure is None,
        reason=failure.reason if failure else None,
        detail=failure.detail if failure else f"{_subject(target)} is SERVING.",
        duration=hop.ended,
        samples=tuple(samples),
        phases=tuple(phases_of(hop, 0.0)),
        certificates=hop.certificates,
        facts=facts,
        evidence=seen(hop, bytes(answer.body), answer.secrets) if failure else None,
    )


class _Answer:
    """Gathers the bytes of an answer, and no more of them than it can have."""

    def __init__(self) -> None:
        self.body = bytearray()
        self.secrets: list[str] = []

    def begin(self, headers: Headers) -> Callable[[bytes], bool]:
        return self.take

    def take(self, piece: bytes) -> bool:
        self.body += piece[: MOST_ANSWER + 1]
        return len(self.body) <= MOST_ANSWER


def _service(target: Target[Options, Expect]) -> str:
    if target.options.service is not None:
        return target.options.service
    return unquote(urlsplit(target.url).path.strip("/"))


def _subject(target: Target[Options, Expect]) -> str:
    host = f"{target.url.partition(':')[0]}://{urlsplit(target.url).netloc}"
    service = _service(target)
    return f"The service {service} at {host}" if service else host


def _request(target: Target[Options, Expect], answer: _Answer, budget: float) -> Request:
    """Raises Broken where a file of the options cannot be read."""
    options = target.options
    name = _service(target).encode()
    message = b"\x0a" + b"".join(_varint(len(name))) + name if name else b""
    headers = ["Content-Type: application/grpc", "TE: trailers"]
    headers.append(f"grpc-timeout: {max(1, round(budget * 1000))}m")
    given = {key: list(values) for key, values in options.metadata.items()}
    for key, file in options.metadata_files.items():
        value = read(file)
        if not value.isprintable():
            raise Broken(Reason.LOCAL, f"The file {file} holds more than one line.")
        answer.secrets.append(value)
        given.setdefault(key, []).append(value)
    headers += [f"{key.lower()}: {value}" for key, values in given.items() for value in values]
    secure = target.url[:6].lower() == "grpcs:"
    return Request(
        url=f"{'https' if secure else 'http'}://{urlsplit(target.url).netloc}"
        "/grpc.health.v1.Health/Check",
        timeout=budget,
        connect_timeout=budget / 2,
        on_answer=answer.begin,
        method="POST",
        body=b"\0" + len(message).to_bytes(4) + message,
        headers=headers,
        version="2 only",
        encodings=(),
        tls=Tls(**{field: getattr(options, field) for field in TlsOptions.model_fields}),
        choose=_choice(options),
        source=options.source_ip_address,
    )


def _choice(options: Options) -> Callable[[str, Sequence[str]], Sequence[str]]:
    version = options.ip_version

    def choose(host: str, found: Sequence[str]) -> Sequence[str]:
        wanted = [one for one in found if version in (None, ip_address(one).version)]
        if not wanted and not options.ip_fallback:
            raise Unresolved(f"The name {host} has no IPv{version} address.")
        return wanted or found

    return choose


def _varint(number: int) -> Iterator[bytes]:
    while number > 0x7F:
        yield bytes([number & 0x7F | 0x80])
        number >>= 7
    yield bytes([number])


def _verdict(
    target: Target[Options, Expect], hop: Exchange, answer: _Answer
) -> tuple[int, str, Failure | None]:
    """The code of gRPC, the health or '', and what is wrong."""
    headers = dict(hop.headers)
    told = headers.get("grpc-status", "")
    if told.isdecimal() and int(told) < len(CODES) and told != "0":
        words = "".join(
            c if c.isprintable() else "." for c in unquote(headers.get("grpc-message", ""))
        )
        detail = f"{_subject(target)} answers with {CODES[int(told)]}"
        detail += f": {words[:MOST_SHOWN]}." if words else "."
        return int(told), "", Failure(Reason.STATUS, detail)
    if hop.failure:
        late = hop.failure.reason is Reason.TIMEOUT
        return CODES.index("DEADLINE_EXCEEDED" if late else "UNAVAILABLE"), "", hop.failure
    if hop.status != 200:
        detail = f"{target.url} answers with {hop.status} of HTTP, expected 200."
        return _OF_HTTP.get(hop.status, 2), "", Failure(Reason.STATUS, detail)
    if not headers.get("content-type", "").startswith("application/grpc") or told != "0":
        failure = Failure(Reason.PROTOCOL, f"{target.url} does not answer in gRPC.")
        return CODES.index("UNKNOWN"), "", failure
    try:
        health = SERVING_STATUSES[_status(bytes(answer.body))]
    except (IndexError, ValueError):
        detail = f"{target.url} answers with no message of the health protocol."
        return CODES.index("INTERNAL"), "", Failure(Reason.PROTOCOL, detail)
    if health != "SERVING":
        return 0, health, Failure(Reason.STATUS, f"{_subject(target)} is {health}.")
    return 0, health, None


def _status(body: bytes) -> int:
    """The number in a HealthCheckResponse. Raises ValueError or IndexError for what is none."""
    if body[0] != 0 or int.from_bytes(body[1:5]) != len(body) - 5:
        raise ValueError("compressed, or not one message")
    fields = iter(body[5:])
    status = 0
    for tag in fields:
        if tag & 0x07 == 0:
            value = _number(fields)
            status = value if tag >> 3 == 1 else status
        elif tag & 0x07 == 2:
            for _ in range(_number(fields)):
                next(fields, None)
        else:
            raise ValueError("a field that the protocol does not have")
    return status


def _number(fields: Iterator[int]) -> int:
    number = 0
    for position in range(5):
        byte = next(fields, None)
        if byte is None:
            raise ValueError("ends too early")
        number |= (byte & 0x7F) << (7 * position)
        if byte < 0x80:
            return number
    raise ValueError("too large a number")


KIND = Kind("grpc", ("grpc", "grpcs"), Options, Expect, probe, HELP)
