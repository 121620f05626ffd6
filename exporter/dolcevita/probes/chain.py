"""The chains from a server's certificate up to trusted ones, which libcurl does not tell."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

LONGEST = 6
"""Certificates of a chain."""

MOST_SIGNATURES = 100
"""That are checked for one server: what it sends may be made to lead in circles."""


def last_expiry(sent: Sequence[bytes], ca_file: Path) -> float | None:
    """Unix seconds until which the certificates (DER, the server's own first) have a chain.

    Of each chain the first certificate to expire counts, of several chains the best. None
    where there is no chain.
    """
    try:
        stamp = ca_file.stat().st_mtime_ns
    except OSError:
        return None
    hour = int(time.time() // 3600)
    return _last_expiry(tuple(sent), ca_file, stamp, hour)


@lru_cache(maxsize=1024)
def _last_expiry(sent: tuple[bytes, ...], ca_file: Path, stamp: int, hour: int) -> float | None:
    # The hour is there to miss when a certificate may have expired since.
    now = datetime.fromtimestamp(hour * 3600, UTC)
    try:
        certificates = [x509.load_der_x509_certificate(der) for der in sent]
        search = _Search(certificates[1:], _trusted(ca_file, stamp), now)
        return max(search.expiries(certificates[0], 1), default=None)
    except (ValueError, IndexError):
        return None


@lru_cache(maxsize=16)
def _trusted(ca_file: Path, stamp: int) -> Mapping[bytes, Sequence[x509.Certificate]]:
    """The CAs of a file by their subject."""
    by_subject = defaultdict(list)
    for certificate in x509.load_pem_x509_certificates(ca_file.read_bytes()):
        by_subject[certificate.subject.public_bytes()].append(certificate)
    return by_subject


class _Search:
    def __init__(
        self,
        sent: Sequence[x509.Certificate],
        trusted: Mapping[bytes, Sequence[x509.Certificate]],
        now: datetime,
    ) -> None:
        self.sent = sent
        self.trusted = trusted
        self.now = now
        self.checked = 0

    def expiries(self, certificate: x509.Certificate, length: int) -> Iterator[float]:
        """The expiry of each chain that begins with the certificate."""
        expires = certificate.not_valid_after_utc
        begins = certificate.not_valid_before_utc
        if not begins - timedelta(hours=1) <= self.now <= expires or length > LONGEST:
            return
        own = expires.timestamp()
        if certificate in self.trusted.get(certificate.subject.public_bytes(), ()):
            yield own
        for root in self.trusted.get(certificate.issuer.public_bytes(), ()):
            if root != certificate and self.is_issuer(root, certificate):
                yield min(own, root.not_valid_after_utc.timestamp())
        for between in self.sent:
            if between != certificate and self.is_issuer(between, certificate):
                yield from (min(own, above) for above in self.expiries(between, length + 1))

    def is_issuer(self, issuer: x509.Certificate, certificate: x509.Certificate) -> bool:
        if issuer.subject != certificate.issuer or self.checked >= MOST_SIGNATURES:
            return False
        if issuer.not_valid_after_utc < self.now:
            return False
        self.checked += 1
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature):
            return False
        return True
