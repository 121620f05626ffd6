"""The WebSocket prober against aiohttp's server, and servers that break the protocol."""

import asyncio
import base64
import hashlib
import ssl
import time
import tracemalloc
from contextlib import asynccontextmanager

import pytest
import trustme
from aiohttp import WSMsgType, web

from dolcevita.probes import Reason
from dolcevita.probes.websocket import KIND
from peers import attempt, mute, says, server_context, talking
from webserver import blackhole, closed_port, has, run, sample


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    ca = trustme.CA()
    ca.file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(ca.file)
    return ca


class Server:
    """aiohttp's: greets, repeats what it is told; remembers the handshake and the farewell."""

    def __init__(self):
        self.headers = {}
        self.closed_with = None

    async def talk(self, request):
        self.headers = dict(request.headers)
        if request.path == "/private" and self.headers.get("Authorization") != "Bearer t0ken":
            raise web.HTTPForbidden
        talk = web.WebSocketResponse(protocols=["chat.v2"], heartbeat=0.05)
        await talk.prepare(request)
        await talk.send_str("hello, you are number 42")
        async for message in talk:
            if message.type is WSMsgType.TEXT:
                await talk.send_str(f"you said: {message.data}")
        self.closed_with = talk.close_code
        return talk

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"):
        app = web.Application()
        app.router.add_get("/{path:.*}", self.talk)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, host, 0, ssl_context=tls)
        await site.start()
        try:
            yield runner.addresses[0][1]
        finally:
            await runner.cleanup()


def probed(server, options=None, path="/", tls=None, host="127.0.0.1", budget=5.0, **expect):
    async def scenario():
        async with server.serving(tls, "::1" if host == "[::1]" else "127.0.0.1") as port:
            url = f"{'wss' if tls else 'ws'}://{host}:{port}{path}"
            return await attempt(KIND, url, options, budget, **expect)

    return run(scenario())


def test_a_handshake_is_measured_as_blackbox_exporter_does():
    server = Server()
    result = probed(server, path="/chat?room=1")
    assert result.success, result.detail
    assert sample(result, "probe_websocket_status_code") == 101
    assert sample(result, "probe_websocket_connection_upgraded") == 1
    assert sample(result, "probe_websocket_failed_due_to_regex") == 0
    assert sample(result, "probe_ip_protocol") == 4
    for phase in ("resolve", "connect", "processing"):
        assert sample(result, "probe_websocket_duration_seconds", phase=phase) > 0
    assert server.headers["Host"].startswith("127.0.0.1:")
    assert server.headers["User-Agent"].startswith("dolcevita/")
    assert {s.name for s in result.samples} <= set(KIND.help)


def test_it_says_goodbye():
    server = Server()
    probed(server)
    assert server.closed_with == 1000


def test_over_ipv6():
    result = probed(Server(), host="[::1]")
    assert result.success
    assert sample(result, "probe_ip_protocol") == 6


def test_over_tls(ca):
    tls = server_context(ca.issue_cert("localhost"))
    result = probed(Server(), {"ca_file": ca.file}, tls=tls, host="localhost")
    assert result.success, result.detail
    assert has(result, "probe_ssl_earliest_cert_expiry")
    assert sample(result, "probe_websocket_duration_seconds", phase="tls") > 0


def test_a_certificate_for_another_name(ca):
    tls = server_context(ca.issue_cert("www.example.com"))
    result = probed(Server(), {"ca_file": ca.file}, tls=tls, host="localhost")
    assert result.reason is Reason.CERTIFICATE


def test_messages_go_both_ways():
    steps = [
        {"expect": r"number (\d+)", "send": "I am ${1}"},
        {"expect": "^you said: I am 42$"},
        {"send": "x" * 70_000},
        {"expect": "^you said: x+$"},
    ]
    result = probed(Server(), {"query_response": steps})
    assert result.success, result.detail
    assert sample(result, "probe_websocket_duration_seconds", phase="transfer") > 0


