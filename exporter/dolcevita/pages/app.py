"""The status page over HTTP: for everyone in the house, and for the visitors of one owner."""

import asyncio
import hmac
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

import aiohttp
import jinja2
from aiohttp import web

from dolcevita.alerting.maintenance import Maintenance, planned
from dolcevita.config import Config, Site, UserError
from dolcevita.config.status import LOGOS, Note, OwnerPage, Status
from dolcevita.config.status_file import StatusFile
from dolcevita.history import NoAnswer, Prometheus
from dolcevita.pages import feeds
from dolcevita.pages.memory import Memory, Past
from dolcevita.pages.silences import Silences
from dolcevita.pages.view import (
    OLD,
    SHOWN_INCIDENTS,
    STATES,
    Seen,
    View,
    Wanted,
    headline,
    told,
    view,
)
from dolcevita.report import STYLE_HASH, as_html, month_of, parse_month
from dolcevita.words import LANGUAGES, Words, preferred, words

AHEAD = 60 * 86400.0
"""Seconds for which planned maintenance is shown before it begins."""

MOST_NOTES = 5

UNASKED = 45.0
"""Seconds after which history is asked for anew though nobody looks: no visitor waits for it."""

AGAIN = 2.0
"""Seconds to the next question while nothing is known."""

_HERE = Path(__file__).parent
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

# Read now: the first visitor after a start is not to wait for it.
_PAGE, _FEED, _BADGE = map(_TEMPLATES.get_template, ("page.html", "feed.xml", "badge.svg"))


class Configured(Protocol):
    """The configuration in force, and whether the latest edit of it is."""

    config: Config
    successful: bool


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the page finds what the exporter itself does not know."""

    status_file: Path = Path("status.yml")
    prometheus: str = "http://127.0.0.1:9090"
    alertmanager: str = "http://127.0.0.1:9093"


@dataclass(frozen=True, slots=True)
class Shown:
    """One visit: what is shown, and how. `page` is None for the page of everything."""

    page: OwnerPage | None
    status: Status
    zone: ZoneInfo
    wanted: Wanted
    found: View
    past: Past | None
    fault: str
    now: float

    @property
    def base(self) -> str:
        """Where the page's own addresses begin."""
        return self.page.path if self.page else ""


