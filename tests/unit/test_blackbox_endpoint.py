"""/probe?target= and the page of recent results, asked over HTTP."""

import asyncio
import time
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer

from dolcevita.config import ConfigError
from dolcevita.exporter.app import TIMEOUT_HEADER, Exporter
from dolcevita.exporter.blackbox.allowed import Allowed, parse
from dolcevita.exporter.blackbox.history import MOST_TEXT, History
from dolcevita.exporter.blackbox.live import Modules
from dolcevita.exporter.live import Live
from sites import PEOPLE, files
from webserver import page, run, serving, silence

TestServer.__test__ = False

LOCAL = parse(["127.0.0.1"])
MODULES = """
modules:
  http_2xx: {prober: http, timeout: 2s}
  secret: {prober: http, http: {basic_auth: {username: me, password: hunter2}}}
  hosted: {prober: http, http: {headers: {host: a.example}}}
  socket: {prober: unix}
  chat: {prober: websocket, timeout: 2s, websocket: {query_response: [{expect: hello}]}}
"""


@asynccontextmanager
async def exporting(tmp_path, allowed=LOCAL, text=MODULES):
    """A running exporter without sites: gives (ask, session, exporter)."""
    file = tmp_path / "blackbox.yml"
    file.write_text(text)
    live = Live(tmp_path / "sites.yml", tmp_path / "people.yml", may_be_missing=True)
    exporter = Exporter(live, Modules(file), allowed)
    async with (
        TestServer(exporter.app()) as server,
        ClientSession(base_url=server.make_url("/")) as session,
    ):

        async def ask(path="/probe", headers=None, **query):
            response = await session.get(path, params=query, headers=headers)
            return response.status, await response.text()

        yield ask, session, exporter


def asked(tmp_path, *queries, allowed=LOCAL, answer=None):
    """The answers to queries, in which {port} is a web server's."""

    async def scenario():
        async with (
            serving(answer or page(b"fine")) as port,
            exporting(tmp_path, allowed) as (ask, _, _),
        ):
            filled = [{k: v.format(port=port) for k, v in query.items()} for query in queries]
            return [await ask(**query) for query in filled]

    return run(scenario())


FINE = {"target": "127.0.0.1:{port}"}


def test_it_is_off_until_targets_are_allowed(tmp_path):
    ((status, text),) = asked(tmp_path, FINE, allowed=Allowed())
    assert status == 403
    assert "start with --allow-target" in text


@pytest.mark.parametrize(
    ("query", "status", "text"),
    [
        ({"target": "127.0.0.1", "module": "htp_2xx"}, 400, "did you mean 'http_2xx'?"),
        ({"module": "http_2xx"}, 400, "Target parameter is missing"),
        ({"target": "192.0.2.1"}, 403, "192.0.2.1 is not allowed: start with --allow-target"),
        ({"target": "http://169.254.169.254/latest/"}, 403, "never probed"),
        ({"target": "/run/docker.sock", "module": "socket"}, 403, "/run/docker.sock is not"),
        ({"target": "127.0.0.1", "module": "hosted", "hostname": "b.example"}, 400, "host header"),
        ({"target": "127.0.0.1", "hostname": "a\r\nX-B: c"}, 400, "expected a host name"),
    ],
)
def test_what_cannot_be_probed_is_refused_with_a_sentence(tmp_path, query, status, text):
    (got,) = asked(tmp_path, query)
    assert got[0] == status
    assert text in got[1]


def test_a_target_may_be_escaped_twice(tmp_path):
    ((status, text),) = asked(tmp_path, {"target": "http%3A%2F%2F127.0.0.1%3A{port}%2F"})
    assert status == 200
    assert "\nprobe_success 1.0\n" in text


def test_the_account_tells_the_phases_the_metrics_and_the_module_but_no_secret(tmp_path):
    query = {**FINE, "module": "secret", "debug": "true"}
    ((_, text),) = asked(tmp_path, query)
    for part in ("Probe succeeded", "connect: from", "probe_success 1.0", "password: <secret>"):
        assert part in text
    assert "hunter2" not in text


def test_a_user_name_in_the_target_is_kept_nowhere(tmp_path):
    target = {"target": "http://me:hunter2@127.0.0.1:{port}/missing"}
    answers = asked(
        tmp_path,
        {**target, "debug": "true"},
        {"path": "/recent"},
        {"path": "/recent/1"},
        answer=page(status=404),
    )
    assert answers[0][0] == 200
    for _, text in answers:
        assert "hunter2" not in text


def test_a_websocket_has_the_metrics_of_the_release_after_0_28(tmp_path):
    query = {"target": "ws://127.0.0.1:{port}/", "module": "chat"}
    ((status, text),) = asked(tmp_path, query)
    assert status == 200
    series = {line.split(" ")[0] for line in text.splitlines() if not line.startswith("#")}
    phase = 'probe_websocket_duration_seconds{{phase="{}"}}'.format
    assert series == {
        "probe_success",
        "probe_duration_seconds",
        "probe_dns_lookup_time_seconds",
        "probe_ip_addr_hash",
        "probe_ip_protocol",
        "probe_websocket_connection_upgraded",
        "probe_websocket_failed_due_to_regex",
        "probe_websocket_status_code",
        phase("resolve"),
        phase("connect"),
        phase("processing"),
    }
    assert "probe_websocket_status_code 200.0" in text


def test_recent_results_are_listed_with_their_accounts(tmp_path):
    _, failed, listed, account, gone = asked(
        tmp_path,
        FINE,
        {"target": "127.0.0.1:1"},
        {"path": "/recent"},
        {"path": "/recent/2"},
        {"path": "/recent/99"},
    )
    assert "\nprobe_success 0.0\n" in failed[1]
    assert listed[1].index("account 2") < listed[1].index("account 1")
    assert "refuses the connection" in listed[1]
    assert "Probe failed (connect)" in account[1]
    assert gone[0] == 404


def test_html_in_a_target_stays_text(tmp_path):
    _, (_, text) = asked(tmp_path, {"target": "127.0.0.1:1/<script>"}, {"path": "/recent"})
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_failures_are_kept_longer_than_successes_and_both_are_bounded():
    history = History(most=3)
    for number in range(20):
        history.add(0.0, "m", f"t{number}", number % 4 == 3, 0.1, "", "x" * 2 * MOST_TEXT)
    kept = [(entry.target, entry.success) for entry in history]
    assert [target for target, _ in kept] == ["t19", "t18", "t17", "t16", "t14", "t13"]
    assert all(len(entry.text) == MOST_TEXT for entry in history)
    assert history.find(1) is None


def test_a_probe_ends_before_the_scrape_does(tmp_path):
    async def scenario():
        async with serving(silence) as port, exporting(tmp_path) as (ask, _, _):
            begin = time.monotonic()
            answer = await ask(headers={TIMEOUT_HEADER: "0.9"}, target=f"127.0.0.1:{port}")
            return answer, time.monotonic() - begin

    (status, text), seconds = run(scenario())
    assert status == 200
    assert "\nprobe_success 0.0\n" in text
    assert seconds < 0.9


def test_one_connection_can_ask_for_targets_and_sites_in_turn(tmp_path):
    async def scenario():
        async with serving(page(), host="127.0.0.2") as port:
            sites = f"sites: [{{name: inside, url: 'http://127.0.0.2:{port}/'}}]"
            exporter = Exporter(Live(*files(tmp_path, sites)), Modules(None), LOCAL)
            async with (
                TestServer(exporter.app()) as server,
                ClientSession(base_url=server.make_url("/")) as session,
            ):
                refused = await session.get("/probe", params={"target": f"127.0.0.2:{port}"})
                await refused.read()
                site = await session.get("/probe", params={"site": "inside"})
                return refused.status, await site.text()

    status, text = run(scenario())
    assert status == 403
    assert "probe_success{" in text and "} 1.0" in text


def test_an_edit_is_live_and_a_bad_one_refused_with_its_line(tmp_path):
    async def scenario():
        async with exporting(tmp_path) as (ask, session, exporter):
            file = exporter.blackbox.modules.file
            file.write_text("modules: {other: {prober: http}}")
            first = await session.post("/-/reload")
            known = await ask(target="127.0.0.1:1", module="other")
            file.write_text("modules: {other: {prober: htp}}")
            second = await session.post("/-/reload")
            text = await second.text()
            still = await ask(target="127.0.0.1:1", module="other")
            metrics = await ask("/metrics")
            file.write_text("modules: {third: {prober: http}}")
            async with asyncio.timeout(10):
                while (await ask(target="127.0.0.1:1", module="third"))[0] != 200:  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            return first.status, known[0], second.status, text, still[0], metrics[1]

    first, known, second, text, still, metrics = run(scenario())
    assert (first, known, second, still) == (200, 200, 400, 200)
    assert "blackbox.yml:1: " in text and "'htp'" in text
    assert "blackbox_exporter_config_last_reload_successful 0.0" in metrics


def test_a_sites_file_that_comes_later_is_watched_and_must_then_stay(tmp_path):
    live = Live(tmp_path / "sites.yml", tmp_path / "people.yml", may_be_missing=True)
    assert live.config.sites == ()
    (tmp_path / "people.yml").write_text(PEOPLE)
    (tmp_path / "sites.yml").write_text("sites: [http://a.example]")
    run(live.reload())
    assert [site.name for site in live.config.sites] == ["a.example"]
    (tmp_path / "sites.yml").unlink()
    with pytest.raises(ConfigError):
        run(live.reload())
    assert len(live.config.sites) == 1