def test_a_message_that_does_not_match():
    result = probed(Server(), {"query_response": [{"expect": "number 43"}]})
    assert result.reason is Reason.CONTENT
    assert "sends 'hello, you are number 42', expected a message that matches" in result.detail
    assert sample(result, "probe_websocket_failed_due_to_regex") == 1
    assert sample(result, "probe_websocket_connection_upgraded") == 1


def test_a_secret_message_that_the_server_repeats_is_not_told(tmp_path):
    (tmp_path / "secret").write_text("s3same\n")
    steps = [
        {"expect": "hello"},
        {"send_file": tmp_path / "secret"},
        {"expect": "welcome"},
    ]
    result = probed(Server(), {"query_response": steps})
    assert result.reason is Reason.CONTENT
    assert "you said: ***" in result.detail and "s3same" not in repr(result)


def test_a_message_that_does_not_come_is_a_timeout_in_time():
    steps = [{"expect": "hello"}, {"expect": "more"}]
    begin = time.perf_counter()
    result = probed(Server(), {"query_response": steps}, budget=0.5)
    assert result.reason is Reason.TIMEOUT
    assert time.perf_counter() - begin < 0.9


def test_pings_are_answered_while_waiting():
    """aiohttp hangs up on a peer that leaves its pings without an answer."""
    steps = [{"expect": "hello"}, {"expect": "more"}]
    result = probed(Server(), {"query_response": steps}, budget=0.4)
    assert result.reason is Reason.TIMEOUT


def test_headers_and_authorization(tmp_path):
    (tmp_path / "token").write_text("t0ken\n")
    server = Server()
    for options in (
        {"headers": {"Authorization": "Bearer t0ken", "Origin": "https://a.example"}},
        {"authorization": {"credentials_file": tmp_path / "token"}},
    ):
        assert probed(server, options, path="/private").success
    (tmp_path / "header").write_text("Bearer t0ken\n")
    options = {"header_files": {"authorization": tmp_path / "header"}, "headers": {"Host": "me"}}
    assert probed(server, options, path="/private").success
    assert server.headers["Host"] == "me"
    assert probed(server, {"basic_auth": {"username": "u", "password": "p"}}).success
    assert server.headers["Authorization"] == "Basic dTpw"


def test_a_handshake_that_is_refused():
    result = probed(Server(), path="/private")
    assert result.reason is Reason.STATUS
    assert result.detail.endswith("/private answers with 403, expected 101.")
    assert sample(result, "probe_websocket_status_code") == 403
    assert sample(result, "probe_websocket_connection_upgraded") == 0


def test_a_header_file_that_is_missing_or_would_smuggle(tmp_path):
    options = {"header_files": {"X-Token": tmp_path / "none"}}
    assert probed(Server(), options).reason is Reason.LOCAL
    (tmp_path / "none").write_text("a\r\nX-Evil: b")
    assert probed(Server(), options).reason is Reason.LOCAL


def test_a_subprotocol():
    options = {"subprotocols": ["chat.v3", "chat.v2"]}
    assert probed(Server(), options, subprotocol="chat.v2").success
    result = probed(Server(), options, subprotocol="chat.v3")
    assert result.reason is Reason.CONTENT
    assert "chooses the subprotocol 'chat.v2', expected 'chat.v3'" in result.detail
    result = probed(Server(), subprotocol="chat.v2")
    assert "chooses no subprotocol" in result.detail


