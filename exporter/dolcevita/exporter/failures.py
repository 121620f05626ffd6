"""The last failures of each site with what was seen, in bounded memory."""

import json
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dolcevita.probes import Result
from dolcevita.probes.certificate import Certificate
from dolcevita.probes.evidence import Evidence, masked

MOST = 10
"""Failures of one site; those that are the same, one after the other, count as one."""

MOST_BYTES = 8 * 2**20
"""Of all sites together; beyond it the oldest go."""

OVERHEAD = 1000
"""Bytes of one failure beside its text."""

MOST_LISTED = 60
"""Phases, certificates' names and facts that are kept of one failure."""

MOST_TEXT = 500


@dataclass(slots=True)
class _Kept:
    """`text` is JSON, so that its size is known; the times are unix seconds."""

    first: float
    last: float
    times: int
    cause: tuple[str, str]
    text: str


class Failures:
    """Failures by site, in the order of their last time."""

    def __init__(self, most: int = MOST, most_bytes: int = MOST_BYTES) -> None:
        self.most = most
        self.most_bytes = most_bytes
        self.bytes = 0
        self._kept: OrderedDict[tuple[str, int], _Kept] = OrderedDict()
        self._of_site: dict[str, deque[int]] = {}
        self._count = 0

    def add(self, site: str, result: Result, at: float) -> None:
        """Note a failed result. One like the last is that one again, with its newest evidence."""
        numbers = self._of_site.setdefault(site, deque())
        cause = (result.reason or "", result.detail)
        text = json.dumps(_account(result))
        last = self._kept.get((site, numbers[-1])) if numbers else None
        if last and last.cause == cause:
            self.bytes += len(text) - len(last.text)
            last.last, last.times, last.text = at, last.times + 1, text
            self._kept.move_to_end((site, numbers[-1]))
        else:
            self._count += 1
            numbers.append(self._count)
            self._kept[site, self._count] = _Kept(at, at, 1, cause, text)
            self.bytes += len(text) + OVERHEAD
            if len(numbers) > self.most:
                self._forget(site)
        while self.bytes > self.most_bytes:
            self._forget(next(iter(self._kept))[0])

    def of(self, site: str) -> list[dict[str, Any]]:
        """The site's failures as JSON has them, the newest first."""
        found = [self._kept[site, number] for number in reversed(self._of_site.get(site, ()))]
        return [
            {"first": kept.first, "last": kept.last, "times": kept.times, **json.loads(kept.text)}
            for kept in found
        ]

    def _forget(self, site: str) -> None:
        """Drop the site's oldest failure."""
        numbers = self._of_site[site]
        kept = self._kept.pop((site, numbers.popleft()))
        self.bytes -= len(kept.text) + OVERHEAD
        if not numbers:
            del self._of_site[site]


def _account(result: Result) -> dict[str, Any]:
    """A failed result as JSON has it."""
    evidence = result.evidence or Evidence()
    return {
        "reason": result.reason,
        "detail": result.detail[: 4 * MOST_TEXT],
        "duration": result.duration,
        "attempts": result.attempts,
        "addresses": evidence.addresses,
        "address": evidence.address,
        "phases": [phase._asdict() for phase in result.phases[:MOST_LISTED]],
        "certificates": [_certificate(one) for one in result.certificates[:MOST]],
        "facts": _facts(result.facts),
        "answer": evidence.answer,
        "headers": evidence.headers,
        "body": evidence.body,
    }


def _certificate(one: Certificate) -> dict[str, Any]:
    return {
        **one._asdict(),
        "subject": one.subject[:MOST_TEXT],
        "issuer": one.issuer[:MOST_TEXT],
        "names": [name[:MOST_TEXT] for name in one.names[:MOST_LISTED]],
    }


def _facts(facts: Mapping[str, str]) -> dict[str, str]:
    return {
        label: masked(text[: 4 * MOST_TEXT])[: 2 * MOST_TEXT]
        for label, text in list(facts.items())[:MOST_LISTED]
    }
