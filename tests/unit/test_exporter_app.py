"""The exporter's endpoints, asked over HTTP."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import asynccontextmanager

import pytest
import requests
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from prometheus_client.parser import text_string_to_metric_families as parse

from dolcevita.config import UserError
from dolcevita.exporter import app
from dolcevita.exporter.app import TIMEOUT_HEADER, Exporter
from dolcevita.exporter.blackbox.allowed import Allowed
from dolcevita.exporter.live import Live
from sites import files
from waiting import free_port, until
from webserver import blackhole, closed_port, page, run, serving, silence

TestServer.__test__ = False


@asynccontextmanager
async def exporting(tmp_path, sites, **options):
    """A running exporter: gives (session, exporter), the session asks it by path."""
    exporter = Exporter(Live(*files(tmp_path, sites)), **options)
    async with (
        TestServer(exporter.app()) as server,
        ClientSession(base_url=server.make_url("/")) as session,
    ):
        yield session, exporter


async def values(response, metric):
    """The metric's value for each site."""
    return {
        sample.labels.get("site"): sample.value
        for family in parse(await response.text())
        for sample in family.samples
        if sample.name == metric
    }


def test_a_place_is_asked_for_the_sites_that_are_watched_from_there(tmp_path):
    text = """
places: {paris: here, rome: "http://127.0.0.1:9"}
sites:
  - {name: shop, url: 'http://127.0.0.1:9/'}
  - {name: intranet, url: 'http://127.0.0.1:9/', places: paris}
"""

    async def scenario():
        async with exporting(tmp_path, text) as (session, _):
            groups = await (await session.get("/sd")).json()
            found = {}
            for labels in (group["labels"] for group in groups):
                query = {key: labels[f"__param_{key}"] for key in ("batch", "place")}
                response = await session.get("/probe", params=query)
                found[labels["place"]] = set(await values(response, "probe_success"))
            return found

    assert run(scenario()) == {"paris": {"shop", "intranet"}, "rome": {"shop"}}


def test_a_batch_is_answered_in_time_whatever_its_sites_do(tmp_path):
    async def scenario():
        async with serving(page()) as fine, serving(silence) as mute:
            with blackhole() as dropping, closed_port() as closed:
                ports = {"fine": fine, "mute": mute, "dropping": dropping, "closed": closed}
                urls = {name: f"http://127.0.0.1:{port}/" for name, port in ports.items()}
                urls["nameless"] = "http://does.not.exist.invalid/"
                entries = [f"- {{name: {n}, url: '{u}'}}" for n, u in urls.items()]
                async with exporting(tmp_path, "sites:\n" + "\n".join(entries)) as (session, _):
                    (group,) = await (await session.get("/sd")).json()
                    batch = group["labels"]["__param_batch"]
                    begin = time.monotonic()
                    response = await session.get(
                        "/probe", params={"batch": batch}, headers={TIMEOUT_HEADER: "2"}
                    )
                    text = await response.text()
                    took = time.monotonic() - begin
                    success = await values(response, "probe_success")
                    return response.status, success, took, text

    status, success, took, text = run(scenario())
    assert status == 200
    assert took < 2.0
    assert success == {"fine": 1, "mute": 0, "dropping": 0, "closed": 0, "nameless": 0}
    reasons = {
        sample.labels["site"]: sample.labels["reason"]
        for family in parse(text)
        for sample in family.samples
        if sample.name == "probe_failure_info"
    }
    assert reasons == {
        "mute": "timeout",
        "dropping": "connect",
        "closed": "connect",
        "nameless": "dns",
    }


def test_a_sites_own_timeout_holds_within_a_longer_scrape(tmp_path):
    async def scenario():
        async with serving(silence) as mute:
            sites = f"sites: [{{name: mute, url: 'http://127.0.0.1:{mute}/', timeout: 300ms}}]"
            async with exporting(tmp_path, sites) as (session, _):
                begin = time.monotonic()
                response = await session.get(
                    "/probe", params={"site": "mute"}, headers={TIMEOUT_HEADER: "10"}
                )
                return await values(response, "probe_success"), time.monotonic() - begin

    success, took = run(scenario())
    assert success == {"mute": 0}
    assert took < 1.0


def test_discovery_names_the_address_it_was_asked_at(tmp_path):
    async def scenario():
        async with exporting(tmp_path, "sites: [http://one.example]") as (session, _):
            response = await session.get("/sd", headers={"Host": "exporter:9714"})
            return response.headers["Content-Type"], await response.json()

    content_type, groups = run(scenario())
    assert content_type.startswith("application/json")
    assert [group["targets"] for group in groups] == [["exporter:9714"]]


@pytest.mark.parametrize(
    ("query", "status", "words"),
    [
        ({}, 400, "add ?batch=, ?site= or ?target="),
        ({"batch": "nonsense"}, 404, "'nonsense' is no batch"),
        ({"batch": "99s.10s.0.1"}, 200, ""),
        ({"site": "shpo"}, 404, "No site is named 'shpo': did you mean 'shop'?"),
        ({"target": "http://127.0.0.1/"}, 403, "--allow-target"),
    ],
)
def test_what_cannot_be_probed_is_refused_with_a_sentence(tmp_path, query, status, words):
    async def scenario():
        sites = "sites: [{name: shop, url: 'http://one.example'}]"
        async with exporting(tmp_path, sites) as (session, _):
            response = await session.get("/probe", params=query)
            return response.status, await response.text()

    found, text = run(scenario())
    assert found == status
    assert words in text
    assert words or not text.strip()


def test_a_scrape_timeout_that_is_no_number_is_refused(tmp_path):
    async def scenario():
        sites = "sites: [{name: shop, url: 'http://one.example'}]"
        async with exporting(tmp_path, sites) as (session, _):
            headers = {TIMEOUT_HEADER: "soon"}
            response = await session.get("/probe", params={"site": "shop"}, headers=headers)
            return response.status, await response.text()

    status, text = run(scenario())
    assert status == 400
    assert "'soon', expected seconds" in text


def test_any_target_is_probed_where_that_is_allowed(tmp_path):
    async def scenario():
        async with (
            serving(page()) as port,
            exporting(tmp_path, "sites: [http://a.example]", allowed=Allowed(anything=True)) as (
                session,
                _,
            ),
        ):

            async def ask(**query):
                response = await session.get("/probe", params=query)
                return response.status, await response.text()

            return (
                await ask(target=f"127.0.0.1:{port}", module="http_2xx"),
                await ask(target=f"http://127.0.0.1:{port}/"),
                await ask(target="http://127.0.0.1/", module="tcp_connect"),
                await ask(target="file:///etc/passwd"),
            )

    as_blackbox, with_scheme, module, scheme = run(scenario())
    for status, text in (as_blackbox, with_scheme):
        assert status == 200
        assert "\nprobe_success 1.0\n" in text
    assert module == (400, "Unknown module 'tcp_connect': expected one of: http_2xx\n")
    assert "\nprobe_success 0.0\n" in scheme[1]


def test_an_edit_reaches_the_next_scrape_of_a_batch_known_before(tmp_path):
    async def scenario():
        async with serving(page()) as port:
            one = f"sites: [{{name: one, url: 'http://127.0.0.1:{port}/'}}]"
            two = f"{one[:-1]}, {{name: two, url: 'http://127.0.0.1:{port}/'}}]"
            async with exporting(tmp_path, one) as (session, exporter):
                (group,) = await (await session.get("/sd")).json()
                batch = {"batch": group["labels"]["__param_batch"]}
                before = await values(await session.get("/probe", params=batch), "probe_success")
                exporter.live.sites.write_text(two)
                reload = await session.post("/-/reload")
                after = await values(await session.get("/probe", params=batch), "probe_success")
                return before, reload.status, after

    assert run(scenario()) == ({"one": 1}, 200, {"one": 1, "two": 1})


def test_a_bad_edit_is_refused_with_its_line_and_told_by_a_metric(tmp_path):
    async def scenario():
        async with exporting(tmp_path, "sites: [http://a.example]") as (session, exporter):
            metric = "dolcevita_config_last_reload_successful"
            before = await values(await session.get("/metrics"), metric)
            exporter.live.sites.write_text("sites:\n  - {url: 'http://a.example', evry: 15s}\n")
            reload = await session.post("/-/reload")
            after = await values(await session.get("/metrics"), metric)
            status = await (await session.get("/")).text()
            return before, reload.status, await reload.text(), after, status

    before, code, text, after, status = run(scenario())
    assert (before, after) == ({None: 1}, {None: 0})
    assert code == 400
    assert "sites.yml:2: " in text and "did you mean 'every'?" in text
    assert "The last edit of the configuration is refused" in status


def test_probes_are_counted_by_result(tmp_path):
    async def scenario():
        async with serving(page()) as port, serving(page(status=500)) as broken:
            sites = f"sites: [http://127.0.0.1:{port}, http://127.0.0.1:{broken}]"
            async with exporting(tmp_path, sites) as (session, _):
                await session.get("/probe", params={"batch": "15s.10s.0.1"})
                return await (await session.get("/metrics")).text()

    text = run(scenario())
    assert 'dolcevita_probes_total{result="success"} 1.0' in text
    assert 'dolcevita_probes_total{result="failure"} 1.0' in text
    assert "dolcevita_probes_in_flight 0.0" in text
    assert "dolcevita_build_info{version=" in text
    assert "process_cpu_seconds_total" in text


def test_it_is_healthy(tmp_path):
    async def scenario():
        async with exporting(tmp_path, "sites: [http://a.example]") as (session, _):
            return (await session.get("/-/healthy")).status

    assert run(scenario()) == 200


def test_a_port_that_is_taken_is_one_sentence(tmp_path):
    paths = files(tmp_path, "sites: [http://a.example]")

    async def scenario():
        async with serving(page()) as port:
            await app._serve(Exporter(Live(*paths)), "127.0.0.1", port)

    with pytest.raises(UserError, match=r"^Cannot listen on 127\.0\.0\.1 port \d+ .*EXPORTER_PORT"):
        run(scenario())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_soon_and_cleanly_even_in_a_scrape(tmp_path, number):
    port = free_port()
    with blackhole() as dropping:
        sites, people = files(
            tmp_path, f"sites: [{{name: x, url: 'http://127.0.0.1:{dropping}/'}}]"
        )
        program = f"""
from pathlib import Path
from dolcevita.exporter.app import run
run(Path({str(sites)!r}), Path({str(people)!r}), "127.0.0.1", {port})
"""
        log = tmp_path / "log"
        with log.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-c", program], stderr=output)
        try:

            def healthy():
                try:
                    return requests.get(f"http://127.0.0.1:{port}/-/healthy", timeout=1).ok
                except requests.ConnectionError:
                    return False

            until(healthy, "the exporter answers")
            with pytest.raises(requests.Timeout):
                requests.get(f"http://127.0.0.1:{port}/probe?site=x", timeout=0.5)
            process.send_signal(number)
            assert process.wait(timeout=8) == 0
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
    assert "Traceback" not in log.read_text()


def test_a_hundred_sites_at_once_stay_within_a_short_scrape(tmp_path):
    async def scrape(session):
        groups = await (await session.get("/sd")).json()
        begin = time.monotonic()
        responses = await asyncio.gather(
            *(
                session.get(
                    "/probe",
                    params={"batch": group["labels"]["__param_batch"]},
                    headers={TIMEOUT_HEADER: "2"},
                )
                for group in groups
            )
        )
        for response in responses:
            await response.read()
        took = time.monotonic() - begin
        found = {}
        for response in responses:
            found |= await values(response, "probe_success")
        return took, found

    async def scenario():
        async with serving(page()) as port, serving(silence) as mute:
            entries = [
                f"- {{name: s{i}, url: 'http://127.0.0.1:{mute if i % 4 == 0 else port}/'}}"
                for i in range(100)
            ]
            async with exporting(tmp_path, "sites:\n" + "\n".join(entries)) as (session, _):
                # Other tests may take the processor away for longer than the margin.
                return [await scrape(session) for _ in range(3)]

    scrapes = run(scenario())
    assert min(took for took, _ in scrapes) < 2.0
    for _, found in scrapes:
        assert found == {f"s{i}": 0 if i % 4 == 0 else 1 for i in range(100)}
