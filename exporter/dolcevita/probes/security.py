"""TLS of a stream: its options, its context, its metrics and the words for its failures."""

import re
import ssl
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict
from yarl import URL

from dolcevita.config import Strict
from dolcevita.probes import certificate
from dolcevita.probes.certificate import Certificate
from dolcevita.probes.course import Broken
from dolcevita.probes.curl import ca_bundle
from dolcevita.probes.result import Reason, Sample

Version = Literal["TLS 1.0", "TLS 1.1", "TLS 1.2", "TLS 1.3"]

VERSIONS: dict[str, ssl.TLSVersion] = {
    "TLS 1.0": ssl.TLSVersion.TLSv1,
    "TLS 1.1": ssl.TLSVersion.TLSv1_1,
    "TLS 1.2": ssl.TLSVersion.TLSv1_2,
    "TLS 1.3": ssl.TLSVersion.TLSv1_3,
}
_NAMES = {"TLSv1": "TLS 1.0", "TLSv1.1": "TLS 1.1", "TLSv1.2": "TLS 1.2", "TLSv1.3": "TLS 1.3"}


def _host(text: str) -> str:
    try:
        host = URL.build(scheme="https", host=text).raw_host
    except ValueError:
        host = None
    if not host:
        raise ValueError("expected a host name such as www.example.com")
    return host


class TlsOptions(Strict):
    """How TLS is spoken. The files are in PEM form and read again when they change."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    ca_file: Path | None = None
    """Whom to trust instead of the system's CAs."""
    cert_file: Path | None = None
    """A certificate to show, with its chain; the key too, unless `key_file` has it."""
    key_file: Path | None = None
    """The key of `cert_file`."""
    server_name: Annotated[str, AfterValidator(_host)] | None = None
    """The name to ask for and to find in the certificate, instead of the URL's host."""
    insecure: bool = False
    """Accept any certificate, for the sake of the rest."""
    min_version: Version = "TLS 1.2"
    """The oldest version to offer."""
    max_version: Version = "TLS 1.3"
    """The newest version to offer."""


HELP = {
    **certificate.HELP,
    "probe_ssl_last_chain_expiry_timestamp_seconds": (
        "Unix time when the first certificate of the chain up to the trusted CA expires"
    ),
}

# OpenSSL, "X509_STORE_CTX_get_error".
_CERTIFICATE_CAUSES = {
    9: "is not valid yet",
    10: "has expired",
    18: "is self-signed and not trusted",
    19: "is signed by a private CA that is not trusted",
    20: "is signed by an unknown CA, or the server does not send the whole chain",
    21: "is signed by an unknown CA, or the server does not send the whole chain",
    23: "was revoked",
    62: "is for another name",
    64: "is for another address",
}


def context(options: TlsOptions, verify: bool = True) -> ssl.SSLContext:
    """The context for these options; without `verify` any certificate will do.

    Raises Broken where a file cannot be used.
    """
    files = [options.ca_file or Path(ca_bundle()), options.cert_file, options.key_file]
    # Alone: it is kept, and what a kind has beside it may be secret or no key.
    values = {name: getattr(options, name) for name in TlsOptions.model_fields}
    options = TlsOptions.model_construct(**values)
    return _context(options, verify, tuple(_stamp(file) for file in files if file))


