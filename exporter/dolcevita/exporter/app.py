"""The exporter's HTTP server."""

import asyncio
import gc
import logging
import resource
import signal
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import uvloop
from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Gauge,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from dolcevita import probes
from dolcevita.config import ConfigError, Site, UserError, did_you_mean
from dolcevita.exporter import batches, disk, exposition
from dolcevita.exporter.blackbox.allowed import Allowed
from dolcevita.exporter.blackbox.endpoint import Blackbox
from dolcevita.exporter.blackbox.live import Modules
from dolcevita.exporter.drill import Drills
from dolcevita.exporter.evidence import EvidencePages
from dolcevita.exporter.live import Live
from dolcevita.exporter.roster import Roster
from dolcevita.exporter.scrape import Prober, budget
from dolcevita.pages.app import Pages, Sources
from dolcevita.probes import heartbeat

log = logging.getLogger(__name__)

SHUTDOWN = 2.0
"""Seconds that scrapes under way get to end when the exporter is stopped."""

GARBAGE = 20_000
"""Objects that are made and not freed before any are searched for circles."""

TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def run(
    sites: Path,
    people: Path,
    host: str,
    port: int,
    blackbox_config: Path | None = None,
    allowed: Allowed = Allowed(),  # noqa: B008
    sources: Sources = Sources(),  # noqa: B008
    external_url: str = "",
) -> None:
    """Serve until SIGTERM or SIGINT.

    With blackbox_exporter's file, sites.yml may be missing. `allowed` are the targets that a
    caller may name. `external_url` is where others reach the exporter, if not where it listens.

    Raises ConfigError for files that cannot be used and UserError for an address that cannot be
    listened on.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # Every probe is a connection; the usual 1024 are not enough for some hundred dead sites.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    live = Live(sites, people, may_be_missing=blackbox_config is not None)
    if blackbox_config and not allowed:
        log.warning("No --allow-target: /probe?target= answers nothing but 403.")
    exporter = Exporter(
        live, Modules(blackbox_config), allowed, sources, external_url or _own_url(host, port)
    )
    keep_garbage_rare()
    uvloop.run(_serve(exporter, host, port))


def keep_garbage_rare() -> None:
    """Search for garbage less often, and never in what is there by now.

    What a probe makes goes when its last reference does: there is little to be found.
    """
    gc.freeze()
    gc.set_threshold(GARBAGE, 20, 10)


async def _serve(exporter: "Exporter", host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, exporter.on_hangup)
    runner = web.AppRunner(exporter.app(), access_log=None, shutdown_timeout=SHUTDOWN)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise UserError(
                f"Cannot listen on {host} port {port} ({error.strerror}): "
                "stop what uses it, or choose another with EXPORTER_PORT or --listen."
            ) from None
        log.info(
            "Watching %d sites; status page on http://%s:%d/",
            len(exporter.live.config.sites),
            host,
            port,
        )
        await stop.wait()
    finally:
        await runner.cleanup()


class Exporter:
    """The endpoints, over one live configuration."""

    def __init__(
        self,
        live: Live,
        modules: Modules | None = None,
        allowed: Allowed = Allowed(),  # noqa: B008
        sources: Sources = Sources(),  # noqa: B008
        external_url: str = "http://127.0.0.1:9714",
    ) -> None:
        self.live = live
        self.registry = CollectorRegistry()
        self.prober = Prober(self.registry)
        self.external_url = external_url.rstrip("/")
        self._roster = self._of_configuration()
        self.evidence = EvidencePages(lambda: live.config, self.prober)
        self.drills = Drills(lambda: live.config)
        self.pages = Pages(live, self.prober.last, sources)
        modules = modules or Modules(None)
        self.blackbox = Blackbox(modules, allowed, self.prober, self.registry)
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        disk.register(self.registry)
        build = Gauge(
            "dolcevita_build_info", "The version that runs", ["version"], registry=self.registry
        )
        build.labels(version("dolcevita")).set(1)
        Gauge(
            "dolcevita_config_last_reload_successful",
            "1 if the files were usable when they were last read",
            registry=self.registry,
        ).set_function(lambda: live.successful and self.pages.file.successful)
        Gauge(
            "dolcevita_config_last_reload_success_timestamp_seconds",
            "Unix time when usable files were last read",
            registry=self.registry,
        ).set_function(lambda: live.loaded_at)

    def roster(self) -> Roster:
        """The sites of the configuration in force."""
        if self._roster.sites is not self.live.config.sites:
            self._roster = self._of_configuration()
        return self._roster

    def _of_configuration(self) -> Roster:
        config = self.live.config
        return Roster(config.sites, self.external_url, config.places)

    def app(self) -> web.Application:
        """The aiohttp application; it follows the files while it runs."""
        app = web.Application()
        app.on_response_prepare.append(_secure)
        app.add_routes(
            [
                *self.pages.routes(),
                *self.evidence.routes(),
                *self.drills.routes(),
                web.get("/sd", self.discovery),
                web.get("/probe", self.probe),
                web.get("/ping/{token}", self.ping),
                web.post("/ping/{token}", self.ping),
                web.get("/metrics", self.metrics),
                web.get("/-/healthy", self.healthy),
                web.post("/-/reload", self.reload),
                *self.blackbox.routes(),
            ]
        )
        app.cleanup_ctx.append(self._running)
        app.cleanup_ctx.append(self.pages.running)
        return app

    async def _running(self, app: web.Application) -> AsyncIterator[None]:
        followers = [
            asyncio.create_task(live.follow()) for live in (self.live, self.blackbox.modules)
        ]
        yield
        for follower in followers:
            follower.cancel()
        await probes.close()

    async def discovery(self, request: web.Request) -> web.Response:
        """HTTP service discovery ("Writing HTTP service discovery", Prometheus documentation)."""
        text = self.roster().discovery(request.host, _part(request))
        return web.json_response(text=text)

    async def probe(self, request: web.Request) -> web.Response:
        """Probe what the query names: a batch, a site, or a target with a module."""
        query = request.query
        if "batch" in query:
            return await self._probe_batch(request, query["batch"])
        if "site" in query:
            return await self._probe_site(request, query["site"])
        if "target" in query or "module" in query:
            return await self.blackbox.probe(request)
        return web.Response(status=400, text="Nothing to probe: add ?batch=, ?site= or ?target=.\n")

    async def _probe_batch(self, request: web.Request, name: str) -> web.Response:
        batch = batches.parse(name)
        if batch is None:
            text = f"'{name}' is no batch: their names are in /sd, such as 15s.10s.0.1.\n"
            return web.Response(status=404, text=text)
        roster = self.roster()
        seconds = _budget(request, batch.timeout + batches.SPARE)
        place = request.query.get("place", "")
        sites = [s for s in roster.members(batch) if not place or s.watched_from(place)]
        return await self._probed(roster, sites, seconds)

    async def _probe_site(self, request: web.Request, name: str) -> web.Response:
        roster = self.roster()
        site = roster.by_name.get(name)
        if site is None:
            text = f"No site is named '{name}': {did_you_mean(name, roster.by_name)}\n"
            return web.Response(status=404, text=text)
        seconds = _budget(request, site.timeout + batches.SPARE)
        return await self._probed(roster, [site], seconds)

    async def _probed(self, roster: Roster, sites: Sequence[Site], seconds: float) -> web.Response:
        results = await self.prober.sites(sites, seconds)
        return _metrics(
            exposition.probe_metrics((roster.labels(site), r) for site, r in results),
            self.drills.of(sites),
        )

    async def ping(self, request: web.Request) -> web.Response:
        """A job reports: its heartbeat is noted. 404 where no site has the token."""
        options = (site.options for site in self.live.config.sites)
        heartbeats = [o for o in options if isinstance(o, heartbeat.Options)]
        if not heartbeat.ping(heartbeats, request.match_info["token"]):
            text = "No heartbeat of sites.yml has this token.\n"
            return web.Response(status=404, text=text)
        return web.Response(text="Noted.\n")

    async def metrics(self, request: web.Request) -> web.Response:
        """The exporter's own metrics and those of the configuration."""
        now = datetime.now(UTC)
        works = self.pages.maintenance(now.timestamp())
        roster, part = self.roster(), _part(request)
        return _metrics(
            generate_latest(self.registry).decode(),
            roster.metrics(part),
            exposition.maintenance_metrics(roster.of(part), now, works),
            exposition.people_metrics(self.live.config, now),
            self.drills.metrics(),
        )

    async def healthy(self, request: web.Request) -> web.Response:
        """200 while the event loop runs."""
        return web.Response(text="Healthy.\n")

    async def reload(self, request: web.Request) -> web.Response:
        """Read the files now; 400 with every problem if they cannot be used."""
        refused = await self._reload()
        if refused:
            return web.Response(status=400, text="".join(f"{error}\n" for error in refused))
        return web.Response(text="Reloaded.\n")

    async def _reload(self) -> list[ConfigError]:
        refused = []
        for reload in (self.live.reload, self.blackbox.modules.reload):
            try:
                await reload()
            except ConfigError as error:
                refused.append(error)
        return refused

    def on_hangup(self) -> None:
        """Read the files now, as SIGHUP asks of every part of the ecosystem."""
        self.hangup = asyncio.get_running_loop().create_task(self._reload())


