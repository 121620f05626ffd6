"""`/site/NAME`: what was seen when a site failed, for whoever must fix it."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
from aiohttp import web

from dolcevita.config import Config, Site, did_you_mean
from dolcevita.exporter.scrape import Prober, Seen

_HERE = Path(__file__).parent
_PAGES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def _moment(at: float) -> str:
    """A unix time as a person reads it, in UTC."""
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):
        return "beyond reckoning"


_PAGES.filters["moment"] = _moment
_PAGE = _PAGES.get_template("evidence.html")


def url(base: str, site: str) -> str:
    """Where the page of a site is, below the exporter's address.

    In letters that an SMS has: it has no ~.
    """
    return f"{base}/site/{quote(site, safe='').replace('~', '%7E')}"


class EvidencePages:
    """The endpoint, over the configuration in force and what the prober saw last."""

    def __init__(self, config: Callable[[], Config], prober: Prober) -> None:
        self.config = config
        self.prober = prober

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/site.css", self.style), web.get("/site/{name:.+}", self.page)]

    async def page(self, request: web.Request) -> web.Response:
        """As HTML, or as JSON for `?format=json` and for who accepts no HTML.

        `?format=png` is the picture of the last failure that has one, 404 without any.
        """
        name = request.match_info["name"]
        by_name = {site.name: site for site in self.config().sites}
        site = by_name.get(name)
        if site is None:
            text = f"No site is named '{name}': {did_you_mean(name, by_name)}\n"
            return web.Response(status=404, text=text)
        found = self._found(site)
        headers = {"Cache-Control": "no-store", "Vary": "Accept"}
        if request.query.get("format") == "png":
            picture = await asyncio.to_thread(_read, found["picture"] or "")
            if picture is None:
                return web.Response(status=404, text=f"There is no picture of {name}.\n")
            return web.Response(body=picture, content_type="image/png", headers=headers)
        if _wants_json(request):
            return web.json_response(found, headers=headers)
        text = _PAGE.render(**found)
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def style(self, request: web.Request) -> web.FileResponse:
        """What the page's style sheet has beside the status page's."""
        return web.FileResponse(_HERE / "site.css")

    def _found(self, site: Site) -> dict[str, Any]:
        failures = self.prober.failures.of(site.name)
        # Of each site the newest is kept.
        pictures = (failure["facts"].get("screenshot") for failure in failures)
        return {
            "site": site.name,
            "url": site.url,
            "kind": site.kind,
            "owner": site.owner,
            "provider": site.provider,
            "host": site.host,
            "labels": dict(site.labels),
            "now": _now(self.prober.last.get(site.name)),
            "picture": next(filter(None, pictures), None),
            "failures": failures,
        }


def _now(seen: Seen | None) -> dict[str, Any] | None:
    if seen is None:
        return None
    result = seen.result
    return {
        "at": seen.at,
        "success": result.success if result.known else None,
        "reason": result.reason,
        "detail": result.detail,
    }


def _read(file: str) -> bytes | None:
    try:
        return Path(file).read_bytes()
    except OSError:
        return None


def _wants_json(request: web.Request) -> bool:
    if "format" in request.query:
        return request.query["format"] == "json"
    accept = request.headers.get("Accept", "")
    return "application/json" in accept and "text/html" not in accept
