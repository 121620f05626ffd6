"""Second attempts, budgets, and name resolution that nobody waits for."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from dolcevita import probes
from dolcevita.probes import KINDS, Reason, Result, Target, http
from dolcevita.probes.resolve import Unresolved, resolve
from webserver import blackhole, page, raw, run, serving, silence


async def attempts(url: str, budget: float = 5.0, **expect) -> Result:
    target = Target(url, http.Options(), http.Expect(**expect))
    return await probes.probe(http.KIND, target, budget)


def failing_first(*failures):
    left = list(failures)

    async def answer(request, writer):
        await (left.pop(0) if left else page())(request, writer)

    return answer


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(raw(b""), id="closed"),
        pytest.param(page(status=503), id="status"),
        pytest.param(page(b"maintenance"), id="content"),
    ],
)
def test_a_failure_that_passes_is_no_failure(failure):
    async def scenario():
        async with serving(failing_first(failure)) as port:
            return await attempts(f"http://127.0.0.1:{port}/", contains="fine")

    result = run(scenario())
    assert result.success
    assert result.attempts == 2
    assert result.duration > probes.attempts.PAUSE * 0.9, "the time of both is told"


def test_a_success_is_not_tried_again():
    asked = []

    async def answer(request, writer):
        asked.append(request)
        await page()(request, writer)

    async def scenario():
        async with serving(answer) as port:
            return await attempts(f"http://127.0.0.1:{port}/")

    assert run(scenario()).attempts == 1
    assert len(asked) == 1


def test_two_failures_are_one_failed_probe_told_by_the_first():
    async def scenario():
        failures = (page(status=500), raw(b""), page())
        async with serving(failing_first(*failures)) as port:
            return await attempts(f"http://127.0.0.1:{port}/")

    result = run(scenario())
    assert not result.success
    assert result.attempts == 2
    assert result.reason is Reason.STATUS


@pytest.mark.parametrize(
    "login",
    [
        pytest.param({"basic_auth": {"username": "marie", "password": "wrong"}}, id="password"),
        pytest.param({"authorization": {"credentials": "wrong"}}, id="token"),
    ],
)
def test_a_refused_login_is_not_tried_again(login):
    asked = []

    async def refuse(request, writer):
        asked.append(request)
        await page(status=401)(request, writer)

    async def scenario():
        async with serving(refuse) as port:
            options = http.Options.model_validate(login)
            target = Target(f"http://127.0.0.1:{port}/", options, http.Expect())
            return await probes.probe(http.KIND, target, 5.0)

    result = run(scenario())
    assert (result.reason, result.attempts, len(asked)) == (Reason.STATUS, 1, 1)


def test_a_401_without_any_login_is_tried_again():
    async def scenario():
        async with serving(failing_first(page(status=401))) as port:
            return await attempts(f"http://127.0.0.1:{port}/")

    assert run(scenario()).success


def test_a_dropped_connection_leaves_time_for_a_second_attempt():
    with blackhole() as port:
        result = run(attempts(f"http://127.0.0.1:{port}/", budget=1.0))
    assert result.reason is Reason.CONNECT
    assert result.attempts == 2
    assert result.duration < 1.1


def test_a_server_that_uses_up_the_budget_is_not_tried_again():
    async def scenario():
        async with serving(silence) as port:
            return await attempts(f"http://127.0.0.1:{port}/", budget=0.5)

    result = run(scenario())
    assert result.reason is Reason.TIMEOUT
    assert result.attempts == 1
    assert result.duration < 0.7


def test_a_prober_that_hangs_is_broken_off():
    async def hangs(target, budget):
        await asyncio.sleep(60)

    target = Target("http://x/", http.Options(), http.Expect())
    result = run(probes.probe(replace(http.KIND, probe=hangs), target, 0.3))
    assert result.reason is Reason.TIMEOUT
    assert result.duration < 0.6


def test_a_prober_that_crashes_is_a_failed_probe_and_logged(caplog):
    async def crashes(target, budget):
        raise ZeroDivisionError("boom")

    target = Target("http://x/", http.Options(), http.Expect())
    result = run(probes.probe(replace(http.KIND, probe=crashes), target, 0.3))
    assert result.reason is Reason.INTERNAL
    assert "boom" in caplog.text


def test_names_that_hang_hold_up_no_other_name(monkeypatch):
    over = threading.Event()
    ask = socket.getaddrinfo

    def dead_zone(host, *args, **kwargs):
        if host.endswith(b".dead.example"):
            over.wait(20)
        return ask("127.0.0.1" if host == b"live.example" else host, *args, **kwargs)

    async def scenario():
        async with serving(page()) as port:
            monkeypatch.setattr(socket, "getaddrinfo", dead_zone)
            dead = [
                asyncio.create_task(attempts(f"http://{i}.dead.example/", budget=2.0))
                for i in range(100)
            ]
            await asyncio.sleep(0.3)
            begin = time.monotonic()
            live = await attempts(f"http://live.example:{port}/", budget=2.0)
            took = time.monotonic() - begin
            over.set()
            return live, took, await asyncio.gather(*dead)

    live, took, dead = run(scenario())
    assert live.success
    assert took < 0.5
    assert {result.reason for result in dead} == {Reason.DNS}


def test_a_name_that_hangs_does_not_hold_up_the_programs_end():
    program = """
import asyncio, socket, time
from dolcevita.probes.resolve import Unresolved, resolve
socket.getaddrinfo = lambda *a, **k: time.sleep(60)
try:
    asyncio.run(resolve("dead.example", 0.2))
except Unresolved as error:
    print(error)
"""
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "No answer from a name server for dead.example in 0.2 s.\n"
    assert time.monotonic() - begin < 10


def test_an_address_resolves_to_itself_without_a_name_server(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", None)
    assert run(resolve("192.0.2.1", 1)) == ["192.0.2.1"]
    assert run(resolve("2001:db8::1", 1)) == ["2001:db8::1"]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (socket.EAI_NONAME, "The name shop.example does not exist."),
        (socket.EAI_AGAIN, "No name server could be asked for shop.example."),
        (socket.EAI_FAIL, "The name servers of shop.example failed."),
        (socket.EAI_NODATA, "The name shop.example has no address."),
    ],
)
def test_a_name_that_does_not_resolve_says_why(monkeypatch, code, words):
    def fails(*args, **kwargs):
        raise socket.gaierror(code, "resolver's own words")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(Unresolved, match=words):
        run(resolve("shop.example", 1))


def test_every_scheme_has_one_prober_and_none_is_planned_too():
    assert {"http", "https"} <= set(KINDS)
    assert not set(KINDS) & probes.PLANNED
    for scheme, kind in KINDS.items():
        assert scheme in kind.schemes
        assert probes.kind_of(f"{scheme.upper()}://example.com") is kind
    for url in ("nosuch://mail.example.com", "http://[::1/", ""):
        assert probes.kind_of(url) is None


@pytest.mark.parametrize("url", ["", "http://", "http://[::1/", "http://a:99999/", "http://a b/"])
def test_what_is_no_url_is_a_failed_probe(url):
    assert run(attempts(url, budget=0.5)).reason in (Reason.PROTOCOL, Reason.DNS)
