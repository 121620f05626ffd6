"""Follows the user's files: compiles people.yml for Alertmanager and has both servers reload."""

import asyncio
import logging
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from prometheus_client import CollectorRegistry, Gauge

from dolcevita.alerting import compile as compiler
from dolcevita.alerting.receivers import file_of
from dolcevita.config import Config, ConfigError, Problem, UserError, load
from dolcevita.config.status_file import StatusFile
from dolcevita.courier.alertmanager import SECONDS, Alertmanager, Refused, Unreachable, reload
from dolcevita.probes import KINDS, PLANNED

POLL_SECONDS = 1.0
CALENDAR_SECONDS = 15 * 60
"""Days begin at whole quarters of an hour in every time zone: then holidays may move in."""

log = logging.getLogger(__name__)

Signature = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Files:
    """What the courier reads and writes.

    `templates` is the folder of the message templates as Alertmanager sees it; the courier's
    own templates lie in templates/ beside `base`. `prometheus` holds prometheus.yml and rules/.
    """

    sites: Path
    people: Path
    base: Path
    templates: str
    output: Path
    prometheus: Path = Path("prometheus")
    status: Path = Path("status.yml")
    amtool: Path | None = field(default_factory=compiler.find_amtool)

    @property
    def messages(self) -> Path:
        return self.base.parent / "templates"

    @property
    def reports(self) -> Path:
        return self.output.with_name(compiler.REPORTS)


@dataclass(frozen=True, slots=True)
class Built:
    """A configuration, the compiled text of it, and the pages of owners that messages link to."""

    config: Config
    text: str
    pages: Mapping[str, str]


def build(files: Files, status: StatusFile, courier_url: str, now: datetime) -> Built:
    """What the files say, judged by amtool where there is one.

    Raises ConfigError with everything that is wrong. A mistake in status.yml is logged: it may
    cost a link, but no message.
    """
    config = load(files.sites, files.people, KINDS, PLANNED)
    pages = status.look(config).addresses
    reports = compiler.reports_beside(files.output)
    text = compiler.compile(config, files.base, files.templates, courier_url, now, pages, reports)
    if files.amtool and text != _read(files.output):
        compiler.check(text, files.amtool, config, files.base)
    return Built(config, text, pages)


