"""Planned work: when which sites may be down, and the Alertmanager silences that say so."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from dolcevita.config import Site
from dolcevita.config.status import Weekly, Window

BY_HAND = "dolcevita maintain"
BY_FILE = "dolcevita status.yml"
NOT_COUNTED = ", not counted"


@dataclass(frozen=True, slots=True)
class Maintenance:
    """Work on one site or on one host, from `start` to `end` (unix seconds).

    With `counts` false, the time says nothing of the site's availability. What `repeats` comes
    again by itself.
    """

    label: Literal["site", "host"]
    value: str
    start: float
    end: float
    because: str
    counts: bool = True
    repeats: bool = False

    def covers(self, site: Site) -> bool:
        return self.value == (site.name if self.label == "site" else site.host)

    def at(self, now: float) -> bool:
        """Whether it is under way."""
        return self.start <= now < self.end


def silence(work: Maintenance, by: str) -> dict[str, Any]:
    """What Alertmanager's API takes (POST /api/v2/silences), created by BY_HAND or BY_FILE."""
    return {
        "matchers": [
            {"name": work.label, "value": work.value, "isRegex": False, "isEqual": True},
        ],
        "startsAt": datetime.fromtimestamp(work.start, UTC).isoformat(),
        "endsAt": datetime.fromtimestamp(work.end, UTC).isoformat(),
        "createdBy": by if work.counts else by + NOT_COUNTED,
        "comment": work.because,
    }


def from_silences(silences: Iterable[Mapping[str, Any]], by: str) -> list[tuple[str, Maintenance]]:
    """(id, work) of the silences created by BY_HAND or BY_FILE, those that have ended too."""
    found = []
    for entry in silences:
        creator = str(entry.get("createdBy"))
        matchers = entry.get("matchers") or [{}]
        label = matchers[0].get("name")
        if creator not in (by, by + NOT_COUNTED) or label not in ("site", "host"):
            continue
        work = Maintenance(
            label,
            matchers[0]["value"],
            datetime.fromisoformat(entry["startsAt"]).timestamp(),
            datetime.fromisoformat(entry["endsAt"]).timestamp(),
            str(entry.get("comment", "")),
            creator == by,
        )
        found.append((str(entry["id"]), work))
    return found


def planned(windows: tuple[Window, ...], now: float) -> list[Maintenance]:
    """Windows of status.yml that are not over at the unix time `now`, one for each site and host.

    Of those that come each week, the one under way or the next.
    """
    found = []
    for window in windows:
        if not (ahead := window.when.ahead(now)):
            continue
        how = (*ahead, window.because, window.counts, isinstance(window.when, Weekly))
        found += [Maintenance("site", name, *how) for name in window.sites]
        found += [Maintenance("host", name, *how) for name in window.hosts]
    return found
