"""The exporter's part of a drill: one marked series for one site, which ends by itself."""

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from aiohttp import web

from dolcevita.config import Config, Site, did_you_mean
from dolcevita.config.sites import HERE
from dolcevita.exporter import exposition

MOST_SECONDS = 600.0
"""A drill that nobody ends is over then at the latest, whatever was asked for."""

Audience = Literal["provider", "owner"]


@dataclass(frozen=True, slots=True)
class Drill:
    """One under way. `since` (unix seconds) is its name. It is over at `deadline`, which may be
    moved up to `last` (both monotonic seconds)."""

    site: str
    audience: Audience
    since: int
    deadline: float
    last: float


class Drills:
    """At most one drill at a time, and the last one of each site that passed.

    What passed is told until a restart; Prometheus remembers it (prometheus/rules/drill.yml).
    """

    def __init__(self, config: Callable[[], Config]) -> None:
        self.config = config
        self._drill: Drill | None = None
        self._last = 0
        self._passed: dict[str, tuple[int, float | None]] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post("/-/drill", self.begin),
            web.put("/-/drill/{since:[0-9]+}", self.keep),
            web.delete("/-/drill/{since:[0-9]+}", self.end),
            web.post("/-/drill/{since:[0-9]+}/passed", self.passed),
        ]

    async def begin(self, request: web.Request) -> web.Response:
        """Begin the drill of {"site", "audience", "seconds"}: {"since"}."""
        wanted = await _json(request)
        site = self._site(wanted.get("site"))
        seconds = _length(wanted.get("seconds"))
        if wanted.get("audience") not in get_args(Audience) or not seconds:
            text = 'Expected "audience": "provider" or "owner", and "seconds" above 0.\n'
            raise web.HTTPBadRequest(text=text)
        current = self._current()
        if current:
            left = current.deadline - time.monotonic()
            text = f"A drill for {current.site} is under way, for {left:.0f} s at most.\n"
            raise web.HTTPConflict(text=text)
        # The name of a drill tells it from the one before, within one second too.
        self._last = since = max(int(time.time()), self._last + 1)
        now = time.monotonic()
        last = now + MOST_SECONDS
        self._drill = Drill(site.name, wanted["audience"], since, min(now + seconds, last), last)
        return web.json_response({"since": since})

    async def keep(self, request: web.Request) -> web.Response:
        """Let it go on for {"seconds"} from now; whoever began it asks for that while they live."""
        seconds = _length((await _json(request)).get("seconds"))
        if not seconds:
            raise web.HTTPBadRequest(text='Expected "seconds" above 0.\n')
        drill = self._named(request)
        deadline = min(time.monotonic() + seconds, drill.last)
        self._drill = replace(drill, deadline=deadline)
        return web.Response(text="Kept.\n")

    async def end(self, request: web.Request) -> web.Response:
        """End it; 404 for one that is not under way, as after a restart."""
        self._named(request)
        self._drill = None
        return web.Response(text="Ended.\n")

    async def passed(self, request: web.Request) -> web.Response:
        """Note that a site's drill passed, and within how many seconds the next one is to, if
        {"every"} says: 0 for never."""
        wanted = await _json(request)
        site = self._site(wanted.get("site"))
        every = _length(wanted.get("every"))
        since = int(request.match_info["since"])
        self._passed[site.name] = (since, since + every if every else every)
        return web.Response(text="Noted.\n")

    def of(self, sites: Iterable[Site]) -> str:
        """The marked series as text, if one of these sites has a drill."""
        drill = self._current()
        if drill is None:
            return ""
        marked = [site for site in sites if site.name == drill.site]
        return exposition.drill_metrics(marked, drill.audience, drill.since)

    def metrics(self) -> str:
        """When drills last passed, when the next are due, and a mark that no batch here has."""
        config = self.config()
        known = {site.name for site in config.sites}
        passed = {name: times for name, times in self._passed.items() if name in known}
        # Other places' exporters probe what is not seen from here, and know nothing of the drill.
        here = [place for place, address in config.places.items() if address == HERE]
        unseen = [
            site
            for site in config.sites
            if config.places and not any(site.watched_from(place) for place in here)
        ]
        return exposition.drills_passed(passed) + self.of(unseen)

    def _current(self) -> Drill | None:
        if self._drill and self._drill.deadline <= time.monotonic():
            self._drill = None
        return self._drill

    def _named(self, request: web.Request) -> Drill:
        current = self._current()
        if current is None or str(current.since) != request.match_info["since"]:
            raise web.HTTPNotFound(text="No such drill is under way.\n")
        return current

    def _site(self, name: object) -> Site:
        by_name = {site.name: site for site in self.config().sites if not site.sentinel}
        site = by_name.get(str(name))
        if site is None:
            text = f"No site is named '{name}': {did_you_mean(str(name), by_name)}\n"
            raise web.HTTPNotFound(text=text)
        return site


def _length(seconds: object) -> float | None:
    """Seconds from 0 on, None for anything else."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
        return None
    return float(seconds)


async def _json(request: web.Request) -> dict[str, Any]:
    """The request's body. A drill pages somebody, so a form on a web page must not begin one: what
    is sent as JSON is asked for first by browsers ("Cross-Origin Resource Sharing", Fetch)."""
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Expected Content-Type: application/json.\n")
    try:
        body = await request.json()
    except (json.JSONDecodeError, UnicodeDecodeError):
        body = None
    if not isinstance(body, dict):
        raise web.HTTPBadRequest(text="Expected a JSON object.\n")
    return body