class Configuration:
    """The current configuration, and what the servers have of it."""

    def __init__(
        self,
        files: Files,
        courier_url: str,
        alertmanager: Alertmanager,
        session: aiohttp.ClientSession,
        prometheus_url: str,
        registry: CollectorRegistry,
    ) -> None:
        self.files = files
        self.config: Config | None = None
        self.pages: Mapping[str, str] = {}
        self._status = StatusFile(files.status)
        self._courier_url = courier_url
        self._alertmanager = alertmanager
        self._session = session
        self._prometheus_url = prometheus_url
        self._beside: tuple[Path, ...] = ()
        self._seen: tuple[Signature, Signature, int] | None = None
        self._applied: str | None = None
        self._previous: str | None = None
        self._turned_down: tuple[str, str] | None = None
        self._prometheus_seen: Signature | None = None
        self._prometheus_due = False
        self._successful = Gauge(
            "dolcevita_config_last_reload_successful",
            "1 when the files as they are now are in use, 0 when they were refused.",
            registry=registry,
        )
        self._success_time = Gauge(
            "dolcevita_config_last_reload_success_timestamp_seconds",
            "When the files were last taken into use.",
            registry=registry,
        )

    async def follow(self) -> None:
        """Look at the files each second, forever."""
        while True:
            await self._follow_own_files()
            await self._follow_prometheus_files()
            await asyncio.sleep(POLL_SECONDS)

    async def refresh(self) -> tuple[Problem, ...]:
        """Compile now, write what is new, and say what is wrong with the files.

        A refused edit leaves everything as it was.
        """
        try:
            built = await asyncio.to_thread(
                build, self.files, self._status, self._courier_url, datetime.now(UTC)
            )
        except ConfigError as error:
            self._beside = error.files
            return self._refused(error.problems)
        except UserError as error:
            return self._refused([Problem(str(self.files.base), 0, str(error))])
        self.config, self.pages, text = built.config, built.pages, built.text
        self._beside = tuple(_beside(built.config))
        if self._turned_down and text == self._turned_down[0]:
            return self._refused([self._refusal(self._turned_down[1])])
        on_disk = _read(self.files.output)
        if text != on_disk:
            self._previous = on_disk
            compiler.write_with_links(self.files.output, text, built.pages)
            log.info("wrote %s", self.files.output)
        self._succeeded()
        return ()

    async def _follow_own_files(self) -> None:
        own = _signature(self._own_files())
        state = (own, _signature(self._beside), int(time.time() // CALENDAR_SECONDS))
        if state != self._seen:
            await self.refresh()
            # What people.yml names may be other files now.
            self._seen = (own, _signature(self._beside), state[2])
        text = _read(self.files.output)
        if text is None or text == self._applied:
            return
        try:
            if not await self._alertmanager.runs_on(text):
                await self._alertmanager.reload()
                log.info("Alertmanager reloaded its configuration")
            self._applied = text
        except Refused as error:
            # Alertmanager must find a file that it accepts when it starts again.
            if self._previous is not None:
                compiler.write(self.files.output, self._previous)
            self._applied = _read(self.files.output)
            self._turned_down = (text, str(error))
            self._refused([self._refusal(str(error))])
        except Unreachable:
            return  # It may be starting: tried again in a second.

    async def _follow_prometheus_files(self) -> None:
        folder = self.files.prometheus
        loaded = (sorted(folder.glob(part)) for part in ("*.yml", "rules/*.yml", "pair/*.yml"))
        now = _signature(path for paths in loaded for path in paths)
        try:
            if self._prometheus_seen is None:
                self._prometheus_due = await self._prometheus_is_behind(now)
            elif now != self._prometheus_seen:
                self._prometheus_due = True
            self._prometheus_seen = now
            if self._prometheus_due:
                await reload(self._session, self._prometheus_url)
                log.info("Prometheus reloaded its configuration")
        except Refused as error:
            log.error("%s: Prometheus refuses it: %s", folder, error)
        except Unreachable:
            return  # It may be starting: tried again in a second.
        self._prometheus_due = False

    async def _prometheus_is_behind(self, now: Signature) -> bool:
        """Whether a file is newer than what Prometheus last loaded."""
        url = self._prometheus_url.rstrip("/") + "/metrics"
        async with self._session.get(url, timeout=SECONDS) as answer:
            answer.raise_for_status()
            metrics = await answer.text()
        name = "prometheus_config_last_reload_success_timestamp_seconds"
        found = re.search(rf"^{name} (\S+)", metrics, re.MULTILINE)
        newest = max((mtime for _, mtime, _, _ in now), default=0) / 1e9
        return found is not None and newest > float(found[1])

    def _own_files(self) -> Iterable[Path]:
        files = self.files
        yield from (files.sites, files.people, files.base, files.status, files.reports)
        yield from sorted(files.messages.glob("*"))

    def _refusal(self, words: str) -> Problem:
        return Problem(str(self.files.base), 0, f"Alertmanager refuses it: {words}")

    def _succeeded(self) -> None:
        self._successful.set(1)
        self._success_time.set_to_current_time()

    def _refused(self, problems: Iterable[Problem]) -> tuple[Problem, ...]:
        self._successful.set(0)
        problems = tuple(problems)
        for problem in problems:
            log.error("refused, the last good configuration stays: %s", problem)
        return problems


def _beside(config: Config) -> Iterator[Path]:
    """The files that people.yml names."""
    yield from config.calendars()
    channels = [channel for who in (*config.providers, *config.owners) for channel in who.notify]
    for channel in (*channels, config.watchdog):
        if channel and channel.file:
            yield file_of(channel)


def _read(path: Path) -> str | None:
    try:
        return path.read_text()
    except FileNotFoundError:
        return None


def _signature(paths: Iterable[Path]) -> Signature:
    """Changes when a file is edited, replaced, added or removed."""
    found = []
    for path in paths:
        try:
            stat = path.stat()
        except OSError:
            found.append((str(path), 0, 0, 0))
        else:
            found.append((str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino))
    return tuple(found)
