"""Every failure reason of every kind, at a real server that fails so, in the time that was asked.

The page of a kind tells its reasons: one that is told and not produced here fails, and so does one
that is produced and not told.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import dns.message
import dns.rcode
import pytest
import trustme
from aiohttp import web

from dolcevita import probes
from dolcevita.probes import KINDS, Kind, Reason, Result, Target, chromium
from peers import Talk, mute, says, server_context, talking
from test_probes_icmp import apart, needs_namespaces
from webserver import blackhole, closed_port, page, run, serving

PAGES = Path(__file__).parents[2] / "docs" / "checks"
BY_NAME: Mapping[str, Kind] = {kind.name: kind for kind in KINDS.values()}

BUDGET = 0.6
"""Seconds that a probe may take, both attempts together."""

MORE = 1.0
"""Seconds beyond them, for a machine that is busy with other tests."""


class Fault(NamedTuple):
    """A URL with the names of servers in it, options and expectations, and what is wrong."""

    reason: Reason
    url: str
    options: Mapping[str, Any] = {}
    expect: Mapping[str, Any] = {}


NOWHERE = "does-not-exist.invalid:8080"
MISSING = {"ca_file": "/does/not/exist"}


def unreached(plain: str, secure: str, end: str = "", **options: Any) -> list[Fault]:
    """What every kind over TCP has, up to a certificate; `options` are for TLS."""
    return [
        Fault(Reason.DNS, f"{plain}://{NOWHERE}{end}"),
        Fault(Reason.CONNECT, f"{plain}://127.0.0.1:{{closed}}{end}"),
        Fault(Reason.CONNECT, f"{plain}://127.0.0.1:{{dropping}}{end}"),
        Fault(Reason.TLS, f"{secure}://127.0.0.1:{{greets}}{end}", options),
        Fault(Reason.TIMEOUT, f"{secure}://127.0.0.1:{{mute}}{end}", options),
        Fault(Reason.CERTIFICATE, f"{secure}://localhost:{{untrusted}}{end}", options),
    ]


def silent(url: str, **options: Any) -> Fault:
    return Fault(Reason.TIMEOUT, url, options)


def mail(name: str, refusal: str) -> list[Fault]:
    """The kinds of a conversation."""
    return [
        *unreached(name, f"{name}s"),
        silent(f"{name}://127.0.0.1:{{mute}}"),
        Fault(Reason.PROTOCOL, f"{name}://127.0.0.1:{{hangs_up}}"),
        Fault(Reason.STATUS, f"{name}://127.0.0.1:{{{refusal}}}"),
        Fault(Reason.CONTENT, f"{name}://127.0.0.1:{{{name}}}", {}, {"greeting": "never"}),
        Fault(Reason.LOCAL, f"{name}s://127.0.0.1:{{untrusted}}", MISSING),
    ]


SECURE = {"tls": True, "server_name": "localhost"}
LINE = {"query_response": [{"expect": "^never"}]}
DIALOGUE = [
    ("{untrusted}", Reason.CERTIFICATE, SECURE),
    ("{greets}", Reason.TLS, SECURE),
    ("{mute}", Reason.TIMEOUT, SECURE),
    ("{mute}", Reason.TIMEOUT, LINE),
    ("{hangs_up}", Reason.PROTOCOL, LINE),
    ("{greets}", Reason.CONTENT, LINE),
    ("{greets}", Reason.LOCAL, {**SECURE, **MISSING}),
]


def web_page(name: str) -> list[Fault]:
    """The kinds that look at a page."""
    http, https = ("http", "https") if name == "http" else (f"{name}+http", f"{name}+https")
    return [
        *unreached(http, https, "/"),
        silent(f"{http}://127.0.0.1:{{mute}}/"),
        silent(f"{http}://127.0.0.1:{{web}}/half"),
        Fault(Reason.PROTOCOL, f"{http}://127.0.0.1:{{hangs_up}}/"),
        Fault(Reason.REDIRECT, f"{http}://127.0.0.1:{{web}}/circle"),
        Fault(Reason.STATUS, f"{http}://127.0.0.1:{{web}}/404"),
    ]


QUESTION = "/example.com?type=A"
TCP = {"transport": "tcp"}

FAULTS: Mapping[str, list[Fault]] = {
    "http": [
        *web_page("http"),
        Fault(Reason.PROTOCOL, "http://127.0.0.1:{greets}/"),
        Fault(Reason.CONTENT, "http://127.0.0.1:{web}/", {}, {"contains": "never"}),
        Fault(Reason.LOCAL, "http://127.0.0.1:{web}/", {"body_file": "/does/not/exist"}),
    ],
    "page": [
        *web_page("page"),
        Fault(Reason.CONTENT, "page+http://127.0.0.1:{web}/", {},
              {"security_headers": ["referrer-policy"]}),
    ],
    "tcp": [
        *unreached("tcp", "tcp", tls=True),
        *(Fault(why, f"tcp://localhost:{to}", options) for to, why, options in DIALOGUE),
    ],
    "unix": [
        Fault(Reason.CONNECT, "unix://{folder}/none"),
        *(Fault(why, f"unix://{{folder}}/{to[1:-1]}", given) for to, why, given in DIALOGUE),
    ],
    "tls": [
        *unreached("tls", "tls"),
        Fault(Reason.LOCAL, "tls://127.0.0.1:{untrusted}", MISSING),
    ],
    "dns": [
        *unreached("dns", "dns", QUESTION, transport="tls"),
        silent(f"dns://127.0.0.1:{{mute}}{QUESTION}", **TCP),
        Fault(Reason.CONNECT, f"dns://127.0.0.1:{{closed}}{QUESTION}"),
        Fault(Reason.PROTOCOL, f"dns://127.0.0.1:{{hangs_up}}{QUESTION}", TCP),
        Fault(Reason.STATUS, f"dns://127.0.0.1:{{names}}{QUESTION}", TCP),
        Fault(Reason.CONTENT, f"dns://127.0.0.1:{{names}}{QUESTION}", TCP,
              {"rcode": "NXDOMAIN", "answer": "192.0.2.1"}),
    ],
    "websocket": [
        *unreached("ws", "wss", "/"),
        silent("ws://127.0.0.1:{mute}/"),
        Fault(Reason.PROTOCOL, "ws://127.0.0.1:{hangs_up}/"),
        Fault(Reason.STATUS, "ws://127.0.0.1:{web}/404"),
        Fault(Reason.CONTENT, "ws://127.0.0.1:{chat}/", LINE),
        Fault(Reason.LOCAL, "wss://127.0.0.1:{untrusted}/", MISSING),
    ],
    "grpc": [
        *unreached("grpc", "grpcs"),
        silent("grpc://127.0.0.1:{mute}"),
        Fault(Reason.PROTOCOL, "grpc://127.0.0.1:{hangs_up}"),
        Fault(Reason.STATUS, "grpc://127.0.0.1:{health}", {"service": "shop.Cart"}),
        Fault(Reason.LOCAL, "grpcs://127.0.0.1:{untrusted}", MISSING),
    ],
    "smtp": mail("smtp", "no_smtp"),
    "imap": mail("imap", "no_imap"),
    "pop3": mail("pop3", "no_pop3"),
    "ftp": mail("ftp", "no_ftp"),
    "heartbeat": [
        Fault(Reason.MISSED, "heartbeat://backup",
              {"period": "1ms", "grace": "1ms", "token": "a-token-of-this-test-alone"}),
    ],
    "domain": [
        Fault(Reason.EXPIRED, "domain://example.com", {"server": "http://127.0.0.1:{web}/none/"}),
        Fault(Reason.STATUS, "domain://example.com", {"server": "http://127.0.0.1:{web}/rdap/"},
              {"status": "client transfer prohibited"}),
    ],
    "icmp": [Fault(Reason.DNS, "icmp://does-not-exist.invalid")],
}  # fmt: skip

APART = {"icmp": {Reason.CONNECT, Reason.LOCAL}}
"""Those that take a network of one's own: the tests below."""

