"""Servers, good and failing, that two exporters can probe at the same time."""

import asyncio
import gzip
import os
import shutil
import ssl
import subprocess
import threading
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest
import trustme

from caddy import caddy
from peers import self_signed, server_context, talking, upgrading
from waiting import free_port, until
from webserver import Answer, blackhole, closed_port, page, raw, serving, silence

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def _redirect(to: str, status: int = 302) -> Answer:
    return page(b"elsewhere", status=status, Location=to)


async def _echo(request: bytes, writer: asyncio.StreamWriter) -> None:
    """The request as the server gets it."""
    await page(request)(request, writer)


async def _method(request: bytes, writer: asyncio.StreamWriter) -> None:
    await page(request.split(b" ")[0])(request, writer)


async def _host(request: bytes, writer: asyncio.StreamWriter) -> None:
    lines = request.decode().split("\r\n")
    await page("\n".join(line for line in lines if line.lower().startswith("host:")).encode())(
        request, writer
    )


def _authorized(value: bytes) -> Answer:
    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        wanted = b"authorization: " + value
        status = 200 if wanted.lower() in request.lower() else 401
        await page(b"inside" if status == 200 else b"outside", status=status)(request, writer)

    return answer


async def _slow_body(request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegin")
    await writer.drain()
    await asyncio.sleep(60)


PAGES: Mapping[str, Answer] = {
    "/": page(b"fine"),
    "/last-modified": page(b"old", Last_Modified="Tue, 14 Jul 2026 19:00:00 GMT"),
    "/not-a-date": page(b"old", Last_Modified="yesterday"),
    "/empty": page(b"", status=204),
    "/404": page(b"none", status=404),
    "/500": page(b"broken", status=500),
    "/503": page(b"down", status=503),
    "/304": raw(b"HTTP/1.1 304 Not Modified\r\n\r\n"),
    "/unsized": raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end"),
    "/1.0": raw(b"HTTP/1.0 200 OK\r\n\r\nold"),
    "/chunked": raw(CHUNKED + b"4\r\nfine\r\n0\r\n\r\n"),
    "/chunked-broken": raw(CHUNKED + b"zz\r\nfine"),
    "/short": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort"),
    "/garbage": raw(b"\x00\x01\x02 no HTTP at all\r\n\r\n"),
    "/nothing": raw(),
    "/silent": silence,
    "/slow-body": _slow_body,
    "/early-hints": raw(
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
    ),
    "/redirect": _redirect("/"),
    "/redirect-301": _redirect("/method", 301),
    "/redirect-303": _redirect("/method", 303),
    "/redirect-307": _redirect("/method", 307),
    "/redirect-308": _redirect("/method", 308),
    "/redirect-to-404": _redirect("/404"),
    "/redirect-nowhere": raw(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"),
    "/redirect-host": _redirect("/host"),
    "/circle": _redirect("/circle"),
    "/300": _redirect("/", 300),
    "/headers": page(b"fine", X_One="1", Server="nginx", X_Empty=""),
    "/twice": raw(
        b"HTTP/1.1 200 OK\r\nX-Twice: one\r\nX-Twice: two\r\nContent-Length: 4\r\n\r\nfine"
    ),
    "/gzip": page(gzip.compress(b"fine " * 100), Content_Encoding="gzip"),
    "/not-gzip": page(b"fine", Content_Encoding="gzip"),
    "/deflate": page(zlib.compress(b"fine " * 100)[2:-4], Content_Encoding="deflate"),
    "/long": page(b"x" * 5000),
    "/json": page(b'{"ok": true, "n": 42, "big": 1e20, "s": "d\\u00e9j\\u00e0", "none": null,'
                  b' "list": [1, 2.5, "x"], "map": {"a": {"b": "c"}}}'),
    "/json-text": page(b'"fine"'),
    "/json-list": page(b'["a", "b", "c"]'),
    "/json-true": page(b"true"),
    "/json-empty": page(b"{}"),
    "/json-nan": page(b'{"n": NaN}'),
    "/json-huge": page(b'{"n": 1e999}'),
    "/json-cut": page(b'{"ok": true'),
    "/json-after": page(b'{"ok": true} and more'),
    "/json-deep": page(b'{"deep": ' + b"[" * 50 + b"]" * 50 + b"}"),
    "/lines": page(b"first\nsecond: 42\nlast\n"),
    "/utf-8": page("déjà vu".encode()),
    "/latin-1": page("déjà vu".encode("latin-1"), Content_Type="text/html; charset=latin-1"),
    "/method": _method,
    "/host": _host,
    "/echo": _echo,
    "/basic": _authorized(b"Basic bWFyaWU6c2VjcmV0"),
    "/bearer": _authorized(b"Bearer secret"),
    "/token": _authorized(b"Token secret"),
    "/oauth": _authorized(b"Bearer granted"),
    "/grant": page(b'{"access_token": "granted", "token_type": "Bearer", "expires_in": 3600}',
                   Content_Type="application/json"),
    "/deny": page(b'{"error": "invalid_client"}', status=401, Content_Type="application/json"),
}  # fmt: skip


async def _pages(request: bytes, writer: asyncio.StreamWriter) -> None:
    target = request.split(b" ")[1].decode()
    await PAGES.get(urlsplit(target).path, PAGES["/404"])(request, writer)


async def _proxy(request: bytes, writer: asyncio.StreamWriter) -> None:
    """Answers as the site would, for any URL."""
    method, url, _ = request.split(b" ", 2)
    if method == b"CONNECT":
        await page(b"no", status=403)(request, writer)
    else:
        await page(b"by proxy: " + url)(request, writer)


async def _banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n")
    await writer.drain()
    await reader.read(1000)


async def _chat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b":irc.example.com NOTICE AUTH\n")
    while line := await reader.readline():
        if line.startswith(b"NICK"):
            writer.write(b"PING :1234\n")
        if line.startswith(b"PONG 1234"):
            writer.write(b":irc.example.com 001 prober welcome\n")


async def _quiet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    await asyncio.sleep(60)


async def _hangup(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"bye\n")


def _dns_answer(packet: bytes) -> bytes:
    query = dns.message.from_wire(packet)
    question = query.question[0]
    answer = dns.message.make_response(query)
    name = question.name.to_text()
    kind = dns.rdatatype.to_text(question.rdtype)
    if name.startswith("none."):
        answer.set_rcode(dns.rcode.NXDOMAIN)
    elif name.startswith("failing."):
        answer.set_rcode(dns.rcode.SERVFAIL)
    elif kind == "A":
        answer.answer.append(dns.rrset.from_text(name, 300, "IN", "A", "192.0.2.1", "192.0.2.2"))
        answer.authority.append(dns.rrset.from_text(name, 300, "IN", "NS", "ns1.example.com."))
        answer.additional.append(
            dns.rrset.from_text("ns1.example.com.", 300, "IN", "A", "192.0.2.53")
        )
    elif kind == "SOA":
        soa = "ns1.example.com. root.example.com. 2026071401 3600 600 86400 300"
        answer.answer.append(dns.rrset.from_text(name, 300, "IN", "SOA", soa))
    return answer.to_wire()


class _Dns(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if b"\x06silent" not in data:
            self.transport.sendto(_dns_answer(data), addr)


async def _dns_over_tcp(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    length = int.from_bytes(await reader.readexactly(2))
    packet = _dns_answer(await reader.readexactly(length))
    writer.write(len(packet).to_bytes(2) + packet)


@asynccontextmanager
async def _name_server() -> AsyncIterator[int]:
    async with talking(_dns_over_tcp) as port:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(_Dns, ("127.0.0.1", port))
        try:
            yield port
        finally:
            transport.close()


class Files:
    """Certificates and keys for both sides."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.ca = trustme.CA()
        self.ca_file = self.write("ca.pem", self.ca.cert_pem.bytes())
        client = self.ca.issue_cert("client")
        self.client_cert = self.write("client.pem", client.cert_chain_pems[0].bytes())
        self.client_key = self.write("client.key", client.private_key_pem.bytes())
        other = trustme.CA()
        self.other_ca_file = self.write("other.pem", other.cert_pem.bytes())
        self.pair = self.write(
            "pair.pem", self.ca.issue_cert("localhost").private_key_and_cert_chain_pem.bytes()
        )
        self.body = self.write("body", b"from a file")
        self.secret = self.write("secret", b"secret\n")
        self.user = self.write("user", b"marie\n")

    def write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def contexts(self) -> dict[str, ssl.SSLContext]:
        now = datetime.now(UTC)
        issue = self.ca.issue_cert
        intermediate = self.ca.create_child_ca()
        asking = server_context(issue("localhost"))
        asking.verify_mode = ssl.CERT_REQUIRED
        asking.load_verify_locations(self.ca_file)
        # TLS 1.3 tells a client too late that its certificate is missing.
        asking.maximum_version = ssl.TLSVersion.TLSv1_2
        old = server_context(
            issue("localhost"), newest=ssl.TLSVersion.TLSv1_1, oldest=ssl.TLSVersion.TLSv1
        )
        return {
            "tls": server_context(issue("localhost", "127.0.0.1")),
            "tls12": server_context(issue("localhost"), newest=ssl.TLSVersion.TLSv1_2),
            "tls11": old,
            "expired": server_context(issue("localhost", not_after=now - timedelta(days=1))),
            "soon": server_context(issue("localhost", not_after=now + timedelta(days=2))),
            "wrong_name": server_context(issue("elsewhere.example")),
            "self_signed": self_signed(self.folder),
            "intermediate": server_context(intermediate.issue_cert("localhost")),
            "asking": asking,
        }


@contextmanager
def _nginx(folder: Path, files: Files) -> Iterator[dict[str, int]]:
    """nginx, where it is installed: HTTP/2 over TLS, and a gRPC health service."""
    if not shutil.which("nginx"):
        yield {}
        return
    folder.mkdir()
    h2, grpc, grpc_down, grpc_tls = (free_port() for _ in range(4))
    (folder / "serving").write_bytes(b"\0\0\0\0\2\x08\x01")
    (folder / "down").write_bytes(b"\0\0\0\0\2\x08\x02")

    def health(port: int, file: str, tls: str = "") -> str:
        return f"""
          server {{
            listen 127.0.0.1:{port} {"ssl" if tls else ""} http2; {tls}
            location / {{
              rewrite ^ /{file} break; proxy_method GET; add_trailer grpc-status 0;
              proxy_pass http://unix:{folder}/files;
            }}
          }}"""

    tls = f"ssl_certificate {files.pair}; ssl_certificate_key {files.pair};"
    (folder / "nginx.conf").write_text(
        f"""
        {"user root;" if os.getuid() == 0 else ""}
        daemon off; pid {folder}/pid; error_log stderr; worker_processes 1;
        events {{}}
        http {{
          access_log off;
          client_body_temp_path {folder}; proxy_temp_path {folder};
          fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
          server {{
            listen 127.0.0.1:{h2} ssl http2; {tls}
            location / {{ return 200 "fine"; }}
            location /404 {{ return 404; }}
          }}
          {health(grpc, "serving")} {health(grpc_down, "down")} {health(grpc_tls, "serving", tls)}
          server {{ listen unix:{folder}/files; root {folder}; default_type application/grpc; }}
        }}
        """
    )
    process = subprocess.Popen(
        ["nginx", "-c", folder / "nginx.conf", "-p", folder], stderr=subprocess.DEVNULL
    )
    try:
        until(lambda: (folder / "pid").exists() and (folder / "pid").read_text(), "nginx")
        yield {"h2": h2, "grpc": grpc, "grpc_down": grpc_down, "grpc_tls": grpc_tls}
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def all_targets(folder: Path) -> Iterator[tuple[dict[str, Any], Files]]:
    """Every server by name: its port, or the path of its socket; and the files for them."""
    files = Files(folder / "files")
    places: dict[str, Any] = {"socket": folder / "app.sock", "no_socket": folder / "none.sock"}
    started, stop = threading.Event(), asyncio.Event()

    async def serve() -> None:
        contexts = files.contexts()
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            places["http"] = await enter(serving(_pages))
            places["proxy"] = await enter(serving(_proxy))
            with suppress(OSError):
                places["http6"] = await enter(serving(_pages, host="::1"))
            for name, context in contexts.items():
                places[name] = await enter(serving(_pages, context))
            places["stalled_tls"] = await enter(talking(_quiet))
            places["banner"] = await enter(talking(_banner))
            places["chat"] = await enter(talking(_chat))
            places["quiet"] = await enter(talking(_quiet))
            places["hangup"] = await enter(talking(_hangup))
            places["tls_banner"] = await enter(talking(_banner, contexts["tls"]))
            places["tls_expired"] = await enter(talking(_banner, contexts["expired"]))
            places["starttls"] = await enter(talking(upgrading(contexts["tls"])))
            places["starttls_expired"] = await enter(talking(upgrading(contexts["expired"])))
            await enter(talking(_banner, unix=places["socket"]))
            places["dns"] = await enter(_name_server())
            places["loop"] = asyncio.get_running_loop()
            started.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    with blackhole() as dropping, closed_port() as closed:
        places |= {"dropping": dropping, "closed": closed}
        thread.start()
        if not started.wait(20):
            pytest.fail("the servers do not start")
        loop = places.pop("loop")
        try:
            with ExitStack() as stack:
                places |= stack.enter_context(_nginx(folder / "nginx", files))
                with suppress(pytest.skip.Exception):
                    places["h3"] = stack.enter_context(caddy(folder / "caddy", files.pair))
                yield places, files
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(10)