def raw(*frames, headers="", accept=None, pause=0.0):
    """A server with a handshake and frames of its own making."""

    async def talk(reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = head.split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
        magic = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        right = base64.b64encode(hashlib.sha1(f"{key}{magic}".encode()).digest()).decode()
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: WebSocket", "Connection: Upgrade"]
        lines.append(f"Sec-WebSocket-Accept: {accept or right}")
        writer.write(("\r\n".join(lines) + f"\r\n{headers}\r\n").encode())
        for frame in frames:
            writer.write(frame)
            await writer.drain()
            await asyncio.sleep(pause)

    return talk


def answered(talk, steps=({"expect": "hello"},), budget=2.0):
    async def scenario():
        async with talking(talk) as port:
            return await attempt(
                KIND, f"ws://127.0.0.1:{port}", {"query_response": list(steps)}, budget
            )

    return run(scenario())


def test_a_message_in_fragments_with_a_ping_between_them():
    frames = [b"\x01\x03hel", b"\x89\x02hi", b"\x8a\x00", b"\x80\x02lo"]
    assert answered(raw(*frames, pause=0.02)).success


def test_a_message_in_bytes():
    assert answered(raw(b"\x82\x05hello")).success


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (b"\xc1\x05hello", "a frame that RFC 6455 does not know"),
        (b"\x83\x00", "a frame that RFC 6455 does not know"),
        (b"\x81\x85aaaahello", "a frame that RFC 6455 does not know"),
        (b"\x80\x05hello", "mixes up the fragments"),
        (b"\x01\x03hel\x81\x02lo", "mixes up the fragments"),
        (b"\x89\x7e\x00\x80" + b"x" * 128, "a control frame that is too long"),
        (b"\x81\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", "a message of more than 1,000,000 bytes"),
        (b"\x88\x02\x03\xf3", "says goodbye with code 1011"),
        (b"\x81\x05hel", "closed the connection in the middle of a message"),
    ],
)
def test_frames_that_break_the_protocol(frame, words):
    result = answered(raw(frame))
    assert result.reason is Reason.PROTOCOL
    assert words in result.detail


def test_fragments_without_end_take_no_memory():
    async def talk(reader, writer):
        await raw()(reader, writer)
        writer.write(b"\x01\x00")
        while True:
            writer.write((b"\x00\x7e\xff\xff" + b"x" * 65_535) * 8)
            await writer.drain()

    tracemalloc.start()
    try:
        result = answered(talk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.reason is Reason.PROTOCOL
    assert peak < 10_000_000


@pytest.mark.parametrize(
    ("talk", "words"),
    [
        (raw(accept="wrong"), "does not repeat the key"),
        (raw(headers="Sec-WebSocket-Extensions: permessage-deflate\r\n"), "an extension nobody"),
        (raw(headers="Sec-WebSocket-Protocol: x\r\n"), "a subprotocol nobody offered"),
        (says("HTTP/1.1 101 ok", "Connection: Upgrade", ""), "no right Upgrade header"),
        (says("SSH-2.0-OpenSSH_9.2", ""), "does not answer in HTTP/1.1"),
        (says(), "closed the connection before it answered"),
        (says("HTTP/1.1 101 ok", *["X-Endless: " + "x" * 1000] * 100), "headers without end"),
    ],
)
def test_handshakes_that_break_the_protocol(talk, words):
    result = answered(talk)
    assert result.reason is Reason.PROTOCOL
    assert words in result.detail


def test_a_server_that_is_silent():
    begin = time.perf_counter()
    result = answered(mute, budget=0.5)
    assert result.reason is Reason.TIMEOUT
    assert "accepts connections but does not answer in time" in result.detail
    assert time.perf_counter() - begin < 0.9


def test_no_tls_no_connection_no_name():
    async def scenario():
        async with talking(says("hello")) as port:
            return await attempt(KIND, f"wss://127.0.0.1:{port}")

    assert run(scenario()).reason is Reason.TLS
    with closed_port() as port:
        assert run(attempt(KIND, f"ws://127.0.0.1:{port}")).reason is Reason.CONNECT
    with blackhole() as port:
        result = run(attempt(KIND, f"ws://127.0.0.1:{port}", budget=0.6))
    assert result.reason is Reason.CONNECT and result.duration < 0.5
    assert run(attempt(KIND, "ws://chat.invalid")).reason is Reason.DNS
