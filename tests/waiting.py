"""Waiting with a deadline, and free ports: what tests with real processes share."""

import socket
import time
from collections.abc import Callable
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


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
