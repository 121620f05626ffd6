"""The page with the two phones: served, kept live by server-sent events, and sent the webhooks."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import jinja2
from aiohttp import web
from markupsafe import Markup

from dolcevita.config import UserError
from dolcevita.demo.clock import DINNER
from dolcevita.demo.story import BUTTONS, Event, Story
from dolcevita.demo.texts import LANGUAGES, Teller, texts
from dolcevita.words import preferred

HERE = Path(__file__).parent
ASSETS = ("page.css", "page.js", "icon.svg")

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
        "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Vary": "Accept-Language",
}

ALIVE = 15.0
"""Seconds without an event after which a comment shows that the page is still followed."""

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


class Page:
    """The endpoints over one story. `links` are addresses by the text that names them."""

    def __init__(self, story: Story, teller: Teller, links: Mapping[str, str], auto: bool) -> None:
        self.story = story
        self.teller = teller
        self.links = links
        self.auto = auto

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes(
            [
                web.get("/", self.page),
                web.get("/events", self.events),
                web.post("/phone/{phone:provider|owner}", self.webhook),
                web.post("/{ask:crash|repair}", self.press),
                *(web.get(f"/{name}", self.asset) for name in ASSETS),
            ]
        )
        return app

    async def page(self, request: web.Request) -> web.Response:
        """The page as things stand."""
        language = _language(request)
        events = [
            self._shown(number, event, language)
            for number, event in enumerate(self.story.events, start=1)
        ]
        text = _TEMPLATES.get_template("page.html").render(
            said={name: _unbroken(text) for name, text in texts(language).items()},
            language=language,
            events=events,
            seen=len(events),
            stage=self.story.stage,
            clock=self._clock(),
            links=self.links,
            auto=self.auto,
        )
        return web.Response(text=text, content_type="text/html", headers=HEADERS)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """Each event from the one after `seen` on ("Server-sent events", HTML standard)."""
        language = _language(request)
        try:
            seen = int(request.headers.get("Last-Event-ID") or request.query.get("seen", "0"))
        except ValueError:
            raise web.HTTPBadRequest(text="seen: expected a number.\n") from None
        response = web.StreamResponse(headers=HEADERS | {"Content-Type": "text/event-stream"})
        await response.prepare(request)
        following = self.story.follow(seen)
        coming = asyncio.ensure_future(anext(following))
        try:
            while True:
                done, _ = await asyncio.wait({coming}, timeout=ALIVE)
                if not done:
                    await response.write(b": alive\n\n")
                    continue
                number, event = coming.result()
                data = json.dumps(self._shown(number, event, language))
                await response.write(f"id: {number}\ndata: {data}\n\n".encode())
                coming = asyncio.ensure_future(anext(following))
        except ConnectionResetError:
            return response
        finally:
            coming.cancel()

    async def webhook(self, request: web.Request) -> web.Response:
        """A message of Alertmanager for one of the phones."""
        phone = request.match_info["phone"]
        self.story.deliver("owner" if phone == "owner" else "provider", await request.json())
        return web.Response()

    async def press(self, request: web.Request) -> web.Response:
        """A button. 409 when it means nothing now."""
        if self.auto or not any(
            name == request.match_info["ask"] and self.story.ask(name) for name in BUTTONS
        ):
            raise web.HTTPConflict(text="Not now.\n")
        return web.Response(status=204)

    async def asset(self, request: web.Request) -> web.FileResponse:
        """Style sheet, script and icon."""
        return web.FileResponse(HERE / request.path.removeprefix("/"), headers=HEADERS)

    def _shown(self, number: int, event: Event, language: str) -> dict[str, Any]:
        """An event as the page has it: what it is, and the HTML that goes where."""
        macros: Any = _TEMPLATES.get_template("parts.html").module
        if event.phone:
            text, _, link = self.teller.message(event, language).partition(". http")
            clock = f"{self.story.clock.at(event.at):%H:%M}"
            kind = event.alerts[0]["status"] if event.phone == "provider" else "news"
            address = f"http{link}" if link else ""
            html = macros.message(texts(language), kind, clock, _unbroken(text), address)
        else:
            began = self.story.events[0].at
            text = _unbroken(self.teller.step(event, language))
            html = macros.step(text, _elapsed(event.at - began))
        return {
            "seen": number,
            "stage": event.stage,
            "phone": event.phone or "",
            "html": Markup(html),
            "clock": self._clock(),
        }

    def _clock(self) -> dict[str, float]:
        """Seconds since the story's first midnight: now, a second's worth, and where it stops."""
        now, pace = time.time(), self.story.clock.pace
        midnight = DINNER.replace(hour=0, minute=0)
        story, until = self.story.clock.at(now), pace.until
        second = timedelta(seconds=1)
        return {
            "story": (story - midnight) / second,
            "speed": pace.speed,
            "until": (until - midnight) / second,
        }


@asynccontextmanager
async def serving(page: Page, port: int) -> AsyncIterator[None]:
    """Serve on 127.0.0.1 while the context lasts. Raises UserError."""
    runner = web.AppRunner(page.app(), shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
    except OSError as error:
        await runner.cleanup()
        raise UserError(
            f"--port: {port} of 127.0.0.1 cannot be used ({error.strerror}): name another one"
        ) from None
    try:
        yield
    finally:
        await runner.cleanup()


def _language(request: web.Request) -> str:
    asked = request.query.get("lang", "")
    if asked in LANGUAGES:
        return asked
    return preferred(request.headers.get("Accept-Language", ""))


def _unbroken(text: str) -> str:
    """No line begins with the punctuation that French sets apart."""
    return re.sub(r" (?=[:;!?»])|(?<=«) ", "\u00a0", text)


def _elapsed(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
