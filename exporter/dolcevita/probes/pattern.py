"""Regular expressions and JSONPath over what a stranger sends, within bounded time."""

import asyncio
import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType
from typing import Annotated, Any, Protocol

import jsonpath
import re2  # type: ignore[import-untyped]
from pydantic import AfterValidator

MOST_CPU = 0.25
"""Seconds of computing for the JSONPaths of one answer, while nothing else is served."""

MOST_SEARCH = 2.0
"""Seconds for one regular expression, beside everything else."""

AT_ONCE = 1_000_000
"""Characters times the size of an expression that are looked through without a thread: some
20 milliseconds at the worst."""


class TooSlow(Exception):
    """It took longer than allowed."""


@contextmanager
def bounded(seconds: float = MOST_CPU) -> Iterator[None]:
    """Raise TooSlow in what runs in it after that much computing.

    A page can be made so that a JSONPath takes years for it. Python looks for signals now and
    then, and only the main thread gets them: elsewhere nothing is bounded.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    running = True

    def stop(number: int, frame: FrameType | None) -> None:
        if running:
            raise TooSlow

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        running = False
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


class Match(Protocol):
    """What an expression found: the whole by 0, groups by number or name.

    Raises IndexError for a group that the expression has not.
    """

    def __getitem__(self, group: int | str) -> str | None: ...


@lru_cache(maxsize=4096)
def compiled(regex: str) -> Any:
    """An expression of RE2, as Go's are: no page takes it more than linear time.

    Raises ValueError.
    """
    if re.search(r"(?<!\\)(\\\\)*\\C", regex):
        raise ValueError("\\C, a byte that may be no character, is not known here")
    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(regex, options)
    except re2.error as error:
        (words,) = error.args
        raise ValueError(words.decode(errors="replace")) from None


async def search(regex: str, text: str) -> Match | None:
    """The first place in the text that matches. Raises TooSlow.

    Linear can still be seconds for an expression that counts to hundreds: while a thread looks,
    others are served.
    """
    expression = compiled(regex)
    found: Match | None
    if len(text) * expression.programsize <= AT_ONCE:
        found = expression.search(text)
        return found
    try:
        async with asyncio.timeout(MOST_SEARCH):
            found = await asyncio.to_thread(expression.search, text)
    except TimeoutError:
        raise TooSlow from None
    return found


@lru_cache(maxsize=4096)
def path(text: str) -> Any:
    """A JSONPath (RFC 9535), for `found`. Raises ValueError."""
    try:
        return jsonpath.compile(text)
    except (jsonpath.JSONPathError, RecursionError) as error:
        raise ValueError(str(error)) from None


def found(text: str, document: Any) -> list[Any]:
    """The values that the JSONPath leads to in a document."""
    try:
        values: list[Any] = path(text).findall(document)
    except (jsonpath.JSONPathError, RecursionError):
        return []
    return values


def document(body: bytes) -> Any:
    """JSON as Python has it. Raises ValueError."""
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _regex(text: str) -> str:
    try:
        compiled(text)
    except ValueError as error:
        raise ValueError(f"which is no regular expression: {error}") from None
    return text


def _path(text: str) -> str:
    try:
        path(text)
    except ValueError as error:
        raise ValueError(f"which is no JSONPath: {error}") from None
    return text


Regex = Annotated[str, AfterValidator(_regex)]
JSONPath = Annotated[str, AfterValidator(_path)]
