"""Tells Alertmanager what ended when nobody was there to say so.

Prometheus says again and again for 15 minutes what has ended, but only while it lives; and
Alertmanager keeps its alerts in memory. When both were stopped, as the whole machine is, no one
knows of a recovery of that time: it is still to be read from the history of Prometheus. Not with
`external_labels`, which Prometheus adds only to what it sends.
"""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from dolcevita.courier.alertmanager import Alertmanager, Unreachable
from dolcevita.courier.guard import RESEND_SECONDS, SETTLE_SECONDS
from dolcevita.history import NoAnswer, Prometheus

SAID_AGAIN = timedelta(minutes=15)
"""How long Prometheus itself says again what has ended."""

LONGEST = timedelta(days=1)
"""Before that, nobody waits any more to hear that it is over."""

SETTLED = timedelta(seconds=SETTLE_SECONDS)
"""By then a Prometheus that has just started has seen every site."""

ALERTMANAGER_SEEN = (
    f'max_over_time((timestamp(up{{job="alertmanager"}}) and up{{job="alertmanager"}} == 1)'
    f"[{LONGEST.days}d:1m])"
)

log = logging.getLogger(__name__)


async def keep(alertmanager: Alertmanager, prometheus: Prometheus) -> None:
    """Say what ended to an Alertmanager that has just started, as often as Prometheus would,
    forever. Of what it has told it keeps a log on disk: it passes on only what it told as firing.
    """
    told: set[str] = set()
    while True:
        try:
            ended = await _ended(alertmanager, prometheus, datetime.now(UTC))
            if ended:
                await alertmanager.post_alerts(*ended)
            names = {f"{a['labels']['alertname']} {a['labels'].get('site', '')}" for a in ended}
            if names - told:
                log.info("ended while nobody was there: %s", ", ".join(sorted(names - told)))
            told = names
        except (*Unreachable, NoAnswer):
            pass
        await asyncio.sleep(RESEND_SECONDS)


async def _ended(
    alertmanager: Alertmanager, prometheus: Prometheus, now: datetime
) -> list[dict[str, Any]]:
    """What fired shortly before Alertmanager was gone, or since, and does not any more."""
    started = (await alertmanager.state()).started
    evaluating = await prometheus.started()
    both_there = max(started, evaluating)
    if not evaluating + SETTLED <= now <= both_there + SETTLED + SAID_AGAIN:
        return []
    ruling = await prometheus.ruling()
    if not ruling.evaluated:
        return []
    seen = await prometheus.instant(ALERTMANAGER_SEEN, both_there.timestamp())
    gone = datetime.fromtimestamp(max((s.value for s in seen), default=started.timestamp()), UTC)
    if gone > started:
        return []  # Only Prometheus was away, and Alertmanager knows its alerts.
    seconds = (min(now - gone, LONGEST) + SAID_AGAIN).total_seconds()
    last = (
        'max_over_time(timestamp(ALERTS{alertstate="firing"})'
        f"[{seconds:.0f}s:{ruling.interval * 1000:.0f}ms])"
    )
    first = f"max_over_time(ALERTS_FOR_STATE[{seconds:.0f}s])"
    begun = {_key(series.labels): series.value for series in await prometheus.instant(first)}
    active = {_key(labels) for labels in ruling.active}
    return [
        {
            "labels": dict(_key(series.labels)),
            "startsAt": _time(begun.get(_key(series.labels), series.value)),
            "endsAt": _time(series.value),
        }
        for series in await prometheus.instant(last)
        if _key(series.labels) not in active
    ]


def _key(labels: Any) -> frozenset[tuple[str, str]]:
    """The labels of an alert, without those that only its series has."""
    return frozenset((k, v) for k, v in labels.items() if k not in ("__name__", "alertstate"))


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
