"""Processes on cores of their own, and what they use of processor and memory."""

import os
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from waiting import until

TICK = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
EVERY = 0.05


class Process:
    """A process that runs, and what it used."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self.popen = popen
        self.pid = popen.pid

    def cpu(self) -> float:
        """CPU seconds so far, those of children that ended included ("proc_pid_stat")."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) * TICK

    def memory(self) -> int:
        """Bytes that are resident now."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * PAGE


def machine_cpu() -> float:
    """CPU seconds that everything on this machine used so far ("proc_stat")."""
    user, nice, system, _, _, irq, softirq, steal = Path("/proc/stat").read_text().split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) * TICK


class Pauses:
    """How long somebody who wants to run every now and then had to wait for it."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "Pauses":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._over.wait(EVERY):
            now = time.monotonic()
            self.longest = max(self.longest, now - before - EVERY)
            before = now


@contextmanager
def running(
    command: Sequence[str | Path],
    health: str,
    log: Path,
    cores: Sequence[int] = (),
    environment: Mapping[str, str] = {},
) -> Iterator[Process]:
    """The command on these cores, all without, from when `health` answers 200 to the end."""
    pinned = ["taskset", "--cpu-list", ",".join(map(str, cores))] if cores else []
    with log.open("ab") as output:
        popen = subprocess.Popen(
            [*pinned, *map(str, command)],
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
        )
    try:
        until(lambda: popen.poll() is not None or _answers(health), f"{command[0]}, see {log}", 60)
        if popen.returncode is not None:
            raise RuntimeError(f"{command[0]} ended with {popen.returncode}: see {log}")
        yield Process(popen)
    finally:
        popen.terminate()
        try:
            popen.wait(10)
        except subprocess.TimeoutExpired:
            popen.kill()
            popen.wait()


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