IN_A_BROWSER = [
    # Of those that wait, one: a browser takes seconds to begin.
    *(
        fault
        for fault in web_page("browser")
        if "{dropping}" not in fault.url and "{mute}" not in fault.url
    ),
    Fault(Reason.CONTENT, "browser+http://127.0.0.1:{web}/",
          {"steps": [{"expect": "never"}]}),
    Fault(Reason.LOCAL, "browser+http://127.0.0.1:{web}/",
          {"steps": [{"fill_file": {"#name": "/does/not/exist"}}]}),
]  # fmt: skip


def greets(*lines: str) -> Talk:
    """Says these lines and stays."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await writer.drain()
        await mute(reader, writer)

    return talk


async def names(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A name server that knows no name."""
    query = dns.message.from_wire(await reader.readexactly(int.from_bytes(await reader.read(2))))
    answer = dns.message.make_response(query)
    answer.set_rcode(dns.rcode.NXDOMAIN)
    wire = answer.to_wire()
    writer.write(len(wire).to_bytes(2) + wire)


async def paths(request: bytes, writer: asyncio.StreamWriter) -> None:
    rdap = b'{"objectClassName": "domain", "ldhName": "example.com", "status": ["active"]}'
    known = {
        "/": page(b"<!doctype html><title>Shop</title>fine", Content_Type="text/html"),
        "/circle": page(b"", 302, Location="/circle"),
        "/rdap/domain/example.com": page(rdap, Content_Type="application/rdap+json"),
    }
    path = request.split(b" ")[1].decode()
    if path == "/half":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of")
        await asyncio.sleep(60)
    await known.get(path, page(b"", 404))(request, writer)


