"""Scrapes as Prometheus does, as fast as they are answered or at a steady rate."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from time import perf_counter
from typing import Any

import aiohttp

from bench.exporters import Scrape

# What Prometheus 3.5 sends.
HEADERS = {
    "Accept": (
        "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
        "application/openmetrics-text;version=0.0.1;q=0.4,"
        "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,"
        "*/*;q=0.1"
    ),
    "Accept-Encoding": "gzip",
    "X-Prometheus-Scrape-Timeout-Seconds": "10",
}


Plan = Callable[
    [aiohttp.ClientSession, Iterator[Scrape], "Scraped"], list[Coroutine[Any, Any, None]]
]


@dataclass
class Scraped:
    """What came of some scrapes: how many probes in how many seconds, and of each scrape its."""

    probes: int = 0
    seconds: float = 0.0
    scrapes: list[float] = field(default_factory=list)


def fast(scrapes: Sequence[Scrape], at_once: int, seconds: float) -> Scraped:
    """One after the other, `at_once` of them at any moment, for that long."""

    async def work(session: aiohttp.ClientSession, turns: Iterator[Scrape], to: Scraped) -> None:
        end = perf_counter() + seconds
        while perf_counter() < end:
            await _scrape(session, next(turns), to)

    def plan(
        session: aiohttp.ClientSession, turns: Iterator[Scrape], to: Scraped
    ) -> list[Coroutine[Any, Any, None]]:
        return [work(session, turns, to) for _ in range(at_once)]

    return asyncio.run(_measured(scrapes, plan))


def steady(scrapes: Sequence[Scrape], rate: float, seconds: float) -> Scraped:
    """That many probes a second, each scrape in its turn, for that long."""

    async def work(
        session: aiohttp.ClientSession, scrape: Scrape, to: Scraped, after: float
    ) -> None:
        await asyncio.sleep(after)
        await _scrape(session, scrape, to)

    def plan(
        session: aiohttp.ClientSession, turns: Iterator[Scrape], to: Scraped
    ) -> list[Coroutine[Any, Any, None]]:
        planned, after = [], 0.0
        while after < seconds:
            scrape = next(turns)
            planned.append(work(session, scrape, to, after))
            after += scrape.probes / rate
        return planned

    return asyncio.run(_measured(scrapes, plan))


async def _measured(scrapes: Sequence[Scrape], plan: Plan) -> Scraped:
    found = Scraped()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:
        begin = perf_counter()
        await asyncio.gather(*plan(session, cycle(scrapes), found))
        found.seconds = perf_counter() - begin
    return found


async def _scrape(session: aiohttp.ClientSession, scrape: Scrape, to: Scraped) -> None:
    begin = perf_counter()
    async with session.get(scrape.url) as answer:
        text = await answer.text()
    to.scrapes.append(perf_counter() - begin)
    lines = text.splitlines()
    good = sum(line.startswith("probe_success") and line.endswith((" 1", " 1.0")) for line in lines)
    if good != scrape.probes:
        raise RuntimeError(f"{scrape.url}: {good} of {scrape.probes} probes are good\n{text}")
    to.probes += good
