"""Keeps a set of processes running until a signal asks to stop, and leaves none behind."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import aiohttp

from dolcevita.config import UserError
from dolcevita.stack.journal import Journal

FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
WELL_AFTER = 60.0
"""Seconds of running after which the next failure counts as the first again."""
STOP_WITHIN = 10.0
SLOW_AFTER = 60.0
POLL = 0.2

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Component:
    """One process: how it is started, and the URL that answers 200 when it is well."""

    name: str
    command: tuple[str, ...]
    health: str
    environment: Mapping[str, str] = field(default_factory=dict)


async def supervise(
    components: Sequence[Component],
    journal: Journal,
    on_ready: Callable[[], None],
    companions: Sequence[Coroutine[None, None, None]] = (),
    stop: asyncio.Event | None = None,
) -> None:
    """Run `components` until SIGINT, SIGTERM, SIGHUP or `stop`; stop them in reverse order.

    One that dies is started again, after a delay that doubles. `on_ready` is called once, when
    all have been seen well. `companions` run beside them. Raises UserError when a component
    stops before it was ever well: a start that fails leaves nothing running.
    """
    stop = stop or asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    keepers = [_Keeper(component, journal) for component in components]
    kept = [asyncio.create_task(keeper.run()) for keeper in keepers]
    beside = [asyncio.create_task(companion) for companion in companions]
    beside.append(asyncio.create_task(_watch_start(keepers, journal, on_ready)))
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({stopped, *kept}, return_when=asyncio.FIRST_COMPLETED)
        if stopped.done():
            journal.say("stopping")
    finally:
        for task in (stopped, *beside):
            task.cancel()
        for keeper, task in zip(reversed(keepers), reversed(kept), strict=True):
            keeper.stop.set()
            await asyncio.wait({task})
        outcomes = await asyncio.gather(*kept, *beside, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome


class _Keeper:
    """Keeps one component running until `stop` is set."""

    def __init__(self, component: Component, journal: Journal) -> None:
        self.component = component
        self.journal = journal
        self.stop = asyncio.Event()
        self.was_well = False

    async def run(self) -> None:
        delay = 0.0
        loop = asyncio.get_running_loop()
        while not self.stop.is_set():
            began = loop.time()
            reason = await self._run_once()
            if reason is None:
                return
            name = self.component.name
            if not self.was_well:
                raise UserError(
                    f"{name} {reason} before it was ready; its last words: "
                    f"{self.journal.last_line(name) or 'none'} (see {self.journal.path(name)})"
                )
            well = loop.time() - began >= WELL_AFTER
            delay = FIRST_DELAY if well or not delay else min(2 * delay, LONGEST_DELAY)
            self.journal.say(f"{name} {reason}, starting it again in {delay:.0f}s")
            with suppress(TimeoutError):
                await asyncio.wait_for(self.stop.wait(), delay)

    async def _run_once(self) -> str | None:
        """Until the process ends: how it ended, or None when it was asked to."""
        try:
            with self.journal.open(self.component.name) as log:
                process = await asyncio.create_subprocess_exec(
                    *self.component.command,
                    env={**os.environ, **self.component.environment},
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=stop_with_parent(),
                )
        except OSError as error:
            return f"cannot be started ({error})"
        ended = asyncio.create_task(process.wait())
        asked = asyncio.create_task(self.stop.wait())
        await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if not self.stop.is_set():
            return f"stopped ({_how(ended.result())})"
        _signal_group(process.pid, signal.SIGTERM)
        done, _ = await asyncio.wait({ended}, timeout=STOP_WITHIN)
        if not done:
            self.journal.say(
                f"{self.component.name} did not stop within {STOP_WITHIN:.0f}s: killed"
            )
            _signal_group(process.pid, signal.SIGKILL)
            await ended
        return None


async def _watch_start(
    keepers: Sequence[_Keeper], journal: Journal, on_ready: Callable[[], None]
) -> None:
    """Ask every component for its health until each has been well once."""
    loop = asyncio.get_running_loop()
    warn_at = loop.time() + SLOW_AFTER
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while waiting := [keeper for keeper in keepers if not keeper.was_well]:
            for keeper in waiting:
                keeper.was_well = await _is_well(session, keeper.component.health)
            if loop.time() > warn_at:
                warn_at = float("inf")
                for keeper in waiting:
                    journal.say(
                        f"{keeper.component.name} has not answered {keeper.component.health} "
                        f"for {SLOW_AFTER:.0f}s: see {journal.path(keeper.component.name)}"
                    )
            await asyncio.sleep(POLL)
    on_ready()


async def _is_well(session: aiohttp.ClientSession, url: str) -> bool:
    try:
        async with session.get(url) as answer:
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(pid, number)


def _how(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def stop_with_parent() -> Callable[[], None] | None:
    """What a child does before it runs its program, so that it ends when the supervisor is killed.

    The kernel then sends it SIGTERM (prctl(2), PR_SET_PDEATHSIG), also after SIGKILL of the
    supervisor, and Prometheus and Alertmanager still write what they have. Linux only.
    """
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    supervisor = os.getpid()

    def arm() -> None:
        prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != supervisor:
            os._exit(1)

    return arm
