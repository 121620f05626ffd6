"""X.509 certificates as probes see them, and their metrics."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple


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


def earliest_expiry(certificates: Sequence[Certificate]) -> float:
    """Unix seconds when the first of at least one certificate expires."""
    return min(certificate.expires for certificate in certificates)


def chain_labels(certificates: Sequence[Certificate]) -> dict[str, str]:
    """The labels of `probe_ssl_last_chain_info`, under blackbox_exporter's names."""
    own = certificates[0]
    return {
        "fingerprint_sha256": own.sha256,
        "subject": own.subject,
        "issuer": own.issuer,
        "subjectalternative": ",".join(own.names),
        "serialnumber": own.serial,
    }
