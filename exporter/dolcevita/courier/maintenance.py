"""Planned maintenance as Alertmanager's silences: those of status.yml kept, others by hand."""

import asyncio
import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

import aiohttp

from dolcevita.alerting.maintenance import (
    BY_FILE,
    BY_HAND,
    Maintenance,
    from_silences,
    planned,
    silence,
)
from dolcevita.config import Config, Site, UserError, did_you_mean, parse_duration
from dolcevita.config.status import moment
from dolcevita.config.status_file import StatusFile
from dolcevita.courier.alertmanager import Alertmanager, Refused, Unreachable

log = logging.getLogger(__name__)

EVERY = 5.0
"""Seconds between two looks at the file and at Alertmanager."""


async def keep(
    alertmanager: Alertmanager, file: StatusFile, config: Callable[[], Config | None]
) -> None:
    """Have the windows of status.yml as silences, and no others of its own, until cancelled."""
    while True:
        current = config()
        if current:
            now = time.time()
            windows = planned(file.look(current).maintenance, now)
            # A file that cannot be read ends no maintenance.
            if file.successful:
                try:
                    await _settle(alertmanager, windows, now)
                except (*Unreachable, Refused) as error:
                    log.warning("Maintenance of status.yml is not in force yet: %s", error)
        await asyncio.sleep(EVERY)


def parse(
    config: Config, name: str, length: str, because: str, start: str, counts: bool
) -> Maintenance:
    """The work that a command line means. Raises UserError.

    `name` is a site or a host, `length` as 2h, `start` on the clock of its owner or '' for now.
    """
    site = next((s for s in config.sites if s.name == name), None)
    of_host = next((s for s in config.sites if s.host == name and name), None)
    touched = site or of_host
    if touched is None:
        known = {s.name for s in config.sites} | {s.host for s in config.sites if s.host}
        raise UserError(f"no site and no host is named '{name}': {did_you_mean(name, known)}")
    try:
        seconds = parse_duration(length)
    except ValueError as error:
        raise UserError(f"--for: found '{length}', {error}") from None
    try:
        begins = moment(start, _zone(config, touched)) if start else time.time()
    except ValueError as error:
        raise UserError(f"--from: found '{start}', {error}") from None
    if begins + seconds <= time.time():
        raise UserError(f"--from: found '{start}', and it would be over by now")
    label: Literal["site", "host"] = "site" if site else "host"
    return Maintenance(label, name, begins, begins + seconds, because, counts)


def told(config: Config, work: Maintenance) -> str:
    """From when to when, for a person."""
    touched = next(site for site in config.sites if work.covers(site))
    zone = ZoneInfo(_zone(config, touched))
    start, end = (datetime.fromtimestamp(at, zone) for at in (work.start, work.end))
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} ({zone.key})"


def _zone(config: Config, site: Site) -> str:
    return next(owner.timezone for owner in config.owners if owner.name == site.owner)


async def begin(url: str, work: Maintenance) -> None:
    """Silence what is worked on. Raises UserError."""
    async with aiohttp.ClientSession(trust_env=False) as session:
        try:
            await Alertmanager(session, url).silence(silence(work, BY_HAND))
        except Unreachable as error:
            raise _no_answer(url, error) from None


async def end(url: str, label: Literal["site", "host"], value: str) -> int:
    """End what `begin` began on a site or host; gives how many there were. Raises UserError."""
    async with aiohttp.ClientSession(trust_env=False) as session:
        alertmanager = Alertmanager(session, url)
        try:
            found = from_silences(await alertmanager.silences(), BY_HAND)
            ended = [i for i, work in found if (work.label, work.value) == (label, value)]
            for identity in ended:
                await alertmanager.end_silence(identity)
        except Unreachable as error:
            raise _no_answer(url, error) from None
    return len(ended)


async def _settle(alertmanager: Alertmanager, windows: list[Maintenance], now: float) -> None:
    """Begin what is missing and end what is no longer planned."""
    wanted = {_key(work, now): work for work in windows if work.end > now + EVERY}
    found = from_silences(await alertmanager.silences(), BY_FILE)
    there = {_key(work, now): identity for identity, work in found}
    for key in wanted.keys() - there.keys():
        await alertmanager.silence(silence(wanted[key], BY_FILE))
        log.info("%s %s: maintenance planned: %s", *key[:2], wanted[key].because)
    for key in there.keys() - wanted.keys():
        if key[2] > now + EVERY:
            await alertmanager.end_silence(there[key])
            log.info("%s %s: maintenance no longer planned", *key[:2])


def _key(work: Maintenance, now: float) -> tuple[str, str, float, str, bool, float]:
    """What makes two the same. One that is under way may have begun late: Alertmanager takes no
    beginning in the past."""
    start = work.start if work.start > now else 0.0
    return (work.label, work.value, round(work.end), work.because, work.counts, round(start))


def _no_answer(url: str, error: BaseException) -> UserError:
    return UserError(f"Alertmanager on {url} does not answer: {error or type(error).__name__}")