def _stamp(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError as error:
        detail = f"The file {file} cannot be read: {error.strerror}."
        raise Broken(Reason.LOCAL, detail) from None


# Parsing the CAs takes tens of milliseconds. The stamps are there to miss when a file changes.
@lru_cache(maxsize=64)
def _context(options: TlsOptions, verify: bool, stamps: tuple[int, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if options.insecure or not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    oldest = VERSIONS[options.min_version]
    context.minimum_version = oldest
    context.maximum_version = VERSIONS[options.max_version]
    if oldest < ssl.TLSVersion.TLSv1_2:
        # Nothing older is offered by OpenSSL 3 at its usual level.
        context.set_ciphers("ALL:@SECLEVEL=0")
    cas = options.ca_file or Path(ca_bundle())
    try:
        context.load_verify_locations(cas)
    except OSError:
        raise Broken(Reason.LOCAL, f"The CA file {cas} cannot be used.") from None
    if options.cert_file:
        try:
            context.load_cert_chain(options.cert_file, options.key_file, password=_no_password)
        except (OSError, ValueError):
            pair = f"{options.cert_file} and its key {options.key_file or 'in the same file'}"
            detail = f"The certificate {pair} cannot be used."
            raise Broken(Reason.LOCAL, detail) from None
    return context


def _no_password() -> str:
    # Else OpenSSL would ask for it at the terminal.
    raise ValueError("the key is encrypted")


def failure(error: ssl.SSLError | OSError, name: str, where: str) -> Broken:
    """What a failed handshake with the server `where` under this name means."""
    if isinstance(error, ssl.SSLCertVerificationError):
        cause = _CERTIFICATE_CAUSES.get(error.verify_code, f"is not accepted ({_words(error)})")
        return Broken(Reason.CERTIFICATE, f"The certificate of {name} {cause}.")
    return Broken(Reason.TLS, f"The TLS handshake with {where} failed: {_words(error)}.")


def _words(error: ssl.SSLError | OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return str(error.verify_message)
    if isinstance(error, ssl.SSLEOFError | ConnectionError):
        return "the server closed the connection"
    if isinstance(error, ssl.SSLError) and error.reason:
        return re.sub("_", " ", error.reason).lower()
    return str(error.strerror or error)


def samples(
    version: str, cipher: str, chain: Sequence[Certificate], chain_expiry: float | None
) -> list[Sample]:
    """The metrics of a connection over TLS; of what is empty or None there is none."""
    found = []
    if chain:
        expiry = certificate.earliest_expiry(chain)
        labels = certificate.chain_labels(chain)
        found.append(Sample("probe_ssl_earliest_cert_expiry", expiry))
        found.append(Sample("probe_ssl_last_chain_info", 1, labels))
    if chain_expiry is not None:
        found.append(Sample("probe_ssl_last_chain_expiry_timestamp_seconds", chain_expiry))
    if version:
        found.append(Sample("probe_tls_version_info", 1, {"version": version}))
        found.append(Sample("probe_tls_cipher_info", 1, {"cipher": cipher}))
    return found


class Session:
    """What was agreed on in a handshake that succeeded. `chain` is as the server sent it."""

    def __init__(self, tls: ssl.SSLObject) -> None:
        self.version = _NAMES.get(tls.version() or "", "unknown")
        self.cipher = (tls.cipher() or ("unknown",))[0]
        self.chain_der = _ders(tls, "get_unverified_chain")
        self.chain = _readable(self.chain_der)
        self.verified = (
            _readable(_ders(tls, "get_verified_chain"))
            if tls.context.verify_mode is ssl.CERT_REQUIRED
            else ()
        )

    def samples(self) -> list[Sample]:
        """The metrics of the certificates, the version and the cipher."""
        expiry = certificate.earliest_expiry(self.verified) if self.verified else None
        return samples(self.version, self.cipher, self.chain, expiry)

    def facts(self) -> dict[str, str]:
        """For a person."""
        return {"encryption": f"{self.version}, {self.cipher}"}


def _ders(tls: ssl.SSLObject, method: str) -> tuple[bytes, ...]:
    """Public in Python 3.13, where it gives bytes; there since 3.10 on the inner object."""
    if hasattr(tls, method):
        return tuple(getattr(tls, method)())
    inner: Any = tls._sslobj  # type: ignore[attr-defined]
    return tuple(ssl.PEM_cert_to_DER_cert(one.public_bytes()) for one in getattr(inner, method)())


def _readable(chain: Sequence[bytes]) -> tuple[Certificate, ...]:
    return tuple(found for der in chain if (found := certificate.from_der(der)))
