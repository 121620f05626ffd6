"""Waiting with a deadline, and free ports: what tests with real processes share."""

import os
import random
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")


def until(happened: Callable[[], T], what: str | Callable[[], str], within: float = 15) -> T:
    """The first true value of `happened`, asked again and again for `within` seconds.

    `what` says, when the time is over, what was waited for.
    """
    deadline = time.monotonic() + within
    while not (value := happened()):
        if time.monotonic() >= deadline:
            expected = what if isinstance(what, str) else what()
            raise AssertionError(f"not seen within {within}s: {expected}")
        time.sleep(0.05)
    return value


BELOW_THOSE_OF_CONNECTIONS = range(15_000, 32_000)
"""Ports that the kernel gives to no connection (ip(7), ip_local_port_range)."""

_dice = random.SystemRandom()
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_own = BELOW_THOSE_OF_CONNECTIONS[_worker::_workers]
_given: set[int] = set()


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on, given to nobody else in this test run.

    A port that the kernel chose may be that of a connection before anybody listens on it, and one
    that was given may be free while the program that it is for is killed and started again.
    """
    if len(_given) == len(_own):
        _given.clear()
    while True:
        port = _dice.choice(_own)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given:
                _given.add(port)
                return port