class Pages:
    """The endpoints, over the live configuration and the last results of its sites, by name."""

    def __init__(
        self,
        live: Configured,
        last: Mapping[str, Seen],
        sources: Sources,
    ) -> None:
        self.live = live
        self.last = last
        self.file = StatusFile(sources.status_file)
        self.prometheus_url = sources.prometheus
        self.silences = Silences(sources.alertmanager)
        self.memories: dict[str, Memory] = {}
        self.session: aiohttp.ClientSession | None = None
        # Rendering takes a core for some tens of milliseconds: the scrapes go before it.
        self.one_at_a_time = asyncio.Semaphore(1)
        self.one_report = asyncio.Semaphore(1)

    def routes(self) -> list[web.RouteDef]:
        owner = r"/status/{owner}/{token:[A-Za-z0-9_-]+}"
        return [
            web.get("/status.css", self.asset),
            web.get("/status.js", self.asset),
            web.get("/status.svg", self.asset),
            web.get(f"{owner}/logo", self.logo),
            web.get(f"{owner}/brand.css", self.brand),
            web.get(owner + r"/report/{month:\d{4}-\d\d}", self.report),
            web.get("/badge/{site:.+}.svg", self.badge),
            web.get("/status/{owner}/badge/{key:[0-9a-f]+}/{site:.+}.svg", self.badge),
            *(
                web.get(prefix + path, handler)
                for prefix, front in (("", "/"), (owner, ""))
                for path, handler in (
                    (front, self.page),
                    ("/status.json", self.json),
                    ("/status.rss", self.rss),
                )
            ),
        ]

    async def running(self, app: web.Application) -> AsyncIterator[None]:
        """Ask others while the application runs."""
        async with aiohttp.ClientSession(trust_env=False) as session:
            self.session = session
            followers = [
                asyncio.create_task(follow)
                for follow in (self.silences.follow(session), self._remember())
            ]
            yield
            for follower in followers:
                follower.cancel()
            for memory in self.memories.values():
                await memory.close()
            self.session = None

    async def _remember(self) -> None:
        """Know the past of every page before somebody asks, until cancelled."""
        while True:
            config = self.live.config
            pages = self.file.look(config).pages
            for zone in {_zone(config, page) for page in (None, *pages)}:
                self._memory(zone).refresh()
            known = all(memory.past for memory in self.memories.values())
            await asyncio.sleep(UNASKED if known else AGAIN)

    def maintenance(self, now: float) -> list[Maintenance]:
        """What is under way or planned for the time to come."""
        status = self.file.look(self.live.config)
        works = [*self.silences.works, *planned(status.maintenance, now)]
        return [work for work in works if work.end > now and work.start < now + AHEAD]

    async def page(self, request: web.Request) -> web.Response:
        """The page as HTML."""
        shown = await self._visit(request)
        said = _words(request)
        title = shown.page.title if shown.page else ""
        async with self.one_at_a_time:
            text = await asyncio.to_thread(
                _html, shown, said, request.query.get("lang", ""), title, self._notices(shown, said)
            )
        response = web.Response(
            text=text,
            content_type="text/html",
            headers={"Vary": "Accept-Language, Accept-Encoding", "Cache-Control": "no-cache"},
        )
        response.enable_compression()
        return response

    async def json(self, request: web.Request) -> web.Response:
        """The page as JSON."""
        shown = await self._visit(request)
        data = feeds.as_json(shown.found, _notes(shown), shown.now, shown.past is not None)
        return web.json_response(data)

    async def rss(self, request: web.Request) -> web.Response:
        """Maintenance, notes and incidents as RSS 2.0."""
        shown = await self._visit(request)
        said = _words(request)
        text = _FEED.render(
            words=said,
            heading=(shown.page.title if shown.page else "") or said("title"),
            link=(shown.status.url or str(request.url.origin())) + (shown.base or "/"),
            entries=feeds.rss_entries(
                shown.found, _notes(shown), said, shown.now, shown.zone, SHOWN_INCIDENTS
            ),
        )
        return web.Response(
            text=text, content_type="application/rss+xml", headers={"Vary": "Accept-Language"}
        )

    async def badge(self, request: web.Request) -> web.Response:
        """The state of one site as a picture for other pages. 404 where it is not to be seen."""
        name = request.match_info["site"]
        shown = await self._shown(self._badge_page(request, name), Wanted(site=name))
        if not shown.found.rows:
            raise web.HTTPNotFound(text="No such site.\n")
        state = shown.found.rows[0].state
        text = _BADGE.render(feeds.badge(name, state, _words(request)("badge_" + state)))
        return web.Response(
            text=text,
            content_type="image/svg+xml",
            headers={"Vary": "Accept-Language", "Cache-Control": "max-age=30"},
        )

    async def asset(self, request: web.Request) -> web.FileResponse:
        """Style sheet, script and icon."""
        return web.FileResponse(
            _HERE / request.path.removeprefix("/"), headers={"Cache-Control": "no-cache"}
        )

    async def logo(self, request: web.Request) -> web.FileResponse:
        """An owner's logo."""
        page = self._owner_page(request)
        if page is None or page.logo is None or not page.logo.is_file():
            raise web.HTTPNotFound(text="No logo.\n")
        kind = LOGOS[page.logo.suffix.lower()]
        return web.FileResponse(page.logo, headers={"Content-Type": kind})

    async def brand(self, request: web.Request) -> web.Response:
        """An owner's colour, as the style sheet that the content security policy asks for."""
        page = self._owner_page(request)
        colour = page.colour if page else ""
        return web.Response(
            text=f":root {{ --brand: {colour}; }}\n" if colour else "", content_type="text/css"
        )

    async def report(self, request: web.Request) -> web.Response:
        """An owner's month. 404 for one that is none, 503 without Prometheus."""
        page = self._owner_page(request)
        config, now = self.live.config, time.time()
        assert page and self.session, "the route is of an owner's page, asked for while it runs"
        owner = next(owner for owner in config.owners if owner.name == page.owner)
        prometheus = Prometheus(self.session, self.prometheus_url)
        try:
            first = parse_month(request.match_info["month"])
            # Large queries: one visitor's at a time.
            async with self.one_report:
                month = await month_of(config, owner, first, prometheus, now)
        except NoAnswer:
            text = words(owner.language)("no_history") + "\n"
            raise web.HTTPServiceUnavailable(text=text) from None
        except UserError:
            raise web.HTTPNotFound(text="There is no such month.\n") from None
        policy = f"default-src 'none'; style-src '{STYLE_HASH}'; frame-ancestors 'none'"
        return web.Response(
            text=await asyncio.to_thread(as_html, month),
            content_type="text/html",
            headers={"Content-Security-Policy": policy},
        )

    def _owner_page(self, request: web.Request) -> OwnerPage | None:
        """The page that the request's token opens, None for the page of everything. Raises 404."""
        owner, token = request.match_info.get("owner"), request.match_info.get("token", "")
        if owner is None:
            return None
        for page in self.file.look(self.live.config).pages:
            if hmac.compare_digest(page.token, token) and page.owner == owner:
                return page
        raise web.HTTPNotFound(text="There is no such page.\n")

    def _badge_page(self, request: web.Request, site: str) -> OwnerPage | None:
        """The page that the badge of `site` belongs to, None for that of everything. Raises 404."""
        owner, key = request.match_info.get("owner"), request.match_info.get("key", "")
        if owner is None:
            return None
        for page in self.file.look(self.live.config).pages:
            if hmac.compare_digest(page.badge_key(site), key) and page.owner == owner:
                return page
        raise web.HTTPNotFound(text="No such site.\n")

    async def _visit(self, request: web.Request) -> Shown:
        query = request.query
        wanted = Wanted(
            query.get("owner", ""),
            query.get("host", ""),
            query.get("site", ""),
            bool(query.get("trouble")),
        )
        return await self._shown(self._owner_page(request), wanted)

    async def _shown(self, page: OwnerPage | None, wanted: Wanted) -> Shown:
        config, now = self.live.config, time.time()
        sites: tuple[Site, ...] = config.sites
        if page:
            sites = tuple(site for site in sites if site.owner == page.owner)
        zone = _zone(config, page)
        past, fault = await self._past(zone)
        found = await asyncio.to_thread(
            view, sites, self.last, past, self.maintenance(now), now, zone, wanted, page is None
        )
        return Shown(page, self.file.status, zone, wanted, found, past, fault, now)

    async def _past(self, zone: ZoneInfo) -> tuple[Past | None, str]:
        memory = self._memory(zone)
        return await memory.look(), memory.fault

    def _memory(self, zone: ZoneInfo) -> Memory:
        assert self.session, "asked for only while the application runs"
        memory = self.memories.get(zone.key)
        if memory is None:
            memory = Memory(Prometheus(self.session, self.prometheus_url), zone)
            self.memories[zone.key] = memory
        return memory

    def _notices(self, shown: Shown, said: Words) -> list[str]:
        """What a visitor must know to read the page rightly."""
        notices = []
        if shown.past is None:
            # The cause names machines of the house, which are nothing to visitors.
            why = said("no_history_why", why=shown.fault) if shown.fault and not shown.page else ""
            what = said("no_history" if shown.fault else "history_is_read")
            notices.append(f"{what} {why}".strip())
        else:
            if shown.now - shown.past.at > OLD:
                notices.append(said("old_history", at=said.clock(shown.past.at, shown.zone)))
            if shown.past.uplink_down:
                notices.append(said("uplink"))
        if not shown.page and not (self.live.successful and self.file.successful):
            notices.append(said("refused"))
        return notices


