"""The page for programs: JSON, RSS and badges."""

import math
import zlib
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from zoneinfo import ZoneInfo

from dolcevita.config.status import Note
from dolcevita.pages.view import Row, View
from dolcevita.words import Words

BADGE_COLOURS = {
    "fine": "#1a7f37",
    "failing": "#8a5a00",
    "down": "#c62828",
    "maintenance": "#0a58ca",
    "unknown": "#5f6871",
}


def as_json(found: View, notes: Iterable[Note], now: float, past_known: bool) -> dict[str, Any]:
    """Names as in sites.yml, times as RFC 3339, lengths in seconds, null for what is not known."""
    return {
        "at": _iso(now),
        "history": past_known,
        "sites": [_site(row) for row in found.rows],
        "incidents": [
            {
                "site": incident.site,
                "since": _iso(incident.since),
                "until": None if incident.until is None else _iso(incident.until),
                "seconds": round(incident.seconds(now)),
                "reason": incident.reason,
                "outcome": incident.outcome or "open",
                "planned": incident.planned,
            }
            for incident in found.incidents
        ],
        "maintenance": [
            {
                "on": list(work.names),
                "from": _iso(work.start),
                "to": _iso(work.end),
                "because": work.because,
                "counts": work.counts,
                "repeats": work.repeats,
            }
            for work in found.maintenance
        ],
        "notes": [{"at": _iso(note.at), "text": note.text} for note in notes],
    }


def rss_entries(
    found: View, notes: Iterable[Note], words: Words, now: float, zone: ZoneInfo, most: int
) -> list[dict[str, str]]:
    """The items of the feed: planned work and notes, then the incidents, newest first.

    An incident is one when it begins and another when it ends.
    """
    works = [
        {
            "title": words(
                "feed_maintenance",
                names=", ".join(work.names),
                because=work.because,
                when=words(
                    "maintenance_planned",
                    start=words.clock(work.start, zone),
                    end=words.clock(work.end, zone),
                ),
            ),
            "id": f"maintenance/{'/'.join(work.names)}/{work.start:.0f}",
            "at": "",
        }
        for work in found.maintenance
    ]
    told = [
        {
            "title": note.text,
            "id": f"note/{note.at:.0f}/{zlib.crc32(note.text.encode()):08x}",
            "at": _rfc822(note.at),
        }
        for note in notes
    ]
    incidents = [
        {
            "title": words(
                "feed_began" if incident.until is None else "feed_ended",
                site=incident.site,
                reason=words.why(incident.reason, incident.planned),
                lasted=words.lasting(incident.seconds(now)),
            ),
            "id": f"{incident.site}/{incident.since:.0f}/{incident.outcome or 'open'}",
            "at": _rfc822(incident.since if incident.until is None else incident.until),
        }
        for incident in found.incidents[:most]
    ]
    return [*works, *told, *incidents]


def badge(name: str, state: str, text: str) -> Mapping[str, Any]:
    """What the template of the badge takes: texts, and widths in pixels for Verdana at 11px."""
    return {
        "name": name,
        "text": text,
        "left": _width(name),
        "right": _width(text),
        "colour": BADGE_COLOURS[state],
    }


def _width(text: str) -> int:
    return 12 + math.ceil(6.6 * len(text))


def _site(row: Row) -> dict[str, Any]:
    return {
        "name": row.site.name,
        "state": row.state,
        "since": _iso(row.open.since) if row.open else None,
        "availability": dict(row.availability),
        "answer_seconds": row.answer,
        "certificate_days": row.certificate,
        "domain_days": row.domain,
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _rfc822(at: float) -> str:
    return format_datetime(datetime.fromtimestamp(at, UTC))