def _own_url(host: str, port: int) -> str:
    """Where this machine reaches what listens there."""
    if host in ("0.0.0.0", "::"):
        host = "127.0.0.1"
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _part(request: web.Request) -> batches.Part:
    """The part of the sites that ?shard=NUMBER&of=COUNT asks for, all of them without."""
    if "shard" not in request.query and "of" not in request.query:
        return batches.ALL
    try:
        part = batches.Part(int(request.query["shard"]), int(request.query["of"]))
    except (KeyError, ValueError):
        part = batches.Part(0, 0)
    if not 0 <= part.number < part.of:
        text = f"'{request.query_string}' is no part: expected shard=0&of=3 to shard=2&of=3.\n"
        raise web.HTTPBadRequest(text=text)
    return part


def _budget(request: web.Request, otherwise: float) -> float:
    """Seconds for the probes of a scrape; `otherwise` is the timeout if Prometheus names none."""
    header = request.headers.get(TIMEOUT_HEADER, "")
    try:
        return budget(float(header)) if header else budget(otherwise)
    except ValueError:
        text = f"{TIMEOUT_HEADER} is '{header}', expected seconds.\n"
        raise web.HTTPBadRequest(text=text) from None


def _metrics(*texts: str) -> web.Response:
    headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
    return web.Response(body="".join(texts).encode(), headers=headers)


async def _secure(request: web.Request, response: web.StreamResponse) -> None:
    """On every answer, refusals included."""
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