async def chat(request: web.Request) -> web.WebSocketResponse:
    talk = web.WebSocketResponse()
    await talk.prepare(request)
    await talk.send_str("hello")
    await talk.receive()
    return talk


TALKS: Mapping[str, Talk] = {
    "mute": mute,
    "greets": greets("hello"),
    "hangs_up": says(),
    "names": names,
    "smtp": greets("220 mail ESMTP"),
    "imap": greets("* OK ready"),
    "pop3": greets("+OK ready"),
    "ftp": greets("220 files"),
    "no_smtp": says("554 not you"),
    "no_imap": says("* BYE not you"),
    "no_pop3": says("-ERR not you"),
    "no_ftp": says("421 not you"),
}


@asynccontextmanager
async def chatting() -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/", chat)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@pytest.fixture(scope="module")
def health() -> Any:
    """The port of grpcio's health server, for whose `shop.Cart` nobody serves."""
    grpc = pytest.importorskip("grpc")
    service = pytest.importorskip("grpc_health.v1.health")
    from concurrent import futures

    from grpc_health.v1 import health_pb2, health_pb2_grpc

    server = grpc.server(futures.ThreadPoolExecutor(1))
    servicer = service.HealthServicer()
    servicer.set("shop.Cart", health_pb2.HealthCheckResponse.NOT_SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None)


@asynccontextmanager
async def town(folder: Path) -> AsyncIterator[dict[str, Any]]:
    """Every server, on TCP and on a unix socket of its name."""
    places: dict[str, Any] = {"folder": folder}
    untrusted = server_context(trustme.CA().issue_cert("localhost", "127.0.0.1"))
    with closed_port() as closed, blackhole() as dropping:
        places |= {"closed": closed, "dropping": dropping}
        async with AsyncExitStack() as stack:
            for name, talk in TALKS.items():
                places[name] = await stack.enter_async_context(talking(talk))
                await stack.enter_async_context(talking(talk, unix=folder / name))
            places["untrusted"] = await stack.enter_async_context(talking(mute, untrusted))
            unix = folder / "untrusted"
            await stack.enter_async_context(talking(mute, untrusted, unix=unix))
            places["web"] = await stack.enter_async_context(serving(paths))
            places["chat"] = await stack.enter_async_context(chatting())
            yield places


