"""What has happened in the evening so far, and whether the story came true."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dolcevita.config import UserError
from dolcevita.demo.clock import Clock, in_story

Phone = Literal["provider", "owner"]
Ask = Literal["crash", "repair"]
Stage = Literal[
    "starting",
    "listening",
    "dinner",
    "crashed",
    "paged",
    "repaired",
    "recovered",
    "morning",
    "told",
    "over",
    "failed",
]

BUTTONS: Mapping[Ask, Stage] = {"crash": "dinner", "repair": "paged"}
"""What may be asked for, and at which stage."""


class NotTrue(UserError):
    """The story did not come true; the text says where."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at the unix time `at`: a stage begins, or a phone receives."""

    at: float
    stage: Stage
    values: Mapping[str, object] = field(default_factory=dict)
    phone: Phone | None = None
    alerts: Sequence[Mapping[str, Any]] = ()

    @property
    def what(self) -> tuple[str, str]:
        """Name and status of what a phone was told of."""
        return (self.alerts[0]["labels"]["alertname"], self.alerts[0]["status"])


PAGE = ("SiteDown", "firing")
RECOVERY = ("SiteDown", "resolved")
GOOD_NEWS = ("IncidentResolved", "firing")


class Story:
    """The events, oldest first, and what waits for them."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.clock = Clock()
        self.stage: Stage = "starting"
        self._asked = {ask: asyncio.Event() for ask in BUTTONS}
        self._more = asyncio.Event()

    def tell(self, stage: Stage, **values: object) -> None:
        """A stage begins now."""
        self.stage = stage
        self._append(Event(time.time(), stage, values))

    def deliver(self, phone: Phone, payload: Mapping[str, Any]) -> None:
        """A webhook of Alertmanager for a phone."""
        self._append(Event(time.time(), self.stage, {}, phone, tuple(payload["alerts"])))

    def ask(self, ask: Ask) -> bool:
        """A button is pressed: whether that means something at this stage."""
        fits = self.stage == BUTTONS[ask]
        if fits:
            self._asked[ask].set()
        return fits

    async def asked(self, ask: Ask) -> None:
        """Until a button is pressed."""
        await self._asked[ask].wait()

    async def follow(self, after: int = 0) -> AsyncIterator[tuple[int, Event]]:
        """Events as they happen, with how many there are up to each; `after` are left out."""
        while True:
            more = self._more
            for event in self.events[after:]:
                after += 1
                yield after, event
            if after >= len(self.events):
                await more.wait()

    async def received(self, phone: Phone, what: tuple[str, str], within: float) -> Event:
        """The first message of its kind on a phone. Raises NotTrue when it does not come."""
        try:
            async with asyncio.timeout(within):
                async for _, event in self.follow():
                    if event.phone == phone and event.what == what:
                        return event
        except TimeoutError:
            pass
        name, status = what
        raise NotTrue(f"no {name} ({status}) reached the {phone}'s phone within {within:.0f} s")

    def messages(self, phone: Phone) -> list[Event]:
        return [event for event in self.events if event.phone == phone]

    def alerts_of(self, event: Event) -> list[dict[str, Any]]:
        """The alerts of a message with the story's times in place of the real ones."""
        told = []
        for alert in event.alerts:
            annotations = dict(alert["annotations"])
            if since := alert["labels"].get("since"):
                began = f"{self.clock.at(float(since)):%d/%m %H:%M}"
                annotations |= {"began": began, "began_provider": began}
            if lasted := annotations.get("lasted"):
                annotations["lasted"] = in_story(lasted)
            told.append({**alert, "annotations": annotations})
        return told

    def verify(self, quiet_until: float) -> None:
        """Raises NotTrue unless the phones were told what they should be, no more and no less."""
        pages = [event.what for event in self.messages("provider")]
        if pages != [PAGE, RECOVERY]:
            raise NotTrue(f"the provider was told {pages}, expected a page and a recovery")
        told = [event.what for event in self.messages("owner")]
        if told != [GOOD_NEWS]:
            raise NotTrue(f"the owner was told {told}, expected one message: it is fixed")
        recovery, news = self.messages("provider")[1], self.messages("owner")[0]
        if news.at < max(recovery.at, quiet_until):
            raise NotTrue("the owner was told before it was fixed, or in quiet hours")

    def _append(self, event: Event) -> None:
        self.events.append(event)
        self._more.set()
        self._more = asyncio.Event()
