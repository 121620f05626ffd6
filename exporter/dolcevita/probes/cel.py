"""CEL over the JSON of a stranger's page, in a process of its own that can be stopped.

The library is that of Google in C++, which nothing interrupts: an expression can go through a list
for each entry of a list, and a page decides how long both are. Where no expression is used,
nothing of it is loaded.
"""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from dolcevita.probes.pattern import TooSlow


class NoJSON(Exception):
    """The page is no JSON; the text says where."""


@lru_cache(maxsize=1)
def _environment() -> Any:
    from dolcevita.probes import cel_process

    return cel_process.environment()


@lru_cache(maxsize=1024)
def _checked(expression: str) -> str:
    try:
        compiled = _environment().compile(expression)
    except RuntimeError as error:
        # The first line says what, and is followed by a drawing of where.
        what = str(error).partition("\n")[0].partition("<input>:")[2].partition(" expecting {")[0]
        raise ValueError(f"which is no CEL: {what or error}") from None
    if compiled.return_type().name() not in ("BOOL", "DYN"):
        kind = compiled.return_type().name().lower()
        raise ValueError(f"which gives {kind}: expected true or false")
    # The first page need not wait for it.
    _evaluator()
    return expression


CEL = Annotated[str, AfterValidator(_checked)]


class _Evaluator:
    """The process, which has a child answer each request."""

    def __init__(self) -> None:
        self.control, theirs = socket.socketpair()
        with theirs:
            # Isolated: what lies beside the file has the names of modules of Python.
            self.process = subprocess.Popen(
                [sys.executable, "-I", str(Path(__file__).with_name("cel_process.py"))],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

    async def ask(self, request: bytes) -> bytes:
        """The answer, b'' if the child was ended. Raises OSError if the process was."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self.control, [b"."], [theirs.fileno()])
            except OSError:
                ours.close()
                raise
        reader, writer = await asyncio.open_connection(sock=ours)
        try:
            with suppress(ConnectionError):
                writer.write(request)
                writer.write_eof()
                await writer.drain()
            return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    def close(self) -> None:
        """It ends when nobody holds the other end."""
        self.control.close()
        self.process.wait()


_running: list[_Evaluator] = []
"""The one, if it was needed."""


async def wrong(expressions: Sequence[str], page: bytes) -> tuple[str, str] | None:
    """The first expression that is not true of a page, and what it gives instead.

    Raises NoJSON, and TooSlow for what takes too much computing or memory.
    """
    request = json.dumps(expressions).encode() + b"\n" + page
    try:
        answer = await _evaluator().ask(request)
    except OSError:
        # It was ended, as the kernel does when memory runs out.
        await close()
        answer = await _evaluator().ask(request)
    if not answer:
        raise TooSlow
    found = json.loads(answer)
    if not found:
        return None
    number, given = found
    if number is None:
        raise NoJSON(given)
    if "Iteration budget" in given:
        raise TooSlow
    return expressions[number], given


def _evaluator() -> _Evaluator:
    if not _running:
        _running.append(_Evaluator())
    return _running[0]


async def close() -> None:
    """End the process."""
    if _running:
        await asyncio.to_thread(_running.pop().close)
