"""Sees to it that silence is not taken for recovery: a dead Prometheus, a fresh Alertmanager.

The same for a clock that is set: then everything is too old, or not yet.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from dolcevita.courier.alertmanager import GUARD_ALERT, STANDBY_ALERT, Alertmanager, Unreachable

PROOFS = ("Watchdog", "PrometheusReady")
"""Alerts that always fire: Prometheus sends them again at least every resend delay (30 s).

After a start the first is sent before Alertmanager is found, so the second comes sooner.
"""

STALE_SECONDS = 70.0
"""Two resends missed. Alerts run out 120 s after they were last sent, so there is time to act."""

SETTLE_SECONDS = 60.0
"""Prometheus is believed again only after all its alerts were sent again."""

RESEND_SECONDS = 35.0
"""By then a fresh Alertmanager has every alert: the resend delay and one evaluation."""

CLOCK_SET_SECONDS = 30.0
"""A clock this far from where it should be was set, or the machine was asleep."""

SENT_AGAIN_SECONDS = 65.0
"""By then every rule was evaluated, and its alerts were sent with the new time."""

PERIOD_SECONDS = 5.0
LOOK_SECONDS = 0.5
LOOK_AGAIN_SECONDS = 0.1
LIFETIME = timedelta(minutes=5)

ANNOTATIONS = {
    "summary": "Prometheus is silent: nothing is watched",
    "description": "No sign of life from Prometheus for more than a minute. "
    "Until it is back, other alerts are held as they are.",
    "runbook_url": "docs/runbooks/PrometheusSilent.md",
}

STANDBY_ANNOTATIONS = {
    "summary": "This Alertmanager leaves it to another one of the cluster to tell",
    "description": "It knows all that the other one knows, and takes over when that one is gone.",
    "runbook_url": "docs/runbooks/AlertmanagerStandby.md",
}
STANDBY_LIFETIME = timedelta(seconds=20)
"""Without a courier that renews it, an Alertmanager tells what it knows."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Verdict:
    """Decides from each look at Alertmanager whether Prometheus is silent. Times are seconds."""

    silent: bool = False
    _missing_since: float | None = None
    _fresh_since: float | None = None

    def unknown(self) -> None:
        """Alertmanager did not answer: what it had is gone or not known."""
        self._missing_since = self._fresh_since = None

    def look(self, now: float, age: float | None, raised: bool) -> bool:
        """`age` is how long ago the proof came, None when there is none; `raised` whether the
        guard's alert is firing already, as it is when the courier was restarted meanwhile."""
        # From the future: the clock was set back, and Prometheus cannot write until it catches up.
        fresh = age is not None and -STALE_SECONDS < age < STALE_SECONDS
        if fresh:
            self._missing_since = None
            self._fresh_since = now if self._fresh_since is None else self._fresh_since
        else:
            self._fresh_since = None
            self._missing_since = now if self._missing_since is None else self._missing_since
        if self.silent or raised:
            settled = self._fresh_since is not None and now - self._fresh_since >= SETTLE_SECONDS
            self.silent = not settled
        elif self._missing_since is not None:
            waited = now - self._missing_since
            self.silent = age is not None or waited >= STALE_SECONDS
        return self.silent


async def watch_prometheus(alertmanager: Alertmanager) -> None:
    """Keep PrometheusSilent firing while there is no proof of life, forever.

    It inhibits every other alert, so that those which run out meanwhile are not told as resolved.
    """
    verdict = Verdict()
    clock = asyncio.get_running_loop().time
    while True:
        try:
            await _guard(alertmanager, verdict, clock())
        except Unreachable:
            verdict.unknown()
        await asyncio.sleep(PERIOD_SECONDS)


async def _guard(alertmanager: Alertmanager, verdict: Verdict, clock: float) -> None:
    proofs = [proof for name in PROOFS for proof in await alertmanager.alerts(name)]
    raised = await alertmanager.alerts(GUARD_ALERT)
    now = datetime.now(UTC)
    ages = [(now - datetime.fromisoformat(p["updatedAt"])).total_seconds() for p in proofs]
    was_silent = verdict.silent
    silent = verdict.look(clock, min(ages, default=None), bool(raised))
    if silent != was_silent:
        log.warning("Prometheus is %s", "silent" if silent else "back")
    if silent or raised:
        await alertmanager.post_alerts(
            {
                "labels": {"alertname": GUARD_ALERT, "severity": "critical"},
                "annotations": ANNOTATIONS,
                "startsAt": raised[0]["startsAt"] if raised else now.isoformat(),
                "endsAt": (now + LIFETIME if silent else now).isoformat(),
            }
        )


async def watch_alertmanager(alertmanager: Alertmanager) -> None:
    """Hold a freshly started Alertmanager back until Prometheus has sent everything, forever.

    Alerts come back one by one. What is told before all are there would be told again with the
    rest, or is told though what inhibits it is still on its way. In a cluster the others would be
    held back as well: there the flag --dispatch.start-delay of Alertmanager 0.30 does it.
    """
    seen: datetime | None = None
    while True:
        try:
            state = await alertmanager.state()
            if state.started != seen:
                ready = state.started + timedelta(seconds=RESEND_SECONDS)
                if ready > datetime.now(UTC) and not state.in_cluster:
                    await alertmanager.hush(ready, "Alertmanager has just started")
                seen = state.started
            pause = LOOK_SECONDS
        except Unreachable:
            pause = LOOK_AGAIN_SECONDS
        await asyncio.sleep(pause)


async def watch_cluster(alertmanager: Alertmanager) -> None:
    """In a cluster, let only the first Alertmanager of those that are there tell anything, forever.

    Each of the others has an alert of its own that inhibits all others, and takes over once it is
    the first. Left to themselves they wait for each other before they send, and what has ended
    meanwhile is then told by the next one as if it had begun anew.
    """
    standby = False
    while True:
        pause = LOOK_SECONDS
        try:
            state = await alertmanager.state()
            wanted = state.in_cluster and not state.first
            if wanted or standby:
                now = datetime.now(UTC)
                await alertmanager.post_alerts(
                    {
                        "labels": {"alertname": STANDBY_ALERT, "severity": "none"},
                        "annotations": STANDBY_ANNOTATIONS,
                        "startsAt": now.isoformat(),
                        "endsAt": (now + STANDBY_LIFETIME if wanted else now).isoformat(),
                    }
                )
            if wanted != standby:
                log.info("Alertmanager %s", "stands by" if wanted else "is the first: it tells")
            standby = wanted
        except Unreachable:
            pause = LOOK_AGAIN_SECONDS
        await asyncio.sleep(pause)


async def watch_clock(alertmanager: Alertmanager) -> None:
    """Hold everything back when the clock was set, until Prometheus has sent it again, forever.

    An hour ahead, all alerts have run out at once and would be told as resolved. An hour back,
    Alertmanager's log is from the future, and it would tell the same again and again.
    """
    before = time.time() - time.monotonic()
    while True:
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
        now = time.time() - time.monotonic()
        if abs(now - before) >= CLOCK_SET_SECONDS:
            try:
                until = datetime.now(UTC) + timedelta(seconds=SENT_AGAIN_SECONDS)
                await alertmanager.hush(until, "The clock was set")
            except Unreachable:
                continue
            log.warning("the clock was set by %+.0f s", now - before)
        before = now
