"""A result as blackbox_exporter publishes it: its metrics and no others.

The source is what its release 0.28 does; docs/blackbox.md lists what differs.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from dolcevita.exporter.blackbox.modules import LABEL, Loaded
from dolcevita.probes import Reason, Result, Sample

HELP = {
    "probe_duration_seconds": "Returns how long the probe took to complete in seconds",
    "probe_success": "Displays whether or not the probe was a success",
}

NEVER_VERIFIED = -62135596800.0
"""Until when the chain is valid where none was verified: Go's zero time, in the year 1."""

_ADDRESS = {"probe_dns_lookup_time_seconds", "probe_ip_addr_hash", "probe_ip_protocol"}
_TLS = {
    "probe_ssl_earliest_cert_expiry",
    "probe_ssl_last_chain_expiry_timestamp_seconds",
    "probe_ssl_last_chain_info",
    "probe_tls_version_info",
}
_DIALOGUE = {"probe_expect_info", "probe_failed_due_to_bytes", "probe_failed_due_to_regex"}

NAMES = {
    "http": {
        *_ADDRESS,
        *_TLS,
        "probe_failed_due_to_cel",
        "probe_failed_due_to_regex",
        "probe_http_content_length",
        "probe_http_duration_seconds",
        "probe_http_last_modified_timestamp_seconds",
        "probe_http_redirects",
        "probe_http_ssl",
        "probe_http_status_code",
        "probe_http_uncompressed_body_length",
        "probe_http_version",
        "probe_tls_cipher_info",
    },
    "tcp": {*_ADDRESS, *_TLS, *_DIALOGUE},
    "unix": {*_TLS, *_DIALOGUE},
    "dns": {
        *_ADDRESS,
        "probe_dns_additional_rrs",
        "probe_dns_answer_rrs",
        "probe_dns_authority_rrs",
        "probe_dns_duration_seconds",
        "probe_dns_query_succeeded",
        "probe_dns_serial",
    },
    "icmp": {*_ADDRESS, "probe_icmp_duration_seconds", "probe_icmp_reply_hop_limit"},
    "grpc": {
        *_ADDRESS,
        "probe_grpc_duration_seconds",
        "probe_grpc_healthcheck_response",
        "probe_grpc_ssl",
        "probe_grpc_status_code",
        "probe_ssl_earliest_cert_expiry",
        "probe_ssl_last_chain_info",
        "probe_tls_version_info",
    },
    "websocket": {
        *_ADDRESS,
        "probe_websocket_connection_upgraded",
        "probe_websocket_duration_seconds",
        "probe_websocket_failed_due_to_regex",
        "probe_websocket_status_code",
    },
}
"""What each prober publishes."""


_REACHED: dict[Reason | None, set[str]] = {
    Reason.DNS: {"resolve"},
    Reason.LOCAL: {"resolve"},
    Reason.PROTOCOL: set(),
}
"""The phases of HTTP that there are where the name was not resolved."""


def samples(loaded: Loaded, result: Result) -> Iterator[Sample]:
    """All samples of a probe."""
    prober = loaded.module.prober
    yield Sample("probe_success", result.success)
    yield Sample("probe_duration_seconds", result.duration)
    own = [sample for sample in result.samples if sample.name in NAMES[prober]]
    yield from _AS.get(prober, _as_they_are)(loaded, result, own)


def _as_they_are(loaded: Loaded, result: Result, own: list[Sample]) -> Iterable[Sample]:
    return own


def _http(loaded: Loaded, result: Result, own: list[Sample]) -> Iterable[Sample]:
    status = next((s.value for s in own if s.name == "probe_http_status_code"), 0)
    missing: set[str] = set()
    phases = {"resolve", "connect", "tls", "processing", "transfer"}
    resolved = bool(result.phases) and result.phases[0].finished
    if not status:
        own = [s._replace(value=0) if s.name == "probe_http_ssl" else s for s in own]
        missing |= {*_TLS, "probe_tls_cipher_info", "probe_http_last_modified_timestamp_seconds"}
    if not resolved:
        # It has not yet thought of the other phases, except where a token is asked for.
        phases = _REACHED.get(result.reason, phases)
        missing |= set() if phases else _ADDRESS
    options = loaded.options
    if options.proxy_resolves and (options.proxy or options.proxy_from_environment):
        missing |= _ADDRESS
        redirects = next((s.value for s in own if s.name == "probe_http_redirects"), 0)
        phases -= set() if redirects else {"resolve"}
    found = [
        _renamed(sample)
        for sample in own
        if sample.name not in missing and sample.labels.get("phase") in (None, *phases)
    ]
    return _with_chain_expiry(found)


