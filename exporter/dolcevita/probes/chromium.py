"""The headless Chromium that page probes share: started when needed, again when it dies."""

import asyncio
import logging
import os
import shutil
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.async_api import Browser, BrowserContext, Playwright

    Launching = asyncio.Task[tuple[Playwright, Browser]]

log = logging.getLogger(__name__)

PAGES_AT_ONCE = 2
"""Pages that are open at the same time; others wait for their turn."""

LAUNCH = 30.0
CLOSE = 5.0
"""Seconds after which a browser that does not obey is given up."""

PROGRAMS = (
    "chromium",
    "chromium-headless-shell",
    "chromium-browser",
    "google-chrome-stable",
    "google-chrome",
)


class NotStarted(Exception):
    """Chromium does not start; the text says why, as a sentence."""


@dataclass(slots=True)
class Chromium:
    """The browser of one event loop."""

    turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PAGES_AT_ONCE))
    launching: "Launching | None" = None
    chores: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def runs(self) -> bool:
        """Whether there is one, and it is not known to have died."""
        task = self.launching
        return task is not None and _worked(task) and task.result()[1].is_connected()

    async def browser(self) -> "Browser":
        """The one that runs, else a new one. Raises NotStarted."""
        if self.launching and self.launching.done() and not self.runs:
            self.drop(self.launching)
        if self.launching is None:
            self.launching = asyncio.create_task(_launch())
        # One who has no time left must not break the launch off for all others.
        return (await asyncio.shield(self.launching))[1]

    def drop(self, launching: "Launching | None") -> None:
        """End that browser; the next probe gets a new one. Another one, which was launched since
        by whoever found this one of no use, goes on."""
        if launching and self.launching is launching:
            self._later(_end(launching))
            self.launching = None

    def leave(self, context: "BrowserContext") -> None:
        """Close the pages of one probe, beside the probes."""
        self._later(self._close(context))

    async def _close(self, context: "BrowserContext") -> None:
        try:
            async with asyncio.timeout(CLOSE):
                await context.close()
        except Exception:
            # Of any kind: a browser that cannot even do that is of no more use.
            task = self.launching
            if task and _worked(task) and task.result()[1] is context.browser:
                self.drop(task)

    def _later(self, chore: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(chore)
        self.chores.add(task)
        task.add_done_callback(self.chores.discard)


_running: dict[asyncio.AbstractEventLoop, Chromium] = {}


def here() -> Chromium:
    """The one of the running loop."""
    return _running.setdefault(asyncio.get_running_loop(), Chromium())


async def close() -> None:
    """End the browser of the running loop."""
    chromium = _running.pop(asyncio.get_running_loop(), None)
    if chromium:
        chromium.drop(chromium.launching)
        await asyncio.gather(*chromium.chores, return_exceptions=True)


def program() -> str | None:
    """The path of Chromium, None if there is none."""
    named = os.environ.get("DOLCEVITA_CHROMIUM")
    return shutil.which(named) if named else next(filter(None, map(shutil.which, PROGRAMS)), None)


def missing() -> str:
    """What this machine lacks to run one, and what to do, as the end of a sentence; else ''."""
    if find_spec("playwright") is None:
        return (
            "takes Playwright, which is not installed: "
            ".venv/bin/pip install -r requirements-browser.lock, "
            "or with Docker write EXPORTER_VARIANT=browser into .env"
        )
    if program() is None:
        return (
            "takes Chromium, and there is none: install it (on Debian and Ubuntu, "
            "apt install chromium), or name its program in DOLCEVITA_CHROMIUM"
        )
    return ""


async def _launch() -> "tuple[Playwright, Browser]":
    from playwright.async_api import Error, async_playwright

    async with asyncio.timeout(LAUNCH):
        driver = await async_playwright().start()
    try:
        browser = await driver.chromium.launch(
            executable_path=program(),
            # It refuses to work for root.
            chromium_sandbox=os.geteuid() != 0
            and os.environ.get("DOLCEVITA_CHROMIUM_SANDBOX") != "off",
            # /dev/shm is 64 MiB in containers: too small for a page.
            args=["--disable-dev-shm-usage", "--disable-gpu", "--mute-audio"],
            timeout=LAUNCH * 1000,
        )
    except Error as error:
        log.error("Chromium cannot be started: %s", error.message)
        await driver.stop()
        words = error.message.strip().partition("\n")[0].rstrip(".")
        raise NotStarted(f"Chromium cannot be started: {words[:200]}.") from None
    except BaseException:
        await driver.stop()
        raise
    return driver, browser


def _worked(task: "asyncio.Task[Any]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


async def _end(launching: "Launching") -> None:
    if not launching.done():
        launching.cancel()
        await asyncio.wait([launching])
    if not _worked(launching):
        return
    driver, browser = launching.result()
    # Whatever is wrong with it: it ends with the driver.
    with suppress(Exception):
        async with asyncio.timeout(CLOSE):
            await browser.close()
    with suppress(Exception):
        async with asyncio.timeout(CLOSE):
            await driver.stop()
