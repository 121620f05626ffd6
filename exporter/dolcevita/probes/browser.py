"""Pages in a real browser: a headless Chromium, driven by Playwright (the extra `browser`).

One browser for all probes of an event loop; each probe has a profile of its own in it.
"""

import asyncio
import hashlib
import logging
import math
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import urljoin, urlsplit

from pydantic import Field, model_validator

from dolcevita.config import Strict
from dolcevita.probes import chromium
from dolcevita.probes.chromium import Chromium, NotStarted
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.resolve import GUARD
from dolcevita.probes.result import Phase, Reason, Result, Sample

if TYPE_CHECKING:
    from playwright.async_api import ConsoleMessage, Error, Page, Request, Response

log = logging.getLogger(__name__)

RESERVE = 0.15
"""Share of the budget that is kept for a screenshot of what failed."""

OPENING = 0.3
"""Share of the budget in which a browser that runs must open an empty page."""

QUIET = 1.0
"""Seconds at most in which a loaded page may come to rest before its vitals are read."""

MOST_LISTED = 5
MOST_LETTERS = 200

WIDTH, HEIGHT = 1280, 800


class Step(Strict):
    """One thing to do on the page; exactly one of these."""

    open: str | None = Field(default=None, description="Go to this URL; it may be relative.")
    click: str | None = Field(default=None, description="Click on what this selector finds.")
    fill: dict[str, str] = Field(
        default={}, description="Type texts into the fields that the selectors find.", repr=False
    )
    fill_file: dict[str, Path] = Field(
        default={}, description="The same, with the texts in files: for secrets."
    )
    expect: str | None = Field(default=None, description="Wait until this text is to be seen.")

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if len(self.model_fields_set) != 1 or not any(
            (self.open, self.click, self.fill, self.fill_file, self.expect)
        ):
            names = ", ".join(type(self).model_fields)
            raise ValueError(f"found none or several in one step, expected one of {names}")
        return self

    def __str__(self) -> str:
        """As a person calls it, without what is filled in."""
        if self.open is not None:
            return f"open {self.open}"
        if self.click is not None:
            return f"click {self.click}"
        if self.expect is not None:
            return f"expect '{self.expect}'"
        return f"fill {', '.join([*self.fill, *self.fill_file])}"


class Options(Strict):
    """What is done once the page is there."""

    steps: Annotated[tuple[Step, ...], Field(max_length=20)] = Field(
        default=(), description="What is done once the page is there, one after the other."
    )
    insecure: bool = Field(default=False, description="Accept every certificate.")
    screenshots: Path | None = Field(
        default=None,
        description="The folder for a picture of what failed; else screenshots in DOLCEVITA_DATA.",
    )


class Expect(Expectations):
    """What the page may not do. null takes what comes."""

    console_errors: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="How many errors it may write to the console."
    )
    failed_requests: Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="How many of its requests may fail."
    )


HELP = {
    "probe_browser_console_errors": "Errors that the page's scripts threw or wrote to the console",
    "probe_browser_cumulative_layout_shift": "How much the page jumped while it loaded",
    "probe_browser_failed_requests": "Requests that got no answer, or 4xx or 5xx",
    "probe_browser_first_byte_seconds": "Time to the first byte of the page",
    "probe_browser_largest_contentful_paint_seconds": "Time until the largest thing was to be seen",
    "probe_browser_load_seconds": "Time until the page and its parts were loaded",
    "probe_browser_requests": "Requests that the page made",
    "probe_browser_step_seconds": "Time that each step took, by its number",
    "probe_http_status_code": "Status of the answer, 0 without one",
}

_VITALS = """
(() => {
  const seen = {lcp: null, cls: 0, session: 0, first: 0, last: 0};
  Object.defineProperty(window, "__dolcevita_vitals", {value: seen});
  const observe = (type, take) =>
    new PerformanceObserver(list => list.getEntries().forEach(take))
      .observe({type, buffered: true});
  observe("largest-contentful-paint", entry => { seen.lcp = entry.startTime; });
  observe("layout-shift", entry => {
    if (entry.hadRecentInput) return;
    if (entry.startTime - seen.last > 1000 || entry.startTime - seen.first > 5000) {
      seen.session = 0;
      seen.first = entry.startTime;
    }
    seen.session += entry.value;
    seen.last = entry.startTime;
    seen.cls = Math.max(seen.cls, seen.session);
  });
})();
"""
"""Gathers the vitals as the pages "Largest Contentful Paint" and "Cumulative Layout Shift" of
web.dev define them: shifts less than a second apart, five seconds in all, are one."""

