"""status.yml as it is in force: read again whenever it has changed."""

import logging
from pathlib import Path

from dolcevita.config import Config, ConfigError
from dolcevita.config.status import Status, load_status

log = logging.getLogger(__name__)


class StatusFile:
    """The last good status.yml; `successful` says whether the latest read worked.

    A bad one never keeps sites from being watched: until there is a good one, it says nothing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.status = Status()
        self.successful = True
        self.seen: tuple[object, ...] | None = None

    def look(self, config: Config) -> Status:
        """The status to show, after a look whether the file or the configuration has changed."""
        # The configuration is part of it: names in status.yml are those of sites and owners.
        now = (_stamp(self.path), config)
        if self.seen is None or now[0] != self.seen[0] or config is not self.seen[1]:
            self.seen = now
            try:
                self.status = load_status(self.path, config.sites, config.owners)
                self.successful = True
            except ConfigError as error:
                self.successful = False
                for problem in error.problems:
                    log.error("%s", problem)
                log.error("%s is refused; what it said before stays in force.", self.path.name)
        return self.status


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino
