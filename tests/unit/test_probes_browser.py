"""Pages in a real Chromium, from real servers."""

import asyncio
import os
import signal
import ssl
import subprocess
import sys
import time
from contextlib import suppress
from importlib import util
from pathlib import Path

import pytest
import trustme
from typer.testing import CliRunner

from dolcevita.cli import app
from dolcevita.config import ConfigError, load
from dolcevita.exporter.live import Live
from dolcevita.probes import KINDS, Reason, Target, browser, chromium, resolve
from sites import files
from waiting import until
from webserver import closed_port, has, page, routes, sample, serving, silence
from webserver import run as run_loop

pytestmark = [
    pytest.mark.skipif(
        chromium.program() is None or util.find_spec("playwright") is None,
        reason="takes Chromium and the extra `browser`",
    ),
    pytest.mark.xdist_group("chromium"),
]
BUDGET = 60.0
"""Seconds. A busy machine takes many of them to begin a browser."""


def run(scenario):
    async def whole():
        try:
            return await scenario
        finally:
            await chromium.close()

    return run_loop(whole())


def html(body: str, head: str = "", status: int = 200):
    text = f"<!doctype html><title>Shop</title>{head}<body>{body}"
    return page(text.encode(), status, Content_Type="text/html; charset=utf-8")


SHOP = {
    "/favicon.ico": page(),
    "/": html(
        """
        <h1>Shop</h1>
        <input id=name> <input id=secret type=password>
        <button onclick="document.querySelector('p').textContent = 'In the cart for '
            + document.querySelector('#name').value + document.querySelector('#secret').value">
          Buy</button>
        <p></p>
        """
    ),
    "/faulty": html(
        "<img src=/gone?token=abc>"
        "<script>console.error('no cart\\nat all'); setTimeout(() => missing(), 0)</script>"
    ),
    "/shifting": html(
        "<div id=d></div><h1>Big and late</h1><script>setTimeout(() => "
        "{ document.querySelector('#d').style.height = '300px' }, 200)</script>"
    ),
    "/busy": html("<script>while (true) {}</script>"),
    "/gone?token=abc": page(b"", 404),
    "/error": html("sorry", status=500),
    "/blank": page(b"", 404),
    "/loop": page(b"", 302, Location="/loop"),
    "/mute": silence,
}


def on_the_shop(port, path="/"):
    """A page of the shop that is served on the port, without pictures of what fails."""
    options = browser.Options(screenshots=Path(os.devnull))
    return Target(f"browser+http://localhost:{port}{path}", options, browser.Expect())


def probing(*cases, serve=SHOP, tls=None, budget=BUDGET, tmp_path=None, warm=True):
    """The result of each (path, options, expectations), one after the other in one browser."""

    async def scenario():
        scheme = "https" if tls else "http"
        async with serving(routes(serve), tls) as port:
            results = []
            if warm:
                await (await (await chromium.here().browser()).new_page()).close()
            for path, options, expect in cases:
                given = {"screenshots": tmp_path or Path(os.devnull), **options}
                target = Target(
                    f"browser+{scheme}://localhost:{port}{path}",
                    browser.Options.model_validate(given),
                    browser.Expect(**expect),
                )
                results.append(await browser.probe(target, budget))
            return results

    return run(scenario())


def test_a_page_is_loaded_and_its_vitals_are_measured():
    fine, shifting = probing(("/", {}, {}), ("/shifting", {}, {}))
    assert fine.success, fine.detail
    assert sample(fine, "probe_http_status_code") == 200
    assert sample(fine, "probe_browser_requests") >= 1
    assert sample(fine, "probe_browser_console_errors") == 0
    assert sample(fine, "probe_browser_failed_requests") == 0
    assert sample(fine, "probe_browser_cumulative_layout_shift") == 0
    first = sample(fine, "probe_browser_first_byte_seconds")
    largest = sample(fine, "probe_browser_largest_contentful_paint_seconds")
    assert 0 < first <= largest < BUDGET
    assert first <= sample(fine, "probe_browser_load_seconds") < BUDGET
    assert [phase.name for phase in fine.phases] == ["open"]
    assert sample(shifting, "probe_browser_cumulative_layout_shift") > 0.01


def test_console_errors_and_failed_requests_are_counted_and_fail_where_they_may_not_be():
    counted, console, requests = probing(
        ("/faulty", {}, {}),
        ("/faulty", {}, {"console_errors": 1}),
        ("/faulty", {}, {"failed_requests": 0}),
    )
    assert counted.success
    assert sample(counted, "probe_browser_console_errors") == 2
    assert sample(counted, "probe_browser_failed_requests") == 1
    assert console.reason is Reason.CONTENT
    assert "no cart" in console.detail and "missing is not defined" in console.detail
    assert requests.reason is Reason.CONTENT
    assert "/gone (404)" in requests.detail
    assert "abc" not in str(requests)


def test_steps_are_taken_one_after_the_other(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    steps = [
        {"fill": {"#name": "Marie "}},
        {"fill_file": {"#secret": str(secret)}},
        {"click": "text=Buy"},
        {"expect": "In the cart for Marie hunter2"},
        {"open": "/"},
        {"expect": "Shop"},
    ]
    (result,) = probing(("/", {"steps": steps}, {}))
    assert result.success, result.detail
    assert len([s for s in result.samples if s.name == "probe_browser_step_seconds"]) == 6
    assert [phase.name for phase in result.phases[:3]] == [
        "open",
        "1: fill #name",
        "2: fill #secret",
    ]


def test_a_step_that_cannot_be_done_fails_with_a_screenshot_and_no_secret(tmp_path):
    steps = [{"fill": {"#name": "hunter2"}}, {"click": "text=Buy"}, {"expect": "Thank you"}]
    missing = [{"fill": {"#nobody": "hunter2"}}]
    expected, filled, opened, unread = probing(
        ("/", {"steps": steps}, {}),
        ("/", {"steps": missing}, {}),
        ("/", {"steps": [{"open": "/error"}]}, {}),
        ("/", {"steps": [{"fill_file": {"#name": "/does/not/exist"}}]}, {}),
        budget=6.0,
        tmp_path=tmp_path / "pictures",
    )
    assert expected.reason is Reason.CONTENT
    assert expected.detail == "Step 3: expect 'Thank you': not there in time."
    assert expected.phases[-1].finished is False
    assert filled.reason is Reason.CONTENT and "Step 1: fill #nobody" in filled.detail
    assert opened.reason is Reason.STATUS and "answered with 500" in opened.detail
    assert unread.reason is Reason.LOCAL and "its file cannot be read" in unread.detail
    assert "hunter2" not in str([expected, filled])
    picture = Path(expected.facts["screenshot"])
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_mode & 0o777 == 0o600
    assert picture.parent.stat().st_mode & 0o777 == 0o700
    assert "hunter2" not in picture.name


@pytest.mark.parametrize(
    ("path", "reason", "words"),
    [
        ("/error", Reason.STATUS, "answers with 500, expected 2xx"),
        ("/blank", Reason.STATUS, "/blank answers with 404, expected 2xx"),
        ("/loop", Reason.REDIRECT, "redirects too often"),
        ("/mute", Reason.TIMEOUT, "is not loaded in time"),
        ("/busy", Reason.TIMEOUT, "is not loaded in time"),
    ],
)
def test_a_page_that_fails_says_why_in_time(path, reason, words):
    begin = time.monotonic()
    budget = 20.0 if reason is Reason.TIMEOUT else BUDGET
    (result,) = probing((path, {}, {}), budget=budget)
    assert result.reason is reason
    assert words in result.detail
    assert result.duration < budget + 0.2
    assert time.monotonic() - begin < budget + 30
    assert not has(result, "probe_browser_load_seconds") or path == "/error"
    status = {"/error": 500, "/blank": 404}.get(path, 0)
    assert sample(result, "probe_http_status_code") == status


def test_what_the_network_does_is_told_as_elsewhere(tmp_path):
    async def scenario():
        results = []
        with closed_port() as closed:
            for url in (
                f"browser+http://127.0.0.1:{closed}/",
                "browser+http://does.not.exist.invalid/",
            ):
                options = browser.Options(screenshots=tmp_path)
                target = Target(url, options, browser.Expect())
                results.append(await browser.probe(target, BUDGET))
        return results

    refused, nameless = run(scenario())
    assert refused.reason is Reason.CONNECT and "ERR_CONNECTION_REFUSED" in refused.detail
    assert nameless.reason is Reason.DNS


def test_a_certificate_is_checked_unless_told_otherwise():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    checked, insecure = probing(("/", {}, {}), ("/", {"insecure": True}, {}), tls=context)
    assert checked.reason is Reason.CERTIFICATE
    assert insecure.success, insecure.detail


def chromiums() -> set[int]:
    """The processes of Chromium that this one has started, at any remove."""
    parents: dict[int, int] = {}
    headless = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            pid = int(folder.name)
            parents[pid] = int((folder / "stat").read_text().rpartition(") ")[2].split()[1])
            if b"--headless" in (folder / "cmdline").read_bytes():
                headless.add(pid)

    def ours(pid: int) -> bool:
        while pid and pid != os.getpid():
            pid = parents.get(pid, 0)
        return bool(pid)

    return set(filter(ours, headless))


def test_one_browser_is_kept_and_started_again_when_it_dies():
    async def scenario():
        async with serving(routes(SHOP)) as port:
            target = on_the_shop(port)
            assert (await browser.probe(target, BUDGET)).success
            first = await chromium.here().browser()
            assert (await browser.probe(target, BUDGET)).success
            assert await chromium.here().browser() is first
            before = chromiums()
            assert before
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            then = await browser.probe(target, BUDGET)
            after = chromiums()
            return before, then, after

    before, then, after = run(scenario())
    assert then.success, then.detail
    assert after and not after & before
    until(lambda: not chromiums(), "no browser is left")


def test_a_browser_that_hangs_is_replaced_once_for_all_who_wait():
    async def scenario():
        async with serving(routes(SHOP)) as port:
            target = on_the_shop(port)
            assert (await browser.probe(target, BUDGET)).success
            for pid in chromiums():
                os.kill(pid, signal.SIGSTOP)

            async def later():
                await asyncio.sleep(0.5)
                return await browser.probe(target, BUDGET / 2)

            return await asyncio.gather(browser.probe(target, BUDGET / 2), later())

    for result in run(scenario()):
        assert result.success, result.detail
    until(lambda: not chromiums(), "no browser is left")


def test_few_pages_are_open_at_a_time_and_who_waits_in_vain_is_no_verdict():
    async def scenario():
        async with serving(routes(SHOP)) as port:
            assert (await browser.probe(on_the_shop(port), BUDGET)).success
            mute = [
                asyncio.create_task(browser.probe(on_the_shop(port, "/mute"), 12.0))
                for _ in range(chromium.PAGES_AT_ONCE)
            ]
            await asyncio.sleep(0)
            begin = time.monotonic()
            waiting = await browser.probe(on_the_shop(port), 1.0)
            took = time.monotonic() - begin
            await asyncio.gather(*mute)
            return waiting, took, await browser.probe(on_the_shop(port), BUDGET)

    waiting, took, then = run(scenario())
    assert not waiting.known and "busy" in waiting.detail
    assert took < 1.3
    assert then.success


def test_a_browser_that_does_not_start_is_this_machines_fault(monkeypatch, tmp_path):
    program = tmp_path / "chromium"
    program.write_text("#!/bin/sh\necho broken >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("DOLCEVITA_CHROMIUM", str(program))
    (result,) = probing(("/", {}, {}), warm=False)
    assert result.reason is Reason.LOCAL
    assert result.detail.startswith("Chromium cannot be started")


def test_a_target_that_a_caller_names_gets_no_browser():
    async def scenario():
        token = resolve.GUARD.set(lambda host, addresses: None)
        try:
            target = Target("browser+http://localhost/", browser.Options(), browser.Expect())
            return await browser.probe(target, BUDGET)
        finally:
            resolve.GUARD.reset(token)

    assert run(scenario()).reason is Reason.LOCAL


def test_a_killed_exporter_leaves_no_browser(tmp_path):
    code = f"""
import asyncio, pathlib, sys, uvloop
from dolcevita.probes import browser, Target, chromium
async def main():
    target = Target("browser+http://127.0.0.1:9/", browser.Options(), browser.Expect())
    await browser.probe(target, {BUDGET})
    print("ready", flush=True)
    await asyncio.sleep(60)
uvloop.run(main())
"""
    environment = {**os.environ, "DOLCEVITA_DATA": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout and process.stdout.readline() == b"ready\n"
        started = chromiums()
        assert started
        process.kill()
    until(
        lambda: not any(Path(f"/proc/{pid}").exists() for pid in started),
        "the browser ends with the exporter",
    )


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{steps: [{open: /, click: a}]}", "found none or several in one step"),
        ("{steps: [{}]}", "found none or several in one step"),
        ("{steps: [{clik: a}]}", "unknown key 'clik': did you mean 'click'?"),
    ],
)
def test_steps_that_do_not_load_say_why(tmp_path, given, words):
    sites = f"sites: [{{url: 'browser+https://example.com', browser: {given}}}]"
    with pytest.raises(ConfigError) as error:
        load(*files(tmp_path, sites), KINDS)
    assert words in str(error.value)


def test_an_exporter_without_the_extra_or_chromium_refuses_it_and_says_what_to_install(
    tmp_path, monkeypatch
):
    paths = files(tmp_path, "sites: ['browser+https://example.com']")
    assert Live(*paths).config.sites
    monkeypatch.setenv("DOLCEVITA_CHROMIUM", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"there is none: install it .*apt install chromium"):
        Live(*paths)
    monkeypatch.setattr(chromium, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"sites.yml:1: .*install -r requirements-browser.lock"):
        Live(*paths)
    # The courier and who else only reads the file need no browser.
    assert load(*paths, KINDS).sites


def test_a_probe_by_hand_without_chromium_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOLCEVITA_CHROMIUM", str(tmp_path / "nothing"))
    told = CliRunner().invoke(app, ["probe", "browser+https://example.com"])
    assert told.exit_code == 1
    assert "takes Chromium, and there is none" in told.output
