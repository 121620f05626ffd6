"""The courier's HTTP side, and the process around it."""

import asyncio
import logging
import signal
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import Any

import aiohttp
import uvloop
from aiohttp import web
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from dolcevita.alerting import compile as compiler
from dolcevita.config import UserError
from dolcevita.config.status_file import StatusFile
from dolcevita.courier import guard, maintenance, recoveries, reports
from dolcevita.courier.alertmanager import Alertmanager
from dolcevita.courier.configuration import Configuration, Files, build
from dolcevita.courier.notify import Deliveries, UnknownChannel
from dolcevita.history import NoAnswer, Prometheus

SHUTDOWN_SECONDS = 5.0
EVERYWHERE = ("", "0.0.0.0", "::")

LEADS = "own:leads == 1 and timestamp(own:leads) > time() - 5"
"""What prometheus/pair/rules.yml says of the one of a pair that tells; not what it said before it
was started anew."""

log = logging.getLogger(__name__)


def prepare(files: Files, courier_url: str) -> None:
    """Write the compiled file, so that Alertmanager can start. Raises ConfigError."""
    built = build(files, StatusFile(files.status), courier_url, datetime.now(UTC))
    compiler.write_with_links(files.output, built.text, built.pages)


def run(
    files: Files,
    alertmanager_url: str,
    prometheus_url: str,
    host: str,
    port: int,
    courier_url: str = "",
) -> None:
    """Serve until SIGTERM or SIGINT.

    `courier_url` is where Alertmanager reaches the courier; without it, the address served on.
    Raises ConfigError for files that cannot be used while there is no compiled file of before,
    and UserError for an address that cannot be listened on.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    url = courier_url or f"http://{'127.0.0.1' if host in EVERYWHERE else host}:{port}"
    if not files.output.exists():
        prepare(files, url)
    uvloop.run(_serve(files, alertmanager_url, prometheus_url, host, port, url))


async def _serve(
    files: Files,
    alertmanager_url: str,
    prometheus_url: str,
    host: str,
    port: int,
    courier_url: str,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    # Neither server is behind a proxy of the environment.
    async with aiohttp.ClientSession(trust_env=False) as session:
        alertmanager = Alertmanager(session, alertmanager_url)
        configuration = Configuration(
            files, courier_url, alertmanager, session, prometheus_url, registry
        )
        deliveries = Deliveries(files.messages, registry)
        # A notification may come before the first look at the files.
        await configuration.refresh()
        runner = web.AppRunner(
            _app(configuration, deliveries, registry, Prometheus(session, prometheus_url, 2.0)),
            access_log=None,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        await runner.setup()
        try:
            await _listen(runner, host, port)
            await _until_stopped(
                stop,
                configuration.follow(),
                guard.watch_prometheus(alertmanager),
                guard.watch_alertmanager(alertmanager),
                guard.watch_clock(alertmanager),
                guard.watch_cluster(alertmanager),
                recoveries.keep(alertmanager, Prometheus(session, prometheus_url)),
                maintenance.keep(
                    alertmanager, StatusFile(files.status), lambda: configuration.config
                ),
                reports.keep(
                    Prometheus(session, prometheus_url, reports.SECONDS),
                    files.reports,
                    lambda: (configuration.config, configuration.pages),
                ),
            )
        finally:
            await runner.cleanup()
            deliveries.close()


async def _listen(runner: web.AppRunner, host: str, port: int) -> None:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise UserError(
            f"Cannot listen on {host} port {port} ({error.strerror}): "
            "stop what uses it, or choose another with COURIER_PORT or --listen."
        ) from None
    log.info("listening on http://%s:%d/", host, port)


async def _until_stopped(stop: asyncio.Event, *loops: Coroutine[Any, Any, None]) -> None:
    """Run the endless loops. One that fails ends the process, which is then started again."""
    tasks = [asyncio.ensure_future(loop) for loop in loops]
    stopped = asyncio.ensure_future(stop.wait())
    done, pending = await asyncio.wait([*tasks, stopped], return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()


def _app(
    configuration: Configuration,
    deliveries: Deliveries,
    registry: CollectorRegistry,
    prometheus: Prometheus,
) -> web.Application:
    async def healthy(request: web.Request) -> web.Response:
        return web.Response(text="OK\n")

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        )

    async def reload(request: web.Request) -> web.Response:
        problems = await configuration.refresh()
        text = "".join(f"{problem}\n" for problem in problems)
        return web.Response(status=400 if problems else 200, text=text)

    async def notify(request: web.Request) -> web.Response:
        if configuration.config is None:
            return web.Response(status=503, text="people.yml cannot be used at the moment\n")
        try:
            payload = await request.json()
            alerts = [dict(alert) for alert in payload["alerts"]]
        except (ValueError, TypeError, KeyError):
            return web.Response(status=400, text="expected Alertmanager's webhook as JSON\n")
        try:
            await deliveries.deliver(
                configuration.config,
                request.match_info["name"],
                alerts,
                payload.get("groupKey"),
                configuration.pages,
            )
        except UnknownChannel as error:
            return web.Response(status=404, text=f"{error}\n")
        except UserError as error:
            return web.Response(status=502, text=f"{error}\n")
        return web.Response(text="delivered\n")

    async def alertmanagers(request: web.Request) -> web.Response:
        """HTTP service discovery for one of a pair of Prometheus: the Alertmanagers that it named
        itself while it leads, else none. Where it is not known, it keeps to what it heard last."""
        try:
            leads = await prometheus.instant(LEADS)
        except NoAnswer as error:
            return web.Response(status=503, text=f"{error}\n")
        return web.json_response([{"targets": request.query.getall("at", [])}] if leads else [])

    app = web.Application()
    app.router.add_get("/-/healthy", healthy)
    app.router.add_get("/alertmanagers", alertmanagers)
    app.router.add_post("/-/reload", reload)
    app.router.add_get("/metrics", metrics)
    app.router.add_post("/notify/{name}", notify)
    return app
