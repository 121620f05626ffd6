"""What is wrong with a user's file, as one sentence with file and line."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault or warning; `line` counts from 1, 0 when no line can be named."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.message}"


class UserError(Exception):
    """A mistake that the user can mend; the text is what they read."""


class ConfigError(UserError):
    """The configuration cannot be used. `problems` holds every fault found, in file order."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


def nearest(word: str, known: Iterable[str]) -> str:
    """The known word most like `word`, or ''."""
    matches = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return matches[0] if matches else ""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A clause that helps after an unknown word: the nearest known one, or all of them."""
    names = sorted(known)
    match = nearest(word, names)
    if match:
        return f"did you mean '{match}'?"
    if not names:
        return "there is none"
    return "expected one of: " + ", ".join(names)


def found(value: Any) -> str:
    """How a value is named in a message: short, with its kind where that is the point."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str():
            text = value if len(value) <= 60 else value[:57] + "..."
            return f"'{text}'"
        case _:
            return str(value)
