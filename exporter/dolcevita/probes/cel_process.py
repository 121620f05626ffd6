"""The process that evaluates CEL: run by its path, so that it has nothing else in memory.

For each page it gets one end of a pair of sockets, on which a child of its own answers. The
child may take so much computing and memory; the kernel ends one that takes more, and then there
is no answer.
"""

import json
import math
import os
import resource
import signal
import socket
from typing import Any

from cel_expr_python import cel  # type: ignore[import-untyped]

MOST_CPU = 0.5
CPU_A_BYTE = 0.3e-6
"""Seconds of computing, for any page and for each of its bytes."""

MOST_MEMORY = 40 * 2**20
MEMORY_A_BYTE = 24
"""Bytes of address space, with those of the interpreter; for any page and for each of its bytes."""


def environment() -> Any:
    """What an expression can name: the page, as Go's CEL has it in blackbox_exporter."""
    return cel.NewEnv(variables={"body": cel.Type.DYN})


def main() -> None:
    """Serve whoever holds the other end of stdin, one after the other, until it is closed."""
    known = environment()
    # Whoever waits for nobody's expressions comes first.
    os.nice(5)
    with socket.socket(fileno=0) as control:
        while True:
            _, ends, _, _ = socket.recv_fds(control, 1, 1)
            if not ends:
                return
            if os.fork() == 0:
                # Held by a child, it would look as if somebody were still there to answer.
                control.close()
                _answer(known, ends[0])
            os.close(ends[0])
            os.wait()


def _answer(known: Any, end: int) -> None:
    """In the child."""
    try:
        with os.fdopen(end, "r+b", buffering=0) as connection:
            request = b"".join(iter(lambda: connection.read(65_536), b""))
            most = int(MOST_MEMORY + MEMORY_A_BYTE * len(request))
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
            signal.setitimer(signal.ITIMER_PROF, MOST_CPU + CPU_A_BYTE * len(request))
            connection.write(json.dumps(_evaluated(known, request)).encode())
    finally:
        os._exit(0)


def _evaluated(known: Any, request: bytes) -> list[Any]:
    """What is wrong with a page: [the number of the expression, what it gives], [] for nothing.

    The request is a line with the expressions, and the page. Without a number it is no JSON.
    """
    line, _, page = request.partition(b"\n")
    try:
        # Go has no other numbers than these in JSON.
        text = page.decode(errors="replace")
        body = json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_number)
    except (ValueError, RecursionError) as error:
        return [None, "nested too deeply" if isinstance(error, RecursionError) else str(error)]
    for number, expression in enumerate(json.loads(line)):
        try:
            result = known.compile(expression).eval(data={"body": body})
            value = result.value()
        except RuntimeError as error:
            return [number, str(error)]
        if value is not True:
            plain = "false" if value is False else str(value)
            return [number, plain[:500]]
    return []


def _number(text: str) -> float:
    """As Go reads it, for which infinity is none."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"found the number {text[:30]}, expected one below 1.8e308")
    return number


if __name__ == "__main__":
    main()
