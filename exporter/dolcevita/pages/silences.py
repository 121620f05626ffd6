"""The maintenance that Alertmanager knows of, looked up now and then beside everything else."""

import asyncio
import logging

import aiohttp

from dolcevita.alerting.maintenance import BY_HAND, Maintenance, from_silences

log = logging.getLogger(__name__)

EVERY = 10.0
"""Seconds between two looks."""

_TIMEOUT = aiohttp.ClientTimeout(total=5)


class Silences:
    """What `dolcevita maintain` began; without an answer, what was known last."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.works: tuple[Maintenance, ...] = ()

    async def follow(self, session: aiohttp.ClientSession) -> None:
        """Look, again and again, until cancelled."""
        told = False
        while True:
            try:
                async with session.get(self.url + "/api/v2/silences", timeout=_TIMEOUT) as answer:
                    answer.raise_for_status()
                    found = await answer.json()
                self.works = tuple(work for _, work in from_silences(found, BY_HAND))
                told = False
            except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError) as error:
                if not told:
                    log.warning("Alertmanager on %s tells of no maintenance: %s", self.url, error)
                told = True
            await asyncio.sleep(EVERY)
