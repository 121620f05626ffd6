"""The components' output: a file each, and all of them prefixed on the terminal."""

import shutil
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self, TextIO

from rich.console import Console
from rich.text import Text

ROTATE_AT = 10 * 1024 * 1024
LONGEST_LINE = 64 * 1024
POLL = 0.1

OWN = "dolcevita"
COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red")


@dataclass(slots=True)
class _Followed:
    name: str
    path: Path
    colour: str
    position: int
    partial: bytes = b""


class Journal:
    """Log files under `folder` and the thread that shows them.

    Components write to their file themselves and a thread follows the files, so a terminal that
    stands still (Ctrl-S, a full pipe) holds up neither them nor the supervisor. Without a
    `stream` there are the files only.
    """

    def __init__(self, folder: Path, names: Sequence[str], stream: TextIO | None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._console: Console | None = None
        if stream:
            self._console = Console(
                file=stream, highlight=False, soft_wrap=True, markup=False, emoji=False
            )
        self._logs = []
        for index, name in enumerate((OWN, *names)):
            path = folder / f"{name}.log"
            path.touch()
            colour = "bold" if name == OWN else COLOURS[(index - 1) % len(COLOURS)]
            self._logs.append(_Followed(name, path, colour, path.stat().st_size))
        self._width = max(len(log.name) for log in self._logs)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="journal", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Show what is left; a terminal that takes nothing is waited for no longer than 2 s."""
        self._done.set()
        self._thread.join(timeout=2)

    def path(self, name: str) -> Path:
        return next(log.path for log in self._logs if log.name == name)

    def open(self, name: str) -> BinaryIO:
        """A component's log, to hand to its process as standard output."""
        return self.path(name).open("ab")

    def say(self, text: str) -> None:
        """A line of the supervisor's own; its file has the time as well."""
        with self.path(OWN).open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}\n")

    def last_line(self, name: str) -> str:
        """The last line a component wrote, '' if none."""
        with self.path(name).open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - LONGEST_LINE))
            lines = log.read().decode("utf-8", "replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")

    def _follow(self) -> None:
        while True:
            last_round = self._done.is_set()
            for log in self._logs:
                with suppress(OSError):
                    self._show_new(log)
                    self._rotate(log)
            if last_round:
                return
            self._done.wait(POLL)

    def _show_new(self, log: _Followed) -> None:
        with log.path.open("rb") as file:
            file.seek(log.position)
            new = file.read()
        log.position += len(new)
        *lines, log.partial = (log.partial + new).split(b"\n")
        if len(log.partial) > LONGEST_LINE:
            lines, log.partial = [*lines, log.partial], b""
        for line in lines:
            text = line.decode("utf-8", "replace")
            self._print(log, text.partition(" ")[2] if log.name == OWN else text)

    def _print(self, log: _Followed, line: str) -> None:
        if self._console is None:
            return
        try:
            self._console.print(
                Text.assemble((f"{log.name:<{self._width}} | ", log.colour), Text.from_ansi(line))
            )
        except (OSError, ValueError):
            # Nobody reads the terminal any more; the files go on.
            self._console = None

    def _rotate(self, log: _Followed) -> None:
        """Keep one older part. Writers append, so truncating under them is safe."""
        if log.position > ROTATE_AT:
            shutil.copyfile(log.path, log.path.with_suffix(".log.1"))
            with log.path.open("r+b") as file:
                file.truncate(0)
            log.position = 0
