"""What is wrong with a user's file, as one sentence with file and line."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

LONGEST_SHOWN = 60
"""Characters of a value that a message shows."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault or warning; `line` counts from 1, 0 when no line can be named."""

    file: str
    line: int
    message: str

    def __str__(self) -> str:
        file = _from_here(self.file)
        place = f"{file}:{self.line}" if self.line else file
        return f"{place}: {printable(self.message)}"


class UserError(Exception):
    """A mistake that the user can mend; the text is what they read."""


class ConfigError(UserError):
    """The configuration cannot be used. `problems` holds every fault found, in file order.

    `files` are those beside the two files whose edit may mend it.
    """

    def __init__(self, problems: Iterable[Problem], files: Iterable[Path] = ()) -> None:
        self.problems = tuple(problems)
        self.files = tuple(files)
        super().__init__("\n".join(str(problem) for problem in self.problems))

    @classmethod
    def all(cls, errors: Iterable["ConfigError"]) -> "ConfigError":
        """Several as one."""
        known = list(errors)
        return cls((p for e in known for p in e.problems), (f for e in known for f in e.files))


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """The known word most like `word` in any case, or ''. Likeness is from 0 to 1."""
    by_lower = {name.lower(): name for name in known}
    # Comparing takes time that grows with the square of the length.
    matches = get_close_matches(word.lower()[:LONGEST_SHOWN], by_lower, n=1, cutoff=cutoff)
    return by_lower[matches[0]] if matches else ""


def _from_here(file: str) -> str:
    """The path as the user would type it in the current folder."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return file


def printable(text: str) -> str:
    """On one line, with what a terminal or an eye would not show as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def short(text: str) -> str:
    """A text as a message quotes it: its beginning, where it is long."""
    return f"'{text if len(text) <= LONGEST_SHOWN else text[: LONGEST_SHOWN - 3] + '...'}'"


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
            return "'key: value' pairs" if value else "an empty {}"
        case list() | tuple():
            return "a list" if value else "an empty list"
        case str():
            return short(value) if value else "an empty text"
        case _:
            return str(value)


def kind(value: Any) -> str:
    """How a value is named where the value itself is beside the point, or may be a secret."""
    match value:
        case str():
            return "a text" if value else "an empty text"
        case int() | float() if not isinstance(value, bool):
            return "a number"
        case _:
            return found(value)
