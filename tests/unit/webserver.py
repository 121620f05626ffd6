"""Web servers that behave well or badly, to be probed."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, TypeVar

import uvloop

from dolcevita.probes import Result, Target, curl, http

T = TypeVar("T")
Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]
"""Gets the head of a request, writes what it likes; the connection is closed after it."""


def run(scenario: Awaitable[T]) -> T:
    """Run as the exporter does: on uvloop, with libcurl closed at the end."""

    async def whole() -> T:
        try:
            return await scenario
        finally:
            await curl.close()

    return uvloop.run(whole())


def page(body: bytes = b"fine", status: int = 200, **headers: str) -> Answer:
    """An ordinary answer."""

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    return answer


def raw(*pieces: bytes, pause: float = 0.0) -> Answer:
    """Bytes as they stand, with a pause after each."""

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return answer


async def silence(request: bytes, writer: asyncio.StreamWriter) -> None:
    """Accepts the request and never answers."""
    await asyncio.sleep(60)


def routes(paths: Mapping[str, Answer]) -> Answer:
    """Each path its answer."""

    async def answer(request: bytes, writer: asyncio.StreamWriter) -> None:
        await paths[request.split(b" ")[1].decode()](request, writer)

    return answer


@asynccontextmanager
async def serving(
    answer: Answer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """A server on a free port, which is given."""
    tasks: set[asyncio.Task[Any]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await answer(await reader.readuntil(b"\r\n\r\n"), writer)
            await writer.drain()
        writer.close()
        tasks.discard(task)

    server = await asyncio.start_server(connected, host, 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()


@contextmanager
def blackhole(host: str = "127.0.0.1") -> Iterator[int]:
    """A port that answers no SYN: its backlog is full and nobody accepts."""
    with socket.socket() as listener:
        listener.bind((host, 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        waiting = []
        try:
            for _ in range(4):
                client = socket.socket()
                client.setblocking(False)
                with suppress(BlockingIOError):
                    client.connect(("127.0.0.1", port))
                waiting.append(client)
            yield port
        finally:
            for client in waiting:
                client.close()


@contextmanager
def closed_port() -> Iterator[int]:
    """A port that refuses: bound, so that nobody else gets it, and not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


async def probe(
    url: str, budget: float = 5.0, options: Mapping[str, Any] | None = None, **expect: Any
) -> Result:
    """One attempt of the HTTP prober."""
    target = Target(url, http.Options.model_validate(options or {}), http.Expect(**expect))
    return await http.probe(target, budget)


def sample(result: Result, name: str, **labels: str) -> float:
    """The value of one sample."""
    (value,) = [
        s.value for s in result.samples if s.name == name and labels.items() <= s.labels.items()
    ]
    return value


def has(result: Result, name: str) -> bool:
    """Whether there is such a sample."""
    return any(s.name == name for s in result.samples)