def _stream(loaded: Loaded, result: Result, own: list[Sample]) -> Iterable[Sample]:
    """Without a connection there is no dialogue, and with TLS from the beginning no connection
    before TLS."""
    connected = any(phase.name == "connect" and phase.finished for phase in result.phases)
    secured = any(sample.name == "probe_tls_version_info" for sample in own)
    missing: set[str] = set()
    if not connected or (loaded.options.tls and not secured):
        missing |= {"probe_failed_due_to_bytes", "probe_failed_due_to_regex"}
    if not any(phase.name == "resolve" for phase in result.phases):
        missing |= _ADDRESS
    return _with_chain_expiry([_renamed(sample) for sample in own if sample.name not in missing])


def _grpc(loaded: Loaded, result: Result, own: list[Sample]) -> Iterable[Sample]:
    """It knows the server's certificate only with an answer whose code is OK."""
    asked = any(s.name == "probe_grpc_healthcheck_response" for s in own)
    if not asked:
        own = [s._replace(value=0) if s.name == "probe_grpc_status_code" else s for s in own]
    code = next((s.value for s in own if s.name == "probe_grpc_status_code"), 0)
    answered = asked and code == 0
    return [sample for sample in own if answered or sample.name not in _TLS]


def _websocket(loaded: Loaded, result: Result, own: list[Sample]) -> Iterable[Sample]:
    """A phase is there once it was reached, and the handshake is one with that of TLS."""
    reached = {phase.name for phase in result.phases if phase.finished}
    if "resolve" in reached:
        reached.add("processing")
    if any(phase.name == "transfer" for phase in result.phases):
        reached.add("transfer")
    reached.discard("tls")
    return [sample for sample in own if sample.labels.get("phase") in (None, *reached)]


def _with_chain_expiry(found: list[Sample]) -> list[Sample]:
    names = {sample.name for sample in found}
    expiry = "probe_ssl_last_chain_expiry_timestamp_seconds"
    if "probe_ssl_earliest_cert_expiry" in names and expiry not in names:
        found.append(Sample(expiry, NEVER_VERIFIED))
    return found


def _renamed(sample: Sample) -> Sample:
    if sample.name == "probe_tls_cipher_info":
        return sample._replace(labels={"cipher": iana_cipher(sample.labels["cipher"])})
    if sample.name == "probe_expect_info":
        own = {name.removeprefix(LABEL): value for name, value in sample.labels.items()}
        return sample._replace(labels=own)
    return sample


def iana_cipher(name: str) -> str:
    """OpenSSL's name of a cipher suite of TLS 1.2 under its registered name, as Go has it.

    Those of TLS 1.3 have but one name ("TLS Cipher Suites", IANA registry).
    """
    match = re.fullmatch(
        r"(?:(ECDHE|DHE)-(RSA|ECDSA)-)?(AES(?:128|256)|CHACHA20|DES-CBC3)"
        r"(-GCM|-CCM8?|-POLY1305)?(?:-(SHA\d*))?",
        name,
    )
    if not match:
        return name
    exchange, signed, cipher, mode, digest = match.groups()
    keys = f"{exchange}_{signed}" if exchange else "RSA"
    if cipher == "CHACHA20":
        return f"TLS_{keys}_WITH_CHACHA20_POLY1305_SHA256"
    if cipher == "DES-CBC3":
        return f"TLS_{keys}_WITH_3DES_EDE_CBC_SHA"
    bits = cipher.removeprefix("AES")
    way = (mode or "-CBC").removeprefix("-").replace("CCM8", "CCM_8")
    return f"TLS_{keys}_WITH_AES_{bits}_{way}" + (f"_{digest}" if digest else "")


_AS: dict[str, Any] = {
    "http": _http,
    "tcp": _stream,
    "unix": _stream,
    "grpc": _grpc,
    "websocket": _websocket,
}
