"""Regular expressions and JSONPath over what a stranger sends, within bounded time."""

import json
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from types import FrameType
from typing import Annotated, Any

import jsonpath
from pydantic import AfterValidator

MOST_CPU = 0.25
"""Seconds of computing for the expressions of one answer, while nothing else is served."""


class TooSlow(Exception):
    """It took longer than allowed."""


@contextmanager
def bounded(seconds: float = MOST_CPU) -> Iterator[None]:
    """Raise TooSlow in what runs in it after that much computing.

    A page can be made so that a regular expression takes years for it. The engine looks for
    signals now and then, and only the main thread gets them: elsewhere nothing is bounded.
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


@lru_cache(maxsize=4096)
def compiled(regex: str) -> re.Pattern[str]:
    """Raises re.error."""
    return re.compile(regex)


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
    except (re.error, RecursionError, OverflowError) as error:
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
