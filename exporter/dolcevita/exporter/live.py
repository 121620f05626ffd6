"""The configuration that is in force, and how it follows its files."""

import asyncio
import logging
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import date
from pathlib import Path

from dolcevita.config import Config, ConfigError, load
from dolcevita.probes import PLANNED, on_this_machine

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between looks at the files. Polled, because bind mounts do not pass on inotify."""

Stamp = tuple[tuple[int, int, int] | date | None, ...]


class Live:
    """The last good configuration of two files, and of the calendars that they name.

    `successful` says whether the latest load worked, `loaded_at` (unix seconds) when one last
    did. The constructor raises ConfigError: without a first good one there is nothing to keep.
    """

    def __init__(self, sites: Path, people: Path, may_be_missing: bool = False) -> None:
        """With `may_be_missing`, no sites.yml is none to watch, until there has been one."""
        self.sites = sites
        self.people = people
        self.may_be_missing = may_be_missing
        self.calendars: tuple[Path, ...] = ()
        self.one_at_a_time = asyncio.Lock()
        self.stamp = self._stamp()
        self._adopt(self._load())

    async def reload(self) -> None:
        """Read both files again. Raises ConfigError and keeps what it had if they are bad."""
        async with self.one_at_a_time:
            self.stamp = self._stamp()
            try:
                config = await asyncio.to_thread(self._load)
            except ConfigError as error:
                self.successful = False
                self._follow_also(error.files)
                for problem in error.problems:
                    log.error("%s", problem)
                log.error("The edit is refused; the configuration before it stays in force.")
                raise
            self._adopt(config)
            log.info("Configuration read again: %d sites.", len(config.sites))

    async def follow(self) -> None:
        """Reload whenever a file has changed, until cancelled."""
        before = self.stamp
        while True:
            await asyncio.sleep(POLL)
            now = self._stamp()
            # Changed and the same at two looks: an editor that is still writing is not heeded.
            if now != self.stamp and now == before:
                # What is wrong is in the log, and the metric tells the provider.
                with suppress(ConfigError):
                    await self.reload()
            before = now

    def _load(self) -> Config:
        if self.may_be_missing and not self.sites.exists():
            return Config((), (), ())
        self.may_be_missing = False
        return load(self.sites, self.people, on_this_machine(), PLANNED)

    def _adopt(self, config: Config) -> None:
        self.config = config
        self._follow_also(config.calendars())
        self.successful = True
        self.loaded_at = time.time()
        for warning in config.warnings:
            log.warning("%s", warning)

    def _follow_also(self, calendars: Iterable[Path]) -> None:
        """Follow these calendars as well, and no others, from what they are now."""
        self.calendars = tuple(calendars)
        self.stamp = (*self.stamp[:2], *self._stamp()[2:])

    def _stamp(self) -> Stamp:
        # A new day is reason enough to look how far ahead the calendars are known.
        days = [date.today()] if self.calendars else []
        files = (self.sites, self.people, *self.calendars)
        return (*(_stamp(path) for path in files), *days)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
