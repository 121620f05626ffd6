"""X.509 certificates as probes see them, and their metrics."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

from cryptography import x509


class Certificate(NamedTuple):
    """One certificate that a server sent.

    `expires` is in unix seconds, `serial` and `sha256` (the fingerprint of the DER form) are
    lower-case hex, `names` are the DNS names and addresses it is for.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    serial: str
    expires: float
    sha256: str


HELP: Mapping[str, str] = {
    "probe_ssl_earliest_cert_expiry": "Unix time when the first certificate that was sent expires",
    "probe_ssl_last_chain_info": "The server's own certificate",
    "probe_tls_version_info": "The TLS version that was agreed on",
    "probe_tls_cipher_info": "The TLS cipher that was agreed on",
}


@lru_cache(maxsize=1024)
def from_der(der: bytes) -> Certificate | None:
    """From the DER form, names as RFC 4514 writes them; None if it cannot be read."""
    try:
        read = x509.load_der_x509_certificate(der)
        names = _names(read)
        subject, issuer = read.subject.rfc4514_string(), read.issuer.rfc4514_string()
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        return None
    serial = f"{abs(read.serial_number):x}"
    return Certificate(
        subject=subject,
        issuer=issuer,
        names=names,
        serial=serial.zfill(len(serial) + len(serial) % 2),
        expires=read.not_valid_after_utc.timestamp(),
        sha256=hashlib.sha256(der).hexdigest(),
    )


def _names(read: x509.Certificate) -> tuple[str, ...]:
    try:
        found = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    hosts = found.get_values_for_type(x509.DNSName)
    addresses = found.get_values_for_type(x509.IPAddress)
    return (*hosts, *map(str, addresses))


def earliest_expiry(certificates: Sequence[Certificate]) -> float:
    """Unix seconds when the first of at least one certificate expires."""
    return min(certificate.expires for certificate in certificates)


def chain_labels(certificates: Sequence[Certificate]) -> dict[str, str]:
    """The labels of `probe_ssl_last_chain_info`, as blackbox_exporter has them."""
    return _labels(certificates[0])


@lru_cache(maxsize=1024)
def _labels(own: Certificate) -> dict[str, str]:
    hosts = [name for name in own.names if not _is_address(name)]
    return {
        "fingerprint_sha256": own.sha256,
        "subject": own.subject,
        "issuer": own.issuer,
        "subjectalternative": ",".join(hosts),
        "serialnumber": own.serial,
    }


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
