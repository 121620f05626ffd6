"""Alertmanager's webhook in, Apprise out: one channel of one person at a time."""

import asyncio
import hashlib
import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import apprise
from jinja2 import Environment, FileSystemLoader
from prometheus_client import CollectorRegistry, Counter

from dolcevita.alerting.receivers import Role, apprise_channels, text_of
from dolcevita.config import Channel, Config, Person, UserError
from dolcevita.courier import sms

DELIVERY_SECONDS = 8.0
"""Alertmanager gives a notification 10 s before it counts it as failed and tries again."""

MEMORY_SECONDS = 3600.0
"""How long a delivery that nobody waited for any more is remembered."""

log = logging.getLogger(__name__)


Alert = Mapping[str, Any]
"""One alert as Alertmanager's webhook has it: status, labels, annotations, startsAt, endsAt."""


class UnknownChannel(UserError):
    """Nobody has an Apprise channel of this name."""


class NotDelivered(UserError):
    """The service behind a channel did not take the message in time."""


@dataclass(frozen=True, slots=True)
class Recipient:
    """Whom a channel's name stands for."""

    name: str
    person: Person
    role: Role
    channel: Channel


class Deliveries:
    """Sends messages and counts them. Every channel has a thread of its own, so that a slow
    service holds up only itself."""

    def __init__(self, messages: Path, registry: CollectorRegistry) -> None:
        # Plain text: escaping for HTML would show.
        self._templates = Environment(
            loader=FileSystemLoader(messages), trim_blocks=True, lstrip_blocks=True
        )
        self._templates.filters["elapsed"] = _elapsed
        self._threads: dict[str, ThreadPoolExecutor] = {}
        self._under_way: dict[str, asyncio.Future[bool]] = {}
        labels = ["channel"]
        self._sent = Counter(
            "courier_notifications", "Messages given to Apprise.", labels, registry=registry
        )
        self._failed = Counter(
            "courier_notifications_failed",
            "Messages that the service behind a channel did not take.",
            labels,
            registry=registry,
        )

    async def deliver(
        self,
        config: Config,
        name: str,
        alerts: Sequence[Alert],
        group: object,
        pages: Mapping[str, str] = {},
    ) -> None:
        """Send one webhook's alerts, which Alertmanager groups as `group`, to the channel `name`.

        `pages` are the addresses of owners' pages. Returns once the service took the message.
        Raises UnknownChannel, NotDelivered, and ConfigError when the channel's file cannot be read.
        """
        to = _recipient(config, name)
        url = text_of(to.channel)
        page = pages.get(to.person.name, "") if to.role == "owner" else ""
        text = self.render(to.person, to.role, alerts, sms.is_sms(url), page)
        if not text:
            return
        key = hashlib.sha256("\0".join((name, url, str(group), text)).encode()).hexdigest()
        # Alertmanager tries again when an answer took too long. The first attempt may still
        # succeed, so the second one waits for it instead of sending the message twice.
        task = self._under_way.get(key)
        if task is None:
            self._sent.labels(name).inc()
            task = asyncio.get_running_loop().run_in_executor(self._thread(name), send, url, text)
            self._under_way[key] = task
        try:
            delivered = await asyncio.wait_for(asyncio.shield(task), DELIVERY_SECONDS)
        except TimeoutError:
            loop = asyncio.get_running_loop()
            loop.call_later(MEMORY_SECONDS, self._under_way.pop, key, None)
            raise self._not_delivered(to, "has not taken the message yet") from None
        self._under_way.pop(key, None)
        if not delivered:
            raise self._not_delivered(to, "did not take the message")

    def render(
        self,
        person: Person,
        role: Role,
        alerts: Sequence[Alert],
        short: bool = False,
        page: str = "",
    ) -> str:
        """The text for one person, from the template of their language; '' for no alerts.

        With `short` it fits one SMS. `page` is the address of an owner's page, '' for none.
        """
        if not alerts:
            return ""
        template = self._templates.get_template(f"apprise.{person.language}.j2")
        text = template.render(alerts=alerts, role=role, short=short, page=page).strip()
        return sms.fitted(text) if short else text

    def close(self) -> None:
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    def _thread(self, name: str) -> ThreadPoolExecutor:
        if name not in self._threads:
            self._threads[name] = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        return self._threads[name]

    def _not_delivered(self, to: Recipient, what: str) -> NotDelivered:
        self._failed.labels(to.name).inc()
        error = NotDelivered(f"{to.channel.source}: the service behind this apprise URL {what}")
        log.warning("%s", error)
        return error


def _recipient(config: Config, name: str) -> Recipient:
    everyone: list[tuple[Role, Person]] = [
        *(("provider", provider) for provider in config.providers),
        *(("owner", owner) for owner in config.owners),
    ]
    for role, person in everyone:
        for known, channel in apprise_channels(person, role):
            if known == name:
                return Recipient(name, person, role, channel)
    raise UnknownChannel(f"no channel '{name}': people.yml has no such apprise entry")


def send(url: str, text: str) -> bool:
    """Give the text to the service; False when it does not take it. The URL is a secret."""
    service = apprise.Apprise()
    return bool(service.add(url) and service.notify(body=text, body_format="text"))


def _elapsed(alert: Alert) -> str:
    """How long an alert fired, as in '12m30s': what its rule did not say in words."""
    start, end = (datetime.fromisoformat(alert[key]) for key in ("startsAt", "endsAt"))
    seconds = round((end - start) / timedelta(seconds=1))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    parts = f"{hours}h{minutes}m{seconds % 60}s"
    return re.sub(r"^0h(0m)?", "", parts)
