"""Servers that are no web servers, good and bad, and one attempt of any prober at them."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import trustme

from dolcevita.probes import Kind, Result, Target

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""What a server does with one connection, which is closed after it."""


async def attempt(
    kind: Kind,
    url: str,
    options: Mapping[str, Any] | None = None,
    budget: float = 5.0,
    **expect: Any,
) -> Result:
    """One attempt, with options and expectations as sites.yml has them."""
    target = Target(url, kind.options(**options or {}), kind.expect(**expect))
    return await kind.probe(target, budget)


@asynccontextmanager
async def talking(
    talk: Talk,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    unix: Path | None = None,
) -> AsyncIterator[int]:
    """A server on a free TCP port, which is given, or on a unix socket."""
    tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await talk(reader, writer)
            await writer.drain()
        writer.close()
        tasks.discard(task)

    if unix:
        server: asyncio.Server = await asyncio.start_unix_server(connected, str(unix), ssl=tls)
    else:
        server = await asyncio.start_server(connected, host, 0, ssl=tls)
    try:
        yield 0 if unix else server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()


def says(*lines: str, end: str = "\r\n") -> Talk:
    """Sends these lines and hangs up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write("".join(line + end for line in lines).encode())

    return talk


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads and never answers."""
    while await reader.read(65_536):
        pass


def upgrading(context: ssl.SSLContext) -> Talk:
    """A mail server as far as STARTTLS and one greeting after it."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ready\r\n")
        assert (await reader.readline()).startswith(b"EHLO")
        writer.write(b"250-mail.example.com\r\n250 STARTTLS\r\n")
        assert (await reader.readline()).startswith(b"STARTTLS")
        writer.write(b"220 go on\r\n")
        await writer.drain()
        await writer.start_tls(context)
        assert (await reader.readline()).startswith(b"EHLO")
        writer.write(b"250 welcome within TLS\r\n")

    return talk


def server_context(
    leaf: trustme.LeafCert,
    newest: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    oldest: ssl.TLSVersion | None = None,
) -> ssl.SSLContext:
    """For a server with this certificate and these versions of TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    leaf.configure_cert(context)
    if oldest is not None:
        context.minimum_version = oldest
        context.set_ciphers("ALL:@SECLEVEL=0")
    context.maximum_version = newest
    return context


def self_signed(folder: Path, name: str = "localhost") -> ssl.SSLContext:
    """For a server whose certificate nobody signed."""
    key, pem = folder / "key.pem", folder / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    subprocess.run(
        [*command.split(), "-keyout", key, "-out", pem, "-subj", f"/CN={name}"],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key)
    return context


def seconds(moment: datetime) -> float:
    """Whole unix seconds, as certificates have them."""
    return float(int(moment.timestamp()))
