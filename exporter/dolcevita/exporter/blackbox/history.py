"""The latest results that callers asked for, failures kept longer, in bounded memory."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

MOST = 100
"""Results that are kept, and as many failures that are older."""

MOST_TEXT = 20_000
"""Characters of one result's account."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One result; `at` is in unix seconds, `text` the account that ?debug=true gives."""

    number: int
    at: float
    module: str
    target: str
    success: bool
    seconds: float
    detail: str
    text: str


class History:
    """Entries by number."""

    def __init__(self, most: int = MOST) -> None:
        self.recent: deque[Entry] = deque(maxlen=most)
        self.failures: deque[Entry] = deque(maxlen=most)
        self.count = 0

    def add(
        self, at: float, module: str, target: str, success: bool, seconds: float, detail: str,
        text: str,
    ) -> Entry:  # fmt: skip
        """Note one; what falls out of the recent ones stays if it is a failure."""
        self.count += 1
        entry = Entry(self.count, at, module, target, success, seconds, detail, text[:MOST_TEXT])
        if len(self.recent) == self.recent.maxlen and not self.recent[0].success:
            self.failures.append(self.recent[0])
        self.recent.append(entry)
        return entry

    def __iter__(self) -> Iterator[Entry]:
        """The newest first."""
        yield from reversed(self.recent)
        yield from reversed(self.failures)

    def find(self, number: int) -> Entry | None:
        """The entry of that number if it is still there."""
        return next((entry for entry in self if entry.number == number), None)
