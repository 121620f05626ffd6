"""Lets the evening happen: waits, crashes, repairs, and tells each step of the story."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from math import ceil

import aiohttp

from dolcevita.courier.alertmanager import Alertmanager, Unreachable
from dolcevita.courier.guard import RESEND_SECONDS
from dolcevita.demo.clock import MORNING
from dolcevita.demo.project import SITE
from dolcevita.demo.story import GOOD_NEWS, PAGE, RECOVERY, NotTrue, Story
from dolcevita.history.prometheus import NoAnswer, Prometheus

POLL = 0.5

SEEN_WITHIN = 60.0
SPEAKS_WITHIN = 90.0
PAGED_WITHIN = 60.0
RECOVERED_WITHIN = 60.0
TOLD_WITHIN = 60.0

EVENING = 65.0
"""Seconds of quiet from when all is ready: what an evening takes that nobody holds up, and a
night."""
START = EVENING + RESEND_SECONDS + 12
"""The same from before the start of the stack."""
LEAST = 30.0
"""Seconds that must be left until the shop has recovered; else the evening is made longer."""

# Without anybody at the buttons: time to read what is on the page.
LOOK_AROUND = 5.0
REPAIR_AFTER = 10.0

SETTLE = 8.0
"""Seconds in which a message too many would still come."""


@dataclass(frozen=True, slots=True)
class Server:
    """How the shop's server dies and is started again; URLs of the two that watch it."""

    crash: Callable[[], Awaitable[None]]
    repair: Callable[[], Awaitable[None]]
    prometheus: str
    alertmanager: str


class Quiet:
    """The owner's quiet hours, which `write` puts into people.yml. They end on full minutes."""

    def __init__(self, write: Callable[[datetime], None]) -> None:
        self._write = write
        self.until = 0.0

    def last(self, seconds: float) -> None:
        """Let them end at the first full minute that is so far away."""
        self.until = ceil((time.time() + seconds) / 60) * 60.0
        self._write(datetime.fromtimestamp(self.until, UTC))

    def last_at_least(self, seconds: float) -> None:
        """Change them only if they end before."""
        if self.until - time.time() < seconds:
            self.last(seconds)

    async def keep(self) -> None:
        """Make them longer, again and again, for somebody who takes their time."""
        while True:
            if self.until - time.time() < LEAST:
                self.last(EVENING)
            await asyncio.sleep(1)


async def play(story: Story, server: Server, quiet: Quiet, auto: bool) -> None:
    """The whole evening, once the stack is well. Raises NotTrue where it goes another way."""
    try:
        await _play(story, server, quiet, auto)
    except NotTrue as error:
        story.tell("failed", why=error)
        raise


async def _play(story: Story, server: Server, quiet: Quiet, auto: bool) -> None:
    keeper = asyncio.create_task(quiet.keep())
    try:
        async with aiohttp.ClientSession(trust_env=False) as session:
            await _seen(Prometheus(session, server.prometheus))
            quiet.last_at_least(EVENING + RESEND_SECONDS)
            story.tell("listening")
            await _speaks(Alertmanager(session, server.alertmanager))
        story.tell("dinner")
        if auto:
            await asyncio.sleep(LOOK_AROUND)
        else:
            await story.asked("crash")
        await server.crash()
        crashed = time.time()
        story.clock.walk(crashed)
        story.tell("crashed")
        paged = await story.received("provider", PAGE, PAGED_WITHIN)
        story.tell("paged", seconds=round(paged.at - crashed))
        if auto:
            await asyncio.sleep(REPAIR_AFTER)
        else:
            await story.asked("repair")
        await server.repair()
        story.tell("repaired")
        await story.received("provider", RECOVERY, RECOVERED_WITHIN)
    finally:
        keeper.cancel()
    story.clock.run(time.time(), quiet.until)
    story.tell("recovered")
    await asyncio.sleep(quiet.until - time.time())
    story.clock.stand(time.time(), MORNING)
    story.tell("morning")
    news = await story.received("owner", GOOD_NEWS, TOLD_WITHIN)
    story.tell("told", seconds=round(news.at - quiet.until))
    await asyncio.sleep(SETTLE)
    story.verify(quiet.until)
    story.tell("over")


async def _seen(prometheus: Prometheus) -> None:
    """Until the shop was seen up, and the owner in quiet hours."""
    query = f'probe_success{{site="{SITE}"}} == 1 and on () owner_reachable == 0'
    deadline = time.time() + SEEN_WITHIN
    while time.time() < deadline:
        with suppress(NoAnswer):
            if await prometheus.instant(query):
                return
        await asyncio.sleep(POLL)
    raise NotTrue(f"Prometheus has not seen the shop up within {SEEN_WITHIN:.0f} s")


async def _speaks(alertmanager: Alertmanager) -> None:
    """Until Alertmanager holds nothing back any more, as it does after a start."""
    deadline = time.time() + SPEAKS_WITHIN
    while time.time() < deadline:
        with suppress(*Unreachable):
            age = datetime.now(UTC) - (await alertmanager.state()).started
            if age.total_seconds() > RESEND_SECONDS and not await alertmanager.silences():
                return
        await asyncio.sleep(POLL)
    raise NotTrue(f"Alertmanager still holds everything back after {SPEAKS_WITHIN:.0f} s")
