"""Probing with a second attempt: one lost packet is no outage."""

import asyncio
import logging
from time import perf_counter
from typing import Any

from dolcevita.probes.kind import Kind, Target
from dolcevita.probes.result import Reason, Result

log = logging.getLogger(__name__)

PAUSE = 0.5
"""Seconds before the second attempt: a server that is just restarting may be back by then."""

LEAST_SHARE = 0.1
"""A second attempt with less than this share of the budget left would only time out."""

GRACE = 0.1
"""Seconds that a prober may overrun its budget before it is broken off."""


async def probe(kind: Kind, target: Target[Any, Any], budget: float) -> Result:
    """Probe within `budget` seconds; what failed is tried once more if there is time.

    When both attempts fail, the first is told, because it had the more time.
    """
    begin = perf_counter()
    result = await _attempt(kind, target, budget)
    left = begin + budget - perf_counter()
    attempts = 1
    worth = kind.again and result.again
    if not result.success and worth and left > budget * LEAST_SHARE:
        pause = min(PAUSE, left * LEAST_SHARE)
        await asyncio.sleep(pause)
        second = await _attempt(kind, target, left - pause)
        attempts = 2
        if second.success:
            result = second
    result.attempts, result.duration = attempts, perf_counter() - begin
    return result


async def _attempt(kind: Kind, target: Target[Any, Any], budget: float) -> Result:
    try:
        async with asyncio.timeout(budget + GRACE):
            return await kind.probe(target, budget)
    except TimeoutError:
        detail = f"No result for {target.url} in {budget:.1f} s."
        return Result(success=False, reason=Reason.TIMEOUT, detail=detail)
    except Exception:
        log.exception("The %s prober failed for %s", kind.name, target.url)
        detail = f"The {kind.name} prober itself failed: the exporter's log says why."
        return Result(success=False, reason=Reason.INTERNAL, detail=detail)
