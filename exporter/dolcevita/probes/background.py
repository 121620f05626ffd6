"""What a prober looks up beside the scrapes, because it takes long and holds for a while."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

MOST = 5000
"""Things of one sort that are known; of more, the longest unasked are forgotten."""

T = TypeVar("T")


class Unavailable(Exception):
    """A lookup found nothing; the text says why, as a sentence."""


@dataclass(slots=True)
class Known(Generic[T]):
    """What the last lookup that worked found, and how lookups fare. Times are unix seconds.

    `trouble` is why the last lookup failed, '' if it did not. `tried_at` is 0 before the first
    has ended. `task` is the one under way.
    """

    value: T | None = None
    at: float = 0.0
    trouble: str = ""
    tried_at: float = 0.0
    task: asyncio.Task[None] | None = None

    async def settle(self, seconds: float) -> None:
        """Wait for the lookup that is under way, at most so long."""
        if self.task:
            await asyncio.wait([self.task], timeout=seconds)


@dataclass(slots=True)
class _Loop(Generic[T]):
    """What belongs to one event loop."""

    turn: asyncio.Semaphore
    known: OrderedDict[Hashable, Known[T]] = field(default_factory=OrderedDict)


class Background(Generic[T]):
    """Lookups of one sort, `at_once` of them at the same time on an event loop."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.loops: dict[asyncio.AbstractEventLoop, _Loop[T]] = {}

    def ask(
        self, key: Hashable, holds: Callable[[Known[T]], float], find: Callable[[], Awaitable[T]]
    ) -> Known[T]:
        """What is known of `key`, at once; where it is older than it `holds`, a lookup begins.

        `holds` gives seconds since the last lookup. `find` raises Unavailable to keep what was
        known before.
        """
        loop = asyncio.get_running_loop()
        if loop not in self.loops:
            self.loops[loop] = _Loop(asyncio.Semaphore(self.at_once))
        here = self.loops[loop]
        known = here.known.setdefault(key, Known())
        here.known.move_to_end(key)
        if len(here.known) > MOST:
            _, oldest = here.known.popitem(last=False)
            if oldest.task:
                oldest.task.cancel()
        if known.task is None and time.time() >= known.tried_at + holds(known):
            known.task = asyncio.create_task(_look_up(here.turn, known, find))
        return known

    async def close(self) -> None:
        """Break off what is under way on the running loop, and forget what it found."""
        here = self.loops.pop(asyncio.get_running_loop(), None)
        tasks = [known.task for known in here.known.values() if known.task] if here else []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _look_up(
    turn: asyncio.Semaphore, known: Known[T], find: Callable[[], Awaitable[T]]
) -> None:
    try:
        async with turn:
            known.value = await find()
        known.at, known.trouble = time.time(), ""
    except Unavailable as error:
        known.trouble = str(error)
    except Exception:
        log.exception("A lookup beside the scrapes failed")
        known.trouble = "The lookup itself failed: the exporter's log says why."
    finally:
        known.tried_at = time.time()
        known.task = None
