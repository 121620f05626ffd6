"""The month's report in the mail that tells of it: made in time, as a template for Alertmanager."""

import asyncio
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from dolcevita.alerting import compile as compiler
from dolcevita.config import Config, Owner, UserError
from dolcevita.history import Prometheus
from dolcevita.report import Month, as_html, month_of
from dolcevita.words import LANGUAGES

log = logging.getLogger(__name__)

SECONDS = 120.0
"""That Prometheus may take for a month of hundreds of sites."""

EVERY = 10.0
"""Seconds between two looks whether a report is due."""

AGAIN = 3600.0
"""Seconds after which a report that was not told yet is looked at anew: an incident may be over."""

DUE = (
    "owner:month_began:timestamp_seconds and on (owner) owner_hears_report == 1 "
    "and on (owner) (hour(owner:clock:seconds) >= 6)"
)
"""Owners whose report is told soon: at seven, or once they can be reached (rules/report.yml)."""

TOLD = "last_over_time(owner:report:incidents[40d])"

Current = Callable[[], tuple[Config | None, Mapping[str, str]]]
"""The configuration in force, and the addresses of owners' pages."""


@dataclass(slots=True)
class Made:
    """A report that was made, and when it was last looked at, in unix seconds."""

    month: Month
    page: str
    at: float


async def keep(prometheus: Prometheus, path: Path, current: Current) -> None:
    """Have the reports that are to be told in the file at `path`, until cancelled.

    What was told stays in it until the next is made: a mail may be under way.
    """
    made: dict[str, Made] = {}
    failed = False
    while True:
        config, pages = current()
        try:
            if config and await _make(config, pages, made, prometheus):
                compiler.write(path, _template(made.values()))
                log.info("wrote %s", path)
            failed = False
        # It costs a mail its page, and must cost nothing else.
        except (UserError, OSError) as error:
            if not failed:
                log.warning("Reports are not made at the moment: %s", error)
            failed = True
        await asyncio.sleep(EVERY)


async def _make(
    config: Config, pages: Mapping[str, str], made: dict[str, Made], prometheus: Prometheus
) -> bool:
    """Make what is due and says something new; whether anything does."""
    owners = {owner.name: owner for owner in config.owners if _has_mail(owner)}
    if not owners:
        return False
    now = time.time()
    due, told = await asyncio.gather(prometheus.instant(DUE), prometheus.instant(TOLD))
    done = {(series.labels["owner"], series.labels["month"]) for series in told}
    new = False
    for series in due:
        owner = owners.get(series.labels["owner"])
        if owner is None:
            continue
        first = _month_before(series.value, owner)
        if (owner.name, f"{first:%Y%m}") in done:
            continue
        before = made.get(owner.name)
        if before and before.month.first == first and now - before.at < AGAIN:
            continue
        month = await month_of(config, owner, first, prometheus, now)
        if before and _says(before.month) == _says(month):
            before.at = now
            continue
        address = f"{pages[owner.name]}/report/{first:%Y-%m}" if owner.name in pages else ""
        made[owner.name] = Made(month, as_html(month, address), now)
        new = True
    return new


def _has_mail(owner: Owner) -> bool:
    return any(channel.kind in ("email", "email_configs") for channel in owner.notify)


def _month_before(began: float, owner: Owner) -> date:
    """The first day of the month before the one that began at the unix time `began`.

    Half a day before, since that time is an hour off after a change of the clock.
    """
    return datetime.fromtimestamp(began - 43200, ZoneInfo(owner.timezone)).date().replace(day=1)


def _says(month: Month) -> object:
    """What still changes of a month that is over, and is worth a new page."""
    return month.first, month.owner, month.incidents, month.spared


def _template(made: Iterable[Made]) -> str:
    """The templates by which an owner's mail of a month has its page, and any other the usual."""
    made = list(made)
    return "".join(
        _of_language(language, [one for one in made if one.month.owner.language == language])
        for language in LANGUAGES
    )


def _of_language(language: str, made: Sequence[Made]) -> str:
    chosen = "".join(
        f"{{{{ if and (eq .CommonLabels.owner {_quoted(one.month.owner.name)})"
        f' (eq .CommonLabels.month "{one.month.first:%Y%m}") }}}}{_literal(one.page)}{{{{ else }}}}'
        for one in made
    )
    usual = f'{{{{ template "dolcevita.{language}.owner.page" . }}}}'
    ends = "{{ end }}" * (len(made) + 1)
    return f'{{{{ define "dolcevita.{language}.owner.report" }}}}{chosen}{usual}{ends}\n'


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _literal(text: str) -> str:
    """A text that means itself in a template of Go's."""
    return text.replace("{{", '{{ "{{" }}')