def filled(value: Any, places: Mapping[str, Any]) -> Any:
    return value.format(**places) if isinstance(value, str) else value


async def probed(kind: Kind, fault: Fault, places: Mapping[str, Any], budget: float) -> Result:
    options = {key: filled(value, places) for key, value in fault.options.items()}
    target = Target(
        filled(fault.url, places),
        kind.options.model_validate(options),
        kind.expect.model_validate(fault.expect),
    )
    if kind.settle:
        await kind.settle(target, 5.0)
    if kind.name == "heartbeat":
        probes.heartbeat.ping([target.options], "a-token-of-this-test-alone")
        await asyncio.sleep(0.01)
    return await probes.probe(kind, target, budget)


async def all_of(kind: Kind, faults: list[Fault], places: Mapping[str, Any]) -> None:
    for fault in faults:
        begin = time.monotonic()
        result = await probed(kind, fault, places, BUDGET)
        took = time.monotonic() - begin
        assert result.reason is fault.reason, (fault, result.reason, result.detail)
        assert result.detail.endswith("."), result.detail
        assert result.duration < BUDGET + MORE, fault
        # A page's assets and a registration are looked up beside the scrapes.
        assert kind.settle or took < BUDGET + MORE, fault
        if fault.reason is Reason.TIMEOUT:
            assert not result.phases or not result.phases[-1].finished, fault


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # A path of more than 107 bytes cannot be bound.
    return tmp_path_factory.mktemp("f")


@pytest.mark.parametrize("name", FAULTS)
def test_a_kind_fails_for_each_of_its_reasons_in_time(name: str, folder: Path, request: Any):
    needed = {"health": request.getfixturevalue("health")} if name == "grpc" else {}

    async def scenario() -> None:
        try:
            async with town(folder) as places:
                await all_of(BY_NAME[name], FAULTS[name], places | needed)
        finally:
            await probes.close()

    run(scenario())


@pytest.mark.skipif(chromium.program() is None, reason="takes Chromium")
@pytest.mark.xdist_group("chromium")
def test_a_browser_fails_for_each_of_its_reasons(folder: Path):
    pytest.importorskip("playwright", reason="takes the extra `browser`")
    kind = BY_NAME["browser"]

    async def scenario() -> None:
        try:
            async with town(folder) as places:
                await chromium.here().browser()
                for fault in IN_A_BROWSER:
                    given = {"screenshots": folder / "pictures", **fault.options}
                    budget = 20.0 if fault.reason is Reason.TIMEOUT else 60.0
                    result = await probed(kind, fault._replace(options=given), places, budget)
                    assert result.reason is fault.reason, (fault, result.reason, result.detail)
                    assert result.duration < budget + MORE, fault
        finally:
            await probes.close()

    run(scenario())


@needs_namespaces
def test_a_ping_without_a_way_and_one_without_a_right():
    nowhere = apart("", "icmp://192.0.2.1", budget=BUDGET)
    assert nowhere["reason"] == Reason.CONNECT
    assert float(str(nowhere["seconds"])) < BUDGET + MORE


@pytest.mark.parametrize("name", BY_NAME)
def test_the_reasons_that_a_page_tells_are_those_that_were_produced(name: str):
    _, _, told = (PAGES / f"{name}.md").read_text().partition("\n## Reasons\n")
    faults = IN_A_BROWSER if name == "browser" else FAULTS[name]
    produced = {fault.reason for fault in faults} | APART.get(name, set())
    assert set(re.findall(r"`([a-z]+)`", told)) & set(Reason) == produced


def test_no_reason_is_without_a_test():
    produced = {fault.reason for faults in (*FAULTS.values(), IN_A_BROWSER) for fault in faults}
    # That a prober itself fails is tested with the second attempts.
    assert produced == set(Reason) - {Reason.INTERNAL}