def _html(shown: Shown, said: Words, language: str, title: str, notices: list[str]) -> str:
    found, wanted, page = shown.found, shown.wanted, shown.page
    chosen = {"lang": language} if language in LANGUAGES else {}
    worst = next((state for state in STATES if found.counts[state]), "unknown")

    def href(**query: str) -> str:
        """The page with another query; a language that was chosen stays."""
        query = {name: value for name, value in (chosen | query).items() if value}
        # Without the path, which an owner's page would repeat for each of hundreds of sites.
        return f"?{urlencode(query)}" if query else shown.base or "/"

    return _PAGE.render(
        words=said,
        language=chosen.get("lang", ""),
        heading=title or said("title"),
        headline=headline(found, wanted, said),
        worst=worst,
        notices=notices,
        notes=_notes(shown),
        view=found,
        wanted=wanted,
        # What is chosen can be unchosen.
        filters=max(len(found.owners), len(found.hosts), len(found.rows) / 5) > 1
        or wanted != Wanted(),
        page=page,
        base=shown.base,
        href=href,
        badge=page.badge(wanted.site) if page else f"/badge/{quote(wanted.site, safe='')}.svg",
        evidence=lambda site: f"/site/{quote(site, safe='')}",
        told=lambda day: told(day, said, shown.now, shown.zone),
        past=shown.past,
        now=shown.now,
        zone=shown.zone,
        shown=SHOWN_INCIDENTS,
        date=lambda at: datetime.fromtimestamp(at, shown.zone).date(),
        iso=lambda at: datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def _notes(shown: Shown) -> list[Note]:
    """The newest notes that are for these visitors."""
    notes = [
        note
        for note in shown.status.notes
        if note.at <= shown.now
        and (not shown.page or not note.owners or shown.page.owner in note.owners)
    ]
    return sorted(notes, key=lambda note: -note.at)[:MOST_NOTES]


def _zone(config: Config, page: OwnerPage | None) -> ZoneInfo:
    """The clock of the page's owner; for all of them, that of the first."""
    zones: Any = [o.timezone for o in config.owners if page is None or o.name == page.owner]
    return ZoneInfo(next(iter(zones), "UTC"))


def _words(request: web.Request) -> Words:
    asked = request.query.get("lang", "")
    if asked in LANGUAGES:
        return words(asked)
    return words(preferred(request.headers.get("Accept-Language", "")))
