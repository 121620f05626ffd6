"""What every prober gives back: plain data, turned into metrics and words elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from dolcevita.probes.certificate import Certificate
from dolcevita.probes.evidence import Evidence


class Reason(StrEnum):
    """Why a probe failed, in one word: the value of `probe_failure_info{reason=}`.

    The first that applies, in the order in which a connection is made.
    """

    DNS = "dns"
    """The name does not resolve, or no resolver answers."""
    CONNECT = "connect"
    """No connection: refused, unreachable, or no answer to the first packet."""
    TLS = "tls"
    """The TLS handshake failed for another cause than the certificate."""
    CERTIFICATE = "certificate"
    """The certificate has expired, is for another name, or is not trusted."""
    TIMEOUT = "timeout"
    """Connected, but without a complete answer in the time given."""
    PROTOCOL = "protocol"
    """The answer breaks the protocol or ends too early."""
    REDIRECT = "redirect"
    """Redirected too often, in a circle, to elsewhere than expected, or to no usable URL."""
    STATUS = "status"
    """A complete answer with another status than expected."""
    CONTENT = "content"
    """A complete answer whose content or header is not as expected."""
    EXPIRED = "expired"
    """The registration of a domain has run out or is about to be taken away."""
    MISSED = "missed"
    """A job did not report within its period and grace."""
    LOCAL = "local"
    """This machine cannot make the probe: a right or a file that it takes is missing."""
    INTERNAL = "internal"
    """The prober itself failed: a fault of this program, with a traceback in its log."""


class Sample(NamedTuple):
    """One value of one metric, without the labels that belong to the site."""

    name: str
    value: float
    labels: Mapping[str, str] = {}


class Phase(NamedTuple):
    """One stretch of a probe's time: `start` counts from the probe's begin, both in seconds.

    The phase in which a probe failed is not `finished`.
    """

    name: str
    start: float
    seconds: float
    finished: bool = True


@dataclass(slots=True)
class Result:
    """The outcome of one probe.

    `known` is False where nothing can be said yet, well or ill: then there is no verdict, and
    `success` is True only so that nobody is alarmed. `again` is False where a second attempt
    would not help and may do harm: each refused login brings a lockout nearer.

    `detail` is one sentence for a person, without secrets. `duration` is the whole time spent in
    seconds, all attempts together.
    `phases`, `certificates` (the server's own first) and `facts` (label, text) are what a
    person is shown beside the metrics, `evidence` what is kept of a failure.
    """

    success: bool
    detail: str
    reason: Reason | None = None
    duration: float = 0.0
    attempts: int = 1
    samples: tuple[Sample, ...] = ()
    phases: tuple[Phase, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    evidence: Evidence | None = None
    known: bool = True
    again: bool = True
