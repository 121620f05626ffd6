"""The modules that are in force, and how they follow their file."""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from dolcevita.config import ConfigError
from dolcevita.exporter.blackbox import modules
from dolcevita.exporter.blackbox.modules import Loaded

log = logging.getLogger(__name__)

POLL = 1.0
"""Seconds between looks at the file."""


class Modules:
    """The last good modules of blackbox_exporter's file, or the built-in one without a file.

    `successful` says whether the latest load worked, `loaded_at` (unix seconds) when one last
    did. The constructor raises ConfigError.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.stamp = self._stamp()
        self._adopt(self._load())

    async def reload(self) -> None:
        """Read the file again. Raises ConfigError and keeps what it had if it is bad."""
        self.stamp = self._stamp()
        try:
            found = await asyncio.to_thread(self._load)
        except ConfigError as error:
            self.successful = False
            for problem in error.problems:
                log.error("%s", problem)
            log.error("The edit is refused; the modules before it stay in force.")
            raise
        self._adopt(found)

    async def follow(self) -> None:
        """Reload whenever the file has changed, until cancelled."""
        before = self.stamp
        while self.file:
            await asyncio.sleep(POLL)
            now = self._stamp()
            # Changed and the same at two looks: an editor that is still writing is not heeded.
            if now != self.stamp and now == before:
                with suppress(ConfigError):
                    await self.reload()
            before = now

    def _load(self) -> Mapping[str, Loaded]:
        return modules.load(self.file) if self.file else modules.built_in()

    def _adopt(self, found: Mapping[str, Loaded]) -> None:
        self.by_name = found
        self.successful = True
        self.loaded_at = time.time()

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            stat = self.file.stat() if self.file else None
        except OSError:
            return None
        return (stat.st_mtime_ns, stat.st_size, stat.st_ino) if stat else None
