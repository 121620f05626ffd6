"""Servers that mean harm to the real exporter fail in time, in little memory, and alone."""

import asyncio
import math
import random
import re
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families as parse

from dolcevita.exporter.app import TIMEOUT_HEADER
from peers import Talk, talking
from sites import files
from waiting import free_port, until
from webserver import blackhole

TIMEOUT = 2.0
SCRAPES = 4
MOST_MEMORY = 50 * 2**20
"""Bytes above idle."""

EXPORTER = """
import socket
from dolcevita.cli import app

ask = socket.getaddrinfo

def answer(host, *args, **kwargs):
    if host != b"many.example":
        return ask(host, *args, **kwargs)
    addresses = (f"127.{1 + n // 250}.0.{1 + n % 250}" for n in range(10_000))
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]

socket.getaddrinfo = answer
app()
"""
"""The exporter with a name server that has 10,000 addresses for a name: no real one can."""

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"


# ---- The servers -----------------------------------------------------------------------------


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.read(65_536):
        pass


async def fine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(HEAD + b"Content-Length: 4\r\n\r\nfine")


async def invalid(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(bytes(range(256)) * 100)


async def redirects(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
    number = int(path[1:] or 0)
    if number == 1000:
        writer.write(HEAD + b"Content-Length: 4\r\n\r\nhere")
    else:
        writer.write(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n")
        writer.write(b"Location: /%d\r\n\r\n" % (number + 1))


def sending(begin: bytes, piece: bytes, pause: float = 0.0) -> Talk:
    """Sends `begin`, and `piece` again and again."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begin)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause)

    return talk


def bomb() -> Talk:
    """A page of zeros, a thousand times larger than what is sent of it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(2**20)
    # After a full flush what comes depends on nothing before: the same piece fits again.
    begin, piece = (packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return sending(HEAD + b"Content-Encoding: gzip\r\n\r\n" + begin, piece)


def babel() -> Talk:
    """A page on which an expression that counts to hundreds keeps hundreds of places in mind."""
    page = bytes(random.Random(1).choices(b"ab", k=300_000))
    return sending(HEAD + b"Content-Length: %d\r\n\r\n" % len(page) + page, b"", 60.0)


def rounds() -> Talk:
    """JSON whose list is long, so that an expression goes through it for each of its entries."""
    page = b'{"l": [' + b"0," * 9000 + b'0], "s": "' + b"x" * 900_000 + b'"}'
    return sending(HEAD + b"Content-Length: %d\r\n\r\n" % len(page) + page, b"", 60.0)


HEADER = b"X-More: " + b"x" * 1000 + b"\r\n"

LATE_OR_WRONG = {"content", "timeout"}
"""As much is read as the time or the limit allows."""

HOSTILE: dict[str, tuple[str, Talk, set[str]]] = {
    # By name: the URL, what is behind it, and the reasons that are right, any for none.
    "silent": ("http://127.0.0.1:{}/", silent, {"timeout"}),
    "dribble": ("http://127.0.0.1:{}/", sending(HEAD + b"\r\n", b".", 1.0), {"timeout"}),
    "slow-headers": ("http://127.0.0.1:{}/", sending(HEAD, b"X", 1.0), {"timeout"}),
    "headers": ("http://127.0.0.1:{}/", sending(HEAD, HEADER), {"protocol"}),
    "one-header": ("http://127.0.0.1:{}/", sending(HEAD + b"X: ", b"x" * 9999), {"protocol"}),
    "body": (
        "http://127.0.0.1:{}/",
        sending(HEAD + b"\r\n", b"x" * 65_536),
        LATE_OR_WRONG,
    ),
    "bomb": ("http://127.0.0.1:{}/", bomb(), LATE_OR_WRONG),
    "babel": ("http://127.0.0.1:{}/", babel(), LATE_OR_WRONG),
    "rounds": ("http://127.0.0.1:{}/", rounds(), LATE_OR_WRONG),
    "redirects": ("http://127.0.0.1:{}/", redirects, {"redirect"}),
    "invalid": ("http://127.0.0.1:{}/", invalid, {"protocol"}),
    "tls-stall": ("https://127.0.0.1:{}/", silent, {"timeout"}),
    "page-bomb": ("page+http://127.0.0.1:{}/", bomb(), set()),
    "smtp-line": ("smtp://127.0.0.1:{}", sending(b"220 ", b"x" * 65_536), {"protocol"}),
    "smtp-lines": ("smtp://127.0.0.1:{}", sending(b"", b"220-x\r\n" * 999), {"protocol"}),
    "tcp": ("tcp://127.0.0.1:{}", sending(b"", b"x\n" * 9999), LATE_OR_WRONG),
    "tls": ("tls://127.0.0.1:{}", silent, {"timeout"}),
    "ws": ("ws://127.0.0.1:{}/", sending(HEAD, HEADER), {"protocol"}),
    "grpc": ("grpc://127.0.0.1:{}", sending(b"", b"x" * 65_536), {"protocol"}),
}
OPTIONS = {
    "body": "expect: {contains: never}",
    "bomb": "expect: {matches: never}",
    "babel": "expect: {matches: '[ab]*a[ab]{200}c'}",
    "rounds": """expect: {cel: "body.l.map(x, body.s + 'y').size() == 1"}""",
    "tcp": "expect: {banner: never}",
}
FINE = ("fine1", "fine2", "fine3", "fine4")


@contextmanager
def town() -> Iterator[dict[str, str]]:
    """Every server, on an event loop of its own; gives the URL of each by its name."""
    urls: dict[str, str] = {}
    loop = asyncio.new_event_loop()
    ready, over = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with AsyncExitStack() as servers:
            for name, (url, talk, _) in HOSTILE.items():
                urls[name] = url.format(await servers.enter_async_context(talking(talk)))
            for name in FINE:
                urls[name] = f"http://127.0.0.1:{await servers.enter_async_context(talking(fine))}/"
            ready.set()
            await over.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(20)
        with blackhole("0.0.0.0") as port:
            urls["many"] = f"http://many.example:{port}/"
            yield urls
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()


# ---- The exporter ----------------------------------------------------------------------------


@dataclass
class Running:
    """The exporter's process and where it answers."""

    pid: int
    url: str

    def memory(self, what: str) -> int:
        """VmRSS, what it has now, or VmHWM, the most it had; in bytes ("proc_pid_status(5)")."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"{what}:\s+(\d+) kB", status)
        assert found
        return int(found[1]) * 1024

    def scrape(self, batch: str) -> str:
        headers = {TIMEOUT_HEADER: f"{TIMEOUT + 0.5}"}
        response = requests.get(
            f"{self.url}/probe", params={"batch": batch}, headers=headers, timeout=20
        )
        response.raise_for_status()
        return response.text

    def batches(self) -> list[str]:
        groups = requests.get(f"{self.url}/sd", timeout=5).json()
        return [group["labels"]["__param_batch"] for group in groups]


@contextmanager
def exporter(folder: Path, sites: str) -> Iterator[Running]:
    port = free_port()
    sites_file, people_file = files(folder, sites)
    command = [sys.executable, "-c", EXPORTER, "serve", "--listen", f"127.0.0.1:{port}"]
    command += ["--sites", str(sites_file), "--people", str(people_file)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder)
    running = Running(process.pid, f"http://127.0.0.1:{port}")

    def well() -> bool:
        try:
            return requests.get(f"{running.url}/-/healthy", timeout=1).ok
        except requests.RequestException:
            return False

    try:
        until(well, lambda: (folder / "log").read_text(), 60)
        yield running
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def sites_yml(urls: dict[str, str]) -> str:
    lines = [f"defaults: {{every: 10s, timeout: {TIMEOUT}s}}", "sites:"]
    for name, url in urls.items():
        more = f", {OPTIONS[name]}" if name in OPTIONS else ""
        lines.append(f"- {{name: {name}, url: '{url}'{more}}}")
    return "\n".join(lines) + "\n"


def by_site(text: str, metric: str, label: str = "") -> dict[str, str | float]:
    return {
        sample.labels["site"]: sample.labels[label] if label else sample.value
        for family in parse(text)
        for sample in family.samples
        if sample.name == metric
    }


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="no /proc of Linux")
def test_hostile_servers_fail_in_time_and_harm_nobody_else(tmp_path: Path) -> None:
    with town() as urls, exporter(tmp_path, sites_yml(urls)) as running:
        (batch,) = running.batches()
        for name in FINE:
            requests.get(f"{running.url}/probe", params={"site": name}, timeout=10)
        idle = running.memory("VmRSS")
        Path(f"/proc/{running.pid}/clear_refs").write_text("5")
        reasons: dict[str, set[object]] = {name: set() for name in urls}
        quickest = dict.fromkeys(FINE, math.inf)
        for _ in range(SCRAPES):
            begin = time.monotonic()
            text = running.scrape(batch)
            assert time.monotonic() - begin < TIMEOUT + 0.5
            success = by_site(text, "probe_success")
            durations = by_site(text, "probe_duration_seconds")
            assert set(success) == set(urls), "each site has its verdict"
            for name in FINE:
                assert success[name] == 1, name
                quickest[name] = min(quickest[name], float(durations[name]))
            for name, reason in by_site(text, "probe_failure_info", "reason").items():
                reasons[name].add(reason)
            assert all(success[name] == 0 for name, (*_, right) in HOSTILE.items() if right)
        # A machine that is busy with other tests may be slow once, not each time.
        assert max(quickest.values()) < 0.5
        assert "connect" in reasons["many"]
        for name, (*_, right) in HOSTILE.items():
            assert not right or reasons[name] & right, (name, reasons[name])
        above = running.memory("VmHWM") - idle
        assert above < MOST_MEMORY
        for name in urls:
            page = requests.get(f"{running.url}/site/{name}", timeout=5)
            assert page.status_code == 200
        assert running.memory("VmRSS") - idle < MOST_MEMORY
    assert "Traceback" not in (tmp_path / "log").read_text()
