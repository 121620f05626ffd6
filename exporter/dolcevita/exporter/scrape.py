"""Probing the sites of one scrape, all at once and within its time."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from dolcevita import probes
from dolcevita.config import Site
from dolcevita.exporter.failures import Failures
from dolcevita.probes import Kind, Result, Target

MARGIN = 0.4
"""Seconds of the scrape timeout that are kept for turning results into text and sending it."""

LEAST_BUDGET = 0.05


def budget(scrape_timeout: float) -> float:
    """Seconds that probes may take in a scrape with that timeout."""
    return max(scrape_timeout - MARGIN, LEAST_BUDGET)


@dataclass(frozen=True, slots=True)
class Seen:
    """The last result of a site and when it came, in unix seconds."""

    result: Result
    at: float


class Prober:
    """Probes, counts, and remembers of each site the last result and the last failures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.last: dict[str, Seen] = {}
        self.failures = Failures()
        ended = Counter(
            "dolcevita_probes", "Probes that ended, by result", ["result"], registry=registry
        )
        self.ended = {True: ended.labels("success"), False: ended.labels("failure")}
        self.under_way = 0
        Gauge(
            "dolcevita_probes_in_flight", "Probes that are under way", registry=registry
        ).set_function(lambda: self.under_way)

    async def sites(self, sites: Sequence[Site], seconds: float) -> list[tuple[Site, Result]]:
        """Probe every site at once, each within its own timeout and `seconds`.

        One result for each site, whatever the sites do: none delays or loses another's.
        """

        async def one(site: Site) -> tuple[Site, Result]:
            target: Target[Any, Any] = Target(site.url, site.options, site.expect)
            kind = probes.BY_NAME[site.kind]
            result = await self.target(kind, target, min(site.timeout, seconds))
            now = time.time()
            if not result.success:
                self.failures.add(site.name, result, now)
            kept = replace(result, evidence=None) if result.evidence else result
            self.last[site.name] = Seen(kept, now)
            return site, result

        if len(sites) == 1:
            return [await one(sites[0])]  # without a task of its own
        return await asyncio.gather(*map(one, sites))

    async def target(self, kind: Kind, target: Target[Any, Any], seconds: float) -> Result:
        """Probe one target and count it."""
        self.under_way += 1
        try:
            result = await probes.probe(kind, target, seconds)
        finally:
            self.under_way -= 1
        self.ended[result.success].inc()
        return result
