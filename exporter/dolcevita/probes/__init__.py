"""The probers: one file a kind, one shape, one registry.

A new prober is a file with a `KIND`, its test, and its name in `KINDS` below.
"""

from collections.abc import Mapping
from urllib.parse import urlsplit

from dolcevita.probes import http
from dolcevita.probes.attempts import probe
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.result import Phase, Reason, Result, Sample

__all__ = [
    "KINDS",
    "PLANNED",
    "Expectations",
    "Kind",
    "Phase",
    "Reason",
    "Result",
    "Sample",
    "Target",
    "kind_of",
    "probe",
]

KINDS: Mapping[str, Kind] = {scheme: kind for kind in (http.KIND,) for scheme in kind.schemes}
"""The prober of each URL scheme."""

PLANNED: frozenset[str] = frozenset(
    "tcp tls starttls dns icmp smtp smtps submission imap imaps pop3 pop3s ftp ftps ssh ldap ldaps "
    "ws wss grpc grpcs postgres mysql redis mqtt ntp unix heartbeat".split()
)
"""Schemes that sites.yml may already use, with a warning that nothing watches them yet."""


def kind_of(url: str) -> Kind | None:
    """The prober for a URL, None if there is none."""
    return KINDS.get(urlsplit(url).scheme)
