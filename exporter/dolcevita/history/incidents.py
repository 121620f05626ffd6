"""Incidents, read from their events (prometheus/rules/availability.yml)."""

import asyncio
from dataclasses import dataclass

from dolcevita.history.prometheus import Prometheus, quoted

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Incident:
    """One incident. `since` and `until` are unix seconds, `until` is None while it is open.

    `outcome` is '' while it is open, then 'recovered' or 'removed'. Owner, host and reason are
    those of its first moment; `planned` says whether the site was worked on then.
    """

    site: str
    owner: str
    host: str
    reason: str
    since: float
    until: float | None
    outcome: str
    planned: bool = False

    def seconds(self, now: float) -> float:
        """How long it lasted, or lasts until `now`."""
        return max(0.0, (now if self.until is None else self.until) - self.since)


async def incidents(
    prometheus: Prometheus, start: float, end: float, now: float, owner: str = ""
) -> list[Incident]:
    """Those that were open at some time in [start, end), newest first. Raises NoAnswer.

    What began up to 90 days before `start` counts as open then, as it does for the rules.
    """
    selector = f"{{owner={quoted(owner)}}}" if owner else ""
    reach = int(end - start + 90 * DAY)
    # What is noted later may lie after the time that is asked about.
    later = f"[{int(reach + now - end) + 1}s]"
    opened, ended, planned = await asyncio.gather(
        prometheus.instant(
            f"last_over_time(incident:opened:timestamp_seconds{selector}[{reach}s])", end
        ),
        prometheus.instant(f"last_over_time(incident:ended:timestamp_seconds{later})", now),
        prometheus.instant(f"last_over_time(incident:in_maintenance:info{later})", now),
    )
    ends = {(s.labels["site"], s.labels["since"]): s for s in ended}
    worked_on = {(s.labels["site"], s.labels["since"]) for s in planned}
    found = []
    for series in opened:
        labels = series.labels
        last = ends.get((labels["site"], labels["since"]))
        incident = Incident(
            site=labels["site"],
            owner=labels.get("owner", ""),
            host=labels.get("host", ""),
            reason=labels.get("reason", "unknown"),
            since=float(labels["since"]),
            until=last.value if last else None,
            outcome=last.labels["outcome"] if last else "",
            planned=(labels["site"], labels["since"]) in worked_on,
        )
        if incident.since < end and (incident.until is None or incident.until > start):
            found.append(incident)
    return sorted(found, key=lambda incident: (-incident.since, incident.site))