_READ = """
() => {
  const seen = window.__dolcevita_vitals || {};
  const [navigation] = performance.getEntriesByType("navigation");
  return {
    lcp: seen.lcp, cls: seen.cls,
    ttfb: navigation ? navigation.responseStart : null,
    load: navigation ? navigation.loadEventEnd || navigation.loadEventStart : null,
  };
}
"""


class _Failed(Exception):
    """The page is not as it should be."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


async def probe(target: Target[Options, Expect], budget: float) -> Result:
    """Load the page, take the steps, read the vitals."""
    begin = perf_counter()
    if GUARD.get():
        detail = "A browser cannot be kept to the networks that are allowed: name it in sites.yml."
        return Result(success=False, reason=Reason.LOCAL, detail=detail)
    browser = chromium.here()
    try:
        async with asyncio.timeout(budget):
            await browser.turn.acquire()
    except TimeoutError:
        detail = "The browser was busy with other pages: give this site a longer timeout or every."
        return Result(success=True, known=False, detail=detail)
    try:
        visit = _Visit(target, browser, begin)
        return await visit.result(budget - (perf_counter() - begin))
    finally:
        browser.turn.release()


class _Visit:
    """One probe: what it does and what it sees on the way."""

    def __init__(self, target: Target[Options, Expect], browser: Chromium, begin: float) -> None:
        self.target = target
        self.browser = browser
        self.begin = begin
        self.url = target.url.removeprefix("browser+")
        self.host = urlsplit(self.url).hostname or ""
        self.doing = "open"
        self.phases: list[Phase] = []
        self.samples: list[Sample] = []
        self.status = 0
        self.answered = 0
        self.requests = 0
        self.failed: list[str] = []
        self.failures = 0
        self.errors: list[str] = []
        self.error_count = 0
        self.screenshot: Path | None = None

    async def result(self, budget: float) -> Result:
        """The result, within `budget` seconds."""
        failure: _Failed | None = None
        page: Page | None = None
        deadline = asyncio.get_running_loop().time() + budget
        try:
            async with asyncio.timeout_at(deadline - budget * RESERVE):
                page = await self._page(budget)
                await self._go(page)
        except _Failed as failed:
            failure = failed
        except NotStarted as error:
            failure = _Failed(Reason.LOCAL, str(error))
        except TimeoutError:
            failure = self._out_of_time(page)
        except Exception as error:
            failure = self._broken(error)
        finally:
            if page and failure:
                await self._keep(page, deadline)
            if page:
                self.browser.leave(page.context)
        return Result(
            success=failure is None,
            reason=failure.reason if failure else None,
            detail=failure.detail if failure else f"{self.url} works in a browser.",
            duration=perf_counter() - self.begin,
            samples=tuple(self._samples()),
            phases=tuple(self.phases),
            facts=self._facts(),
        )

    async def _page(self, budget: float) -> "Page":
        from playwright.async_api import Error

        running = self.browser.launching
        if self.browser.runs:
            try:
                async with asyncio.timeout(budget * OPENING):
                    return await self._open()
            except (TimeoutError, Error):
                # It has died or hangs, which is no fault of the page.
                self.browser.drop(running)
        return await self._open()

    async def _open(self) -> "Page":
        browser = await self.browser.browser()
        context = await browser.new_context(
            accept_downloads=False,
            ignore_https_errors=self.target.options.insecure,
            viewport={"width": WIDTH, "height": HEIGHT},
        )
        try:
            # The deadline above is the only one.
            context.set_default_timeout(0)
            await context.add_init_script(_VITALS)
            page = await context.new_page()
        except BaseException:
            self.browser.leave(context)
            raise
        page.on("request", self._on_request)
        page.on("requestfailed", self._on_request_failed)
        page.on("response", self._on_response)
        page.on("pageerror", self._on_error)
        page.on("console", self._on_console)
        return page

    def _on_request(self, request: "Request") -> None:
        self.requests += 1

    def _on_request_failed(self, request: "Request") -> None:
        # A page that is left aborts what it still loads.
        if request.failure != "net::ERR_ABORTED":
            self._request_failed(request.url, request.failure or "no answer")

    def _on_response(self, response: "Response") -> None:
        if response.request.is_navigation_request():
            self.answered = response.status
        if response.status >= 400:
            self._request_failed(response.url, str(response.status))

    def _on_error(self, error: "Error") -> None:
        self._erred(error.message)

    def _on_console(self, message: "ConsoleMessage") -> None:
        # That a part does not load is a failed request already.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self._erred(message.text)

    def _request_failed(self, url: str, why: str) -> None:
        self.failures += 1
        if len(self.failed) < MOST_LISTED:
            # Queries hold tokens.
            self.failed.append(f"{url.partition('?')[0][:MOST_LETTERS]} ({why})")

    def _erred(self, text: str) -> None:
        self.error_count += 1
        if len(self.errors) < MOST_LISTED:
            self.errors.append(_first_line(text))

    async def _go(self, page: "Page") -> None:
        from playwright.async_api import Error

        async with _Timed(self, "open"):
            response = await page.goto(self.url, wait_until="load")
        self.status = response.status if response else 0
        if not 200 <= self.status < 300:
            raise self._refused(page.url, self.status)
        with suppress(Error):
            await page.wait_for_load_state("networkidle", timeout=QUIET * 1000)
        self.samples += _vitals(await page.evaluate(_READ))
        for number, step in enumerate(self.target.options.steps, 1):
            async with _Timed(self, f"{number}: {step}"):
                start = perf_counter()
                await self._take(page, step)
            labels = {"step": str(number)}
            self.samples.append(
                Sample("probe_browser_step_seconds", perf_counter() - start, labels)
            )
        expect = self.target.expect
        if expect.console_errors is not None and self.error_count > expect.console_errors:
            detail = f"The page writes errors to the console: {'; '.join(self.errors)}."
            raise _Failed(Reason.CONTENT, detail)
        if expect.failed_requests is not None and self.failures > expect.failed_requests:
            detail = f"Requests of the page fail: {', '.join(self.failed)}."
            raise _Failed(Reason.CONTENT, detail)

    async def _take(self, page: "Page", step: Step) -> None:
        if step.open is not None:
            response = await page.goto(urljoin(page.url, step.open), wait_until="load")
            status = response.status if response else 200
            if not 200 <= status < 300:
                raise self._refused(page.url, status)
        elif step.click is not None:
            await page.locator(step.click).first.click()
        elif step.expect is not None:
            await page.get_by_text(step.expect).first.wait_for(state="visible")
        else:
            for selector, text in (step.fill | self._read(step.fill_file)).items():
                await page.locator(selector).first.fill(text)

    def _read(self, files: Mapping[str, Path]) -> dict[str, str]:
        try:
            return {selector: file.read_text().rstrip("\n") for selector, file in files.items()}
        except (OSError, UnicodeError):
            detail = f"Step {self.doing}: its file cannot be read."
            raise _Failed(Reason.LOCAL, detail) from None

    def _out_of_time(self, page: "Page | None") -> _Failed:
        if page is None:
            return _Failed(Reason.LOCAL, "The browser could not be started in time.")
        if self.doing == "open":
            return _Failed(Reason.TIMEOUT, f"{self.url} is not loaded in time.")
        return _Failed(Reason.CONTENT, f"Step {self.doing}: not there in time.")

    def _refused(self, url: str, status: int) -> _Failed:
        if self.doing != "open":
            detail = f"Step {self.doing}: answered with {status}, expected 2xx."
            return _Failed(Reason.STATUS, detail)
        self.status = status
        return _Failed(Reason.STATUS, f"{url} answers with {status}, expected 2xx.")

    def _broken(self, error: Exception) -> _Failed:
        """Playwright's and Chromium's error in our words (net_error_list.h of Chromium)."""
        words = _first_line(str(error))
        if "ERR_HTTP_RESPONSE_CODE_FAILURE" in words:
            # Another status than 2xx, and nothing to show.
            return self._refused(self.url, self.answered)
        if match := re.search(r"net::(ERR_\w+)", words):
            for pattern, reason, sentence in _NET_ERRORS:
                if re.match(pattern, match[1]):
                    return _Failed(reason, sentence.format(host=self.host, error=match[1]))
        if "has been closed" in words or "Connection closed" in words:
            return _Failed(Reason.LOCAL, f"The browser ended while it did: {self.doing}.")
        if "crashed" in words:
            return _Failed(Reason.CONTENT, f"{self.url} makes the browser crash.")
        if self.doing == "open":
            return _Failed(Reason.PROTOCOL, f"{self.url} cannot be opened: {words}.")
        # What Playwright says of a step may hold what was to be filled in.
        return _Failed(Reason.CONTENT, f"Step {self.doing}: it cannot be done on this page.")

    async def _keep(self, page: "Page", deadline: float) -> None:
        """A picture of what failed; the newest one of a site replaces the one before."""
        folder = self.target.options.screenshots or (
            Path(os.environ.get("DOLCEVITA_DATA") or ".stack") / "screenshots"
        )
        steps = "\n".join(map(str, self.target.options.steps))
        number = hashlib.sha256(f"{self.url}\n{steps}".encode()).hexdigest()[:8]
        file = folder / f"{re.sub(r'[^A-Za-z0-9.-]', '_', self.host)}-{number}.png"
        with suppress(Exception):
            async with asyncio.timeout_at(deadline):
                picture = await page.screenshot(animations="disabled", timeout=0)
            try:
                _write(file, picture)
                self.screenshot = file
            except OSError as error:
                log.warning("No screenshot in %s: %s", folder, error.strerror)

    def _samples(self) -> list[Sample]:
        return [
            Sample("probe_http_status_code", self.status),
            Sample("probe_browser_requests", self.requests),
            Sample("probe_browser_failed_requests", self.failures),
            Sample("probe_browser_console_errors", self.error_count),
            *self.samples,
        ]

    def _facts(self) -> dict[str, str]:
        facts = {
            "failed requests": ", ".join(self.failed),
            "console": "; ".join(self.errors),
            "screenshot": str(self.screenshot or ""),
        }
        return {label: text for label, text in facts.items() if text}


class _Timed:
    """A phase of a visit: noted when it ends, finished or not."""

    def __init__(self, visit: _Visit, name: str) -> None:
        self.visit = visit
        self.name = name

    async def __aenter__(self) -> None:
        self.visit.doing = self.name
        self.start = perf_counter()

    async def __aexit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        start, seconds = self.start - self.visit.begin, perf_counter() - self.start
        self.visit.phases.append(Phase(self.name, start, seconds, finished=kind is None))


_NET_ERRORS: tuple[tuple[str, Reason, str], ...] = (
    (r"ERR_NAME_", Reason.DNS, "The name {host} cannot be resolved ({error})."),
    (r"ERR_CERT_|ERR_SSL_PINNED", Reason.CERTIFICATE, "The certificate of {host}: {error}."),
    (r"ERR_SSL_|ERR_BAD_SSL", Reason.TLS, "The TLS handshake with {host} failed: {error}."),
    (r"ERR_TOO_MANY_REDIRECTS", Reason.REDIRECT, "{host} redirects too often."),
    (r"ERR_(TIMED_OUT|CONNECTION_TIMED_OUT)", Reason.CONNECT, "{host} does not answer."),
    (
        r"ERR_(CONNECTION_(REFUSED|FAILED)|ADDRESS_|INTERNET_|NETWORK_|UNSAFE_PORT)",
        Reason.CONNECT,
        "No connection to {host}: {error}.",
    ),
    (r"ERR_", Reason.PROTOCOL, "The answer of {host} cannot be used: {error}."),
)


def _vitals(read: Mapping[str, Any]) -> list[Sample]:
    """The page is not trusted: what is no number is left out."""
    names: Mapping[str, tuple[str, float]] = {
        "ttfb": ("probe_browser_first_byte_seconds", 1000),
        "lcp": ("probe_browser_largest_contentful_paint_seconds", 1000),
        "load": ("probe_browser_load_seconds", 1000),
        "cls": ("probe_browser_cumulative_layout_shift", 1),
    }
    return [
        Sample(name, value / unit)
        for key, (name, unit) in names.items()
        if isinstance(value := read.get(key), int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    ]


def _write(file: Path, picture: bytes) -> None:
    """For its owner only: it may show what a customer sees."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_bytes(picture)
    part.replace(file)


def _first_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[0][:MOST_LETTERS].rstrip(".")


KIND = Kind(
    "browser",
    ("browser+https", "browser+http"),
    Options,
    Expect,
    probe,
    HELP,
    missing=chromium.missing,
    close=chromium.close,
)
