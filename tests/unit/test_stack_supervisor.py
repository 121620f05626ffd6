"""The supervisor with small real processes: restart, order of stopping, nothing left behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from waiting import free_port, until

WEB = """
import signal, sys
from http.server import HTTPServer, SimpleHTTPRequestHandler
signal.signal(signal.SIGTERM, lambda *_: (print("bye", flush=True), sys.exit(0)))
print("hello", sys.argv[1], flush=True)
HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
"""

STUBBORN = WEB.replace('lambda *_: (print("bye", flush=True), sys.exit(0))', "signal.SIG_IGN")

PARENT = """
import asyncio, sys
from pathlib import Path
from dolcevita.config import UserError
from dolcevita.stack import supervisor
from dolcevita.stack.journal import Journal
from dolcevita.stack.supervisor import Component, supervise

supervisor.STOP_WITHIN = 1
folder = Path(sys.argv[1])
components = [
    Component(name, (sys.executable, "-c", (folder / f"{name}.py").read_text(), port),
              f"http://127.0.0.1:{port}/")
    for name, port in (word.split("=") for word in sys.argv[2:])
]
with Journal(folder / "logs", [c.name for c in components], sys.stdout) as journal:
    try:
        asyncio.run(supervise(components, journal, lambda: journal.say("all well")))
    except UserError as error:
        journal.say(str(error))
"""


class Running:
    """A supervisor in a process of its own, and what it has shown so far."""

    def __init__(self, folder: Path, programs: dict[str, str]) -> None:
        for name, program in programs.items():
            (folder / f"{name}.py").write_text(program)
        self.output = folder / "output"
        self.ports = {name: free_port() for name in programs}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", PARENT, str(folder)]
                + [f"{name}={port}" for name, port in self.ports.items()],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
            )

    def text(self) -> str:
        return self.output.read_text()

    def says(self, words: str, times: int = 1) -> None:
        until(lambda: self.text().count(words) >= times, lambda: f"{words!r} in {self.text()}")

    def children(self) -> dict[str, int]:
        """Process id by component name, as the kernel knows them now."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().decode().split("\0")
            except OSError:
                continue
            for name, port in self.ports.items():
                if words[1:2] == ["-c"] and words[-2:-1] == [str(port)]:
                    found[name] = int(entry.parent.name)
        return found


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def starter(**programs: str) -> Running:
        started.append(Running(tmp_path, programs))
        return started[-1]

    yield starter
    for running in started:
        running.process.kill()
        running.process.wait()
        for pid in running.children().values():
            os.kill(pid, signal.SIGKILL)


def test_output_is_prefixed_and_kept_in_files(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    running = start(one=WEB, second=WEB)
    running.says("all well")
    assert f"one       | hello {running.ports['one']}" in running.text()
    assert f"second    | hello {running.ports['second']}" in running.text()
    assert f"hello {running.ports['one']}" in (tmp_path / "logs/one.log").read_text()


def test_a_component_that_dies_is_reported_and_started_again_with_backoff(
    start: Callable[..., Running],
) -> None:
    running = start(one=WEB)
    running.says("all well")
    for restart, delay in enumerate((1, 2), start=1):
        before = running.children()["one"]
        os.kill(before, signal.SIGKILL)
        running.says(f"one stopped (killed by SIGKILL), starting it again in {delay}s")
        running.says("hello", times=restart + 1)
        assert running.children()["one"] != before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_everything(start: Callable[..., Running], number: signal.Signals) -> None:
    running = start(one=WEB, two=WEB)
    running.says("all well")
    running.process.send_signal(number)
    assert running.process.wait(10) == 0
    assert running.children() == {}
    assert running.text().count("bye") == 2


def test_a_signal_during_the_wait_before_a_restart_stops_at_once(
    start: Callable[..., Running],
) -> None:
    running = start(one=WEB)
    running.says("all well")
    os.kill(running.children()["one"], signal.SIGKILL)
    running.says("starting it again")
    running.process.terminate()
    assert running.process.wait(10) == 0
    assert running.children() == {}


def test_a_component_that_ignores_the_request_to_stop_is_killed(
    start: Callable[..., Running],
) -> None:
    running = start(one=STUBBORN, two=WEB)
    running.says("all well")
    running.process.terminate()
    assert running.process.wait(10) == 0
    assert "one did not stop within 1s: killed" in running.text()
    assert running.children() == {}


def test_a_start_that_fails_leaves_nothing_running(start: Callable[..., Running]) -> None:
    running = start(one=WEB, broken="import sys; sys.exit('no such luck')")
    assert running.process.wait(10) == 0
    assert "broken stopped (exit code 1) before it was ready" in running.text()
    assert "its last words: no such luck" in running.text()
    assert running.children() == {}


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's death signal is Linux's")
def test_a_killed_supervisor_leaves_no_orphan(start: Callable[..., Running]) -> None:
    running = start(one=WEB, two=WEB)
    running.says("all well")
    running.process.kill()
    running.process.wait()
    until(lambda: running.children() == {}, "the components' end")


def test_a_terminal_that_stands_still_holds_up_nothing(
    start: Callable[..., Running], tmp_path: Path
) -> None:
    """Nobody reads its pipe: a component still writes, is restarted, and everything stops."""
    os.mkfifo(tmp_path / "output")
    reader = os.open(tmp_path / "output", os.O_RDONLY | os.O_NONBLOCK)
    try:
        running = start(one=WEB.replace('print("hello"', 'print("x\\n" * 200_000, "hello"'))
        hellos = tmp_path / "logs/one.log"
        until(lambda: hellos.exists() and hellos.read_text().count("hello") == 1, "the first start")
        first = until(lambda: running.children().get("one", 0), "the component")
        until(lambda: "all well" in (tmp_path / "logs/dolcevita.log").read_text(), "all well")
        os.kill(first, signal.SIGKILL)
        until(lambda: hellos.read_text().count("hello") == 2, "the second start")
        running.process.terminate()
        assert running.process.wait(10) == 0
        assert running.children() == {}
    finally:
        os.close(reader)
