"""`/probe?target=`, as blackbox_exporter answers it, and the page of what came of it."""

import time
from pathlib import Path
from urllib.parse import unquote_plus, urlsplit

import jinja2
import yaml
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from dolcevita.config import did_you_mean
from dolcevita.exporter import exposition
from dolcevita.exporter.blackbox import metrics
from dolcevita.exporter.blackbox.allowed import Allowed, Guard
from dolcevita.exporter.blackbox.history import History
from dolcevita.exporter.blackbox.live import Modules
from dolcevita.exporter.blackbox.modules import Loaded
from dolcevita.exporter.scrape import Prober
from dolcevita.probes import Result
from dolcevita.probes.resolve import GUARD

DEFAULT_MODULE = "http_2xx"

OFFSET = 0.5
"""Seconds of the scrape timeout that are kept for the answer's way."""

LONGEST = 120.0
"""Seconds of a scrape that names no timeout."""

TIMEOUT_HEADER = "X-Prometheus-Scrape-Timeout-Seconds"

_HERE = Path(__file__).parent
_PAGE = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_HERE), autoescape=True, undefined=jinja2.StrictUndefined
).get_template("recent.html")


class Blackbox:
    """The endpoints, over the modules of one file."""

    def __init__(
        self, modules: Modules, allowed: Allowed, prober: Prober, registry: CollectorRegistry
    ) -> None:
        self.modules = modules
        self.allowed = allowed
        self.prober = prober
        self.history = History()
        self.unknown = Counter(
            "blackbox_module_unknown", "Probes that named no known module", registry=registry
        )
        if modules.file:
            Gauge(
                "blackbox_exporter_config_last_reload_successful",
                "1 if the file of modules was usable when it was last read",
                registry=registry,
            ).set_function(lambda: modules.successful)
            Gauge(
                "blackbox_exporter_config_last_reload_success_timestamp_seconds",
                "Unix time when a usable file of modules was last read",
                registry=registry,
            ).set_function(lambda: modules.loaded_at)

    def routes(self) -> list[web.RouteDef]:
        """Beside /probe, which others share."""
        return [web.get("/recent", self.recent), web.get(r"/recent/{number:\d{1,15}}", self.one)]

    async def probe(self, request: web.Request) -> web.Response:
        """Probe `target` with `module`; with `debug=true` as an account for a person."""
        query = request.query
        if not self.allowed:
            text = (
                "That a caller names the target is off: start with --allow-target and the "
                "networks or names that may be probed.\n"
            )
            return web.Response(status=403, text=text)
        name = query.get("module") or DEFAULT_MODULE
        loaded = self.modules.by_name.get(name)
        if loaded is None:
            self.unknown.inc()
            hint = did_you_mean(name, self.modules.by_name)
            return web.Response(status=400, text=f"Unknown module '{name}': {hint}\n")
        # Decoded once more, as some escape it twice.
        text = unquote_plus(query.get("target", ""))
        if not text:
            return web.Response(status=400, text="Target parameter is missing\n")
        try:
            target = loaded.target(text, query.get("hostname", ""))
        except ValueError as error:
            return web.Response(status=400, text=f"{error}\n")
        if loaded.module.prober == "unix" and not self.allowed.has_path(text):
            refusal = f"{text} is not allowed: start with --allow-target {text}."
            return web.Response(status=403, text=f"{refusal}\n")
        timeout = _timeout(request, loaded.seconds)
        guard = Guard(self.allowed)
        token = GUARD.set(guard)
        try:
            result = await self.prober.target(loaded.kind, target, timeout)
        finally:
            # The next request of this connection is another's.
            GUARD.reset(token)
        if guard.refusals and not result.facts.get("redirects"):
            return web.Response(status=403, text=f"{guard.refusals[0]}\n")
        published = _metrics(loaded, result)
        account = _account(loaded, result, published)
        shown = _shown(text)
        self.history.add(
            time.time(), name, shown, result.success, result.duration, result.detail, account
        )
        if query.get("debug") == "true":
            return web.Response(text=account)
        headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4}
        return web.Response(body=published.encode(), headers=headers)

    async def recent(self, request: web.Request) -> web.Response:
        """The latest results, newest first, and failures that are older."""
        page = _PAGE.render(entries=list(self.history), now=time.time())
        return web.Response(text=page, content_type="text/html")

    async def one(self, request: web.Request) -> web.Response:
        """The account of one result."""
        entry = self.history.find(int(request.match_info["number"]))
        if entry is None:
            return web.Response(status=404, text="That result is no longer kept: see /recent.\n")
        return web.Response(text=entry.text)


def _timeout(request: web.Request, own: float) -> float:
    """Seconds for the probe: the module's, within what the scrape has."""
    header = request.headers.get(TIMEOUT_HEADER, "")
    try:
        scrape = float(header) if header else 0.0
    except ValueError:
        text = f"{TIMEOUT_HEADER} is '{header}', expected seconds.\n"
        raise web.HTTPBadRequest(text=text) from None
    most = (scrape or LONGEST) - OFFSET
    return own if 0 < own < most or most < 0 else most


def _metrics(loaded: Loaded, result: Result) -> str:
    gauges = exposition.Gauges({**exposition.HELP, **metrics.HELP})
    for name, value, labels in metrics.samples(loaded, result):
        gauges.add(name, exposition.as_text(labels), value)
    return gauges.text()


def _account(loaded: Loaded, result: Result, published: str) -> str:
    """What happened, the metrics, and the module, for a person."""
    verdict = "succeeded" if result.success else f"failed ({result.reason})"
    lines = [f"Probe {verdict} after {result.duration:.3f} s: {result.detail}"]
    lines += [
        f"{phase.name}: from {phase.start:.4f} s for {phase.seconds:.4f} s"
        + ("" if phase.finished else ", not finished")
        for phase in result.phases
    ]
    lines += [f"{label}: {text}" for label, text in result.facts.items()]
    for certificate in result.certificates:
        lines.append(
            f"certificate: {certificate.subject}, for {', '.join(certificate.names) or 'no name'}, "
            f"by {certificate.issuer}"
        )
    module = yaml.safe_dump({loaded.name: loaded.shown}, sort_keys=False, allow_unicode=True)
    return "\n".join(
        [
            "Logs for the probe:",
            *lines,
            "\n\n\nMetrics that would have been returned:",
            published,
            "\n\nModule configuration:",
            module,
        ]
    )


def _shown(target: str) -> str:
    """The target without a user name and password."""
    if "@" not in target:
        return target
    scheme = urlsplit(target).scheme if "://" in target else ""
    return (f"{scheme}://" if scheme else "") + target.rpartition("@")[2]
