"""A report as a page, as Markdown and as JSON."""

import base64
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from dolcevita.report.month import Month, SiteMonth
from dolcevita.words import Words, words

_HERE = Path(__file__).parent
_load = partial(
    jinja2.Environment,
    loader=jinja2.FileSystemLoader(_HERE),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_HTML = _load(autoescape=True)
_TEXT = _load(finalize=lambda value: _escaped(value) if isinstance(value, str) else value)


STYLE = (_HERE / "report.css").read_text(encoding="utf-8")

STYLE_HASH = "sha256-" + base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
"""The style inside of the page, as a content security policy names it."""


def as_html(month: Month, address: str = "") -> str:
    """One file without anything beside it, that prints and can be mailed.

    `address` is where it is on the web, '' for nowhere.
    """
    values = _values(month) | {"style": Markup(STYLE), "address": address}
    return _HTML.get_template("report.html").render(values)


def as_markdown(month: Month) -> str:
    """The same as GitHub's Markdown, tables included."""
    text = _TEXT.get_template("report.md").render(_values(month))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def as_json(month: Month) -> str:
    """The same for programs: times as RFC 3339, lengths in seconds, null for what is not known."""
    data = {
        "owner": month.owner.name,
        "month": f"{month.first:%Y-%m}",
        "from": _iso(month.start),
        "to": _iso(month.until),
        "made": _iso(month.made),
        "over": month.over,
        "availability": month.availability,
        "repair_seconds": round(month.mean_repair) if month.repairs else None,
        "sites": [_site(site) for site in month.sites],
        "incidents": [
            {
                "site": incident.site,
                "since": _iso(incident.since),
                "until": None if incident.until is None else _iso(incident.until),
                "seconds": round(incident.seconds(month.made)),
                "reason": incident.reason,
                "outcome": incident.outcome or "open",
                "planned": incident.planned,
            }
            for incident in month.incidents
        ],
        "spared": month.spared,
    }
    return json.dumps(data, ensure_ascii=False, indent=2) + "\n"


FORMATS: Mapping[str, Callable[[Month], str]] = {
    "html": as_html,
    "markdown": as_markdown,
    "json": as_json,
}


def _values(month: Month) -> dict[str, Any]:
    said = words(month.owner.language)
    return {
        "month": month,
        "words": said,
        "title": said("report_title", month=said.month(month.first)).capitalize(),
        "summary": _summary(said, month),
        "changed": partial(_changed, said),
        "runs_out": partial(_runs_out, said, month),
        "mean": month.mean_repair,
    }


def _summary(said: Words, month: Month) -> str:
    if not month.incidents:
        told = said("report_quiet")
    else:
        count = said("incidents_count", len(month.incidents))
        told = said("report_summary", incidents=count, lasted=said.lasting(month.down))
    return f"{told} {said('report_missed', month.missed)}" if month.missed else told


def _changed(said: Words, now: float | None, before: float | None) -> str:
    """How an answer time compares with the month before."""
    if now is None or before is None:
        return ""
    difference = now - before
    if abs(difference) < max(0.005, before / 50):
        return said("report_same")
    key = "report_slower" if difference > 0 else "report_faster"
    return said(key, by=said.took(abs(difference)))


def _runs_out(said: Words, month: Month, days: float) -> str:
    day = datetime.fromtimestamp(month.made, month.zone) + timedelta(days=days)
    return said("report_runs_out", day=f"{said.day(day)} {day.year}", left=said.left(days))


def _escaped(text: str) -> str:
    """A text that means itself in a table of Markdown."""
    return re.sub(r"([\\`*_{}\[\]<>|#])", r"\\\1", " ".join(text.split()))


def _site(site: SiteMonth) -> dict[str, Any]:
    return {
        "name": site.name,
        "availability": site.availability,
        "watched_seconds": site.known,
        "objective": site.objective,
        "objective_met": site.met,
        "incidents": site.incidents,
        "down_seconds": round(site.down),
        "answer_seconds": site.answer,
        "slow_answer_seconds": site.slow,
        "answer_seconds_before": site.answer_before,
        "slow_answer_seconds_before": site.slow_before,
        "certificate_days": site.certificate,
        "domain_days": site.domain,
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
