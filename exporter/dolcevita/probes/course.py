"""The course of one probe: its phases, their deadlines, and where it broke off."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from time import perf_counter

from dolcevita.probes.result import Phase, Reason, Sample


class Broken(Exception):
    """The probe cannot go on: why, in one word and in one sentence without secrets.

    `again` is False where it must not be tried once more, as in Result.
    """

    def __init__(self, reason: Reason, detail: str, again: bool = True) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.again = again


def fault_of(url: str, read: Callable[[str], object]) -> str:
    """What makes `read` raise Broken for a URL, to be said after 'which'; '' for nothing."""
    try:
        read(url)
    except Broken as broken:
        return broken.detail.removeprefix(f"{url} ").removesuffix(".")
    return ""


class Course:
    """Takes the time of a probe that has `budget` seconds, from now on.

    `address` is the one in use, '' before the name is resolved to `addresses`.
    """

    def __init__(self, budget: float) -> None:
        self.budget = budget
        self.begin = perf_counter()
        self.phases: list[Phase] = []
        self.address = ""
        self.addresses: list[str] = []

    @property
    def elapsed(self) -> float:
        """Seconds since the begin."""
        return perf_counter() - self.begin

    @property
    def connecting(self) -> float:
        """Seconds that are left for connecting, which has half of the budget."""
        return max(0.0, self.budget / 2 - self.elapsed)

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return max(0.0, self.budget - self.elapsed)

    @asynccontextmanager
    async def phase(
        self, name: str, within: float, late: Broken | Callable[[], Broken]
    ) -> AsyncIterator[None]:
        """Notes what is done in it as a phase; raises `late`, or what it gives, after `within`."""
        start = self.elapsed
        finished = False
        try:
            async with asyncio.timeout(within):
                yield
            finished = True
        except TimeoutError:
            raise (late if isinstance(late, Broken) else late()) from None
        finally:
            self.phases.append(Phase(name, start, self.elapsed - start, finished))

    def samples(self, metric: str, names: Iterable[str]) -> list[Sample]:
        """The seconds of each finished phase, 0 for one that was not reached."""
        return [Sample(metric, self.seconds(name), {"phase": name}) for name in names]

    def seconds(self, name: str) -> float:
        """The seconds of a phase as far as it was finished."""
        return sum(phase.seconds for phase in self.phases if phase.name == name and phase.finished)
