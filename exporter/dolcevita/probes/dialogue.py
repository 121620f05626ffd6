"""Dialogues of send and expect, as blackbox_exporter's `query_response` has them."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, ConfigDict, model_validator

from dolcevita.config import Strict
from dolcevita.config.sites import RESERVED_LABELS
from dolcevita.probes import secret, stream
from dolcevita.probes.course import Broken, Course
from dolcevita.probes.pattern import Match, Regex, TooSlow, search
from dolcevita.probes.result import Reason, Sample
from dolcevita.probes.security import TlsOptions
from dolcevita.probes.stream import Stream

MOST_LINE = 65_536
"""Bytes of a line; a longer one breaks the dialogue off."""

MOST_SHOWN = 100
"""Characters of a line that are told."""

MOST_VALUE = 200
"""Characters of a label's value."""


def _label_name(text: str) -> str:
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", text) or text.startswith("__"):
        raise ValueError("expected letters, digits and _, not beginning with a digit or __")
    if text in RESERVED_LABELS:
        raise ValueError("which the stack itself uses; choose another name")
    return text


class Label(Strict):
    """One label of `probe_expect_info`; `${1}` in the value is what the step's regex found."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    name: Annotated[str, AfterValidator(_label_name)]
    value: str


class Step(Strict):
    """Wait for what is expected, then send, then begin TLS; each of them may be left out."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    expect: Regex | None = None
    """Read lines until one matches this regular expression."""
    expect_bytes: str | None = None
    """The next bytes must be exactly these."""
    labels: tuple[Label, ...] = ()
    """What of the line goes into `probe_expect_info`."""
    send: str | None = None
    """A line to send; `${1}` in it is what `expect` found."""
    send_file: Path | None = None
    """A file with the line to send, for a secret."""
    starttls: bool = False
    """Speak TLS from here on."""

    @model_validator(mode="after")
    def _one_of_each(self) -> Self:
        if self.expect is not None and self.expect_bytes is not None:
            raise ValueError("expected either 'expect' or 'expect_bytes', not both")
        if self.send is not None and self.send_file is not None:
            raise ValueError("expected either 'send' or 'send_file', not both")
        if self.labels and self.expect is None:
            raise ValueError("expected 'expect' beside 'labels', which come from it")
        return self


HELP = {
    "probe_expect_info": "What was found in the lines that were expected",
    "probe_failed_due_to_bytes": "1 if the bytes that were expected did not come",
    "probe_failed_due_to_regex": "1 if no line matched the regular expression that was expected",
}


def steps(banner: str | None, then: Sequence[Step]) -> Sequence[Step]:
    """A dialogue that begins with the server's banner, where one is expected."""
    return then if banner is None else (Step(expect=banner), *then)


class Dialogue:
    """A run of steps on a stream, and what is known after it."""

    def __init__(self, connection: Stream, options: TlsOptions, name: str | None) -> None:
        """`name` is the one that TLS asks for, unless the options have another."""
        self.stream = connection
        self.options = options
        self.name = name
        self.buffer = bytearray()
        self.ended = False
        self.last = ""
        self.waits_for = ""
        self.failed_due_to_regex = False
        self.failed_due_to_bytes = False
        self.labels: dict[str, str] = {}
        self.secrets: list[str] = []

    async def run(self, steps: Sequence[Step], course: Course) -> None:
        """Go through the steps in the time that is left. Raises Broken."""
        rest = iter(steps)
        while parts := _up_to_starttls(rest):
            async with course.phase("dialogue", course.left, self._late):
                for step in parts:
                    await self._take(step)
            if parts[-1].starttls:
                # What came in the clear before TLS must not count as said within it.
                self.buffer.clear()
                await stream.secure(self.stream, self.options, self.name, course, course.left)

    async def _take(self, step: Step) -> None:
        line = _line_to_send(step)
        if step.send_file and line:
            self.secrets.append(line)
        if step.expect is not None:
            match = await self._match(step.expect)
            for label in step.labels:
                value = self._masked(expand(label.value, match))
                self.labels[label.name] = value[:MOST_VALUE]
            if step.send is not None:
                line = expand(step.send, match)
        if step.expect_bytes is not None:
            await self._exactly(step.expect_bytes.encode())
        self.waits_for = ""
        if line:
            await self.stream.send(f"{line}\n".encode())

    def _late(self) -> Broken:
        where = self.stream.where
        if not self.waits_for:
            return Broken(Reason.TIMEOUT, f"{where} does not take what is sent in time.")
        if self.last:
            self.failed_due_to_regex = True
            return Broken(Reason.CONTENT, self._told())
        detail = f"{where} accepts connections but does not send {self.waits_for} in time."
        return Broken(Reason.TIMEOUT, detail)

    async def _match(self, regex: str) -> Match:
        self.waits_for, self.last = f"a line that matches '{regex}'", ""
        while (line := await self._line()) is not None:
            try:
                match = await search(regex, line)
            except TooSlow:
                detail = f"{self.stream.where} sends a line that takes too long to match '{regex}'."
                raise Broken(Reason.CONTENT, detail) from None
            if match:
                return match
            self.last = line
            # Thousands of lines may be there already: others have their turn in between.
            await asyncio.sleep(0)
        self.failed_due_to_regex = True
        if self.last:
            raise Broken(Reason.CONTENT, self._told())
        detail = f"{self.stream.where} closed the connection before it sent {self.waits_for}."
        raise Broken(Reason.PROTOCOL, detail)

    async def _line(self) -> str | None:
        """The next line without its end, what is left at the end, None after it."""
        looked = 0
        while (end := self.buffer.find(b"\n", looked)) < 0:
            looked = len(self.buffer)
            if looked > MOST_LINE:
                detail = f"{self.stream.where} sends a line of more than {MOST_LINE:,} bytes."
                raise Broken(Reason.PROTOCOL, detail)
            if not await self._more():
                if not self.buffer:
                    return None
                end = len(self.buffer)
                break
        line = bytes(self.buffer[:end])
        del self.buffer[: end + 1]
        return line.removesuffix(b"\r").decode("utf-8", "replace")

    async def _exactly(self, wanted: bytes) -> None:
        self.waits_for, self.last = f"the {len(wanted)} bytes that are expected", ""
        while len(self.buffer) < len(wanted):
            if not await self._more():
                detail = (
                    f"{self.stream.where} closed the connection before it sent {self.waits_for}."
                )
                raise Broken(Reason.PROTOCOL, detail)
        seen = bytes(self.buffer[: len(wanted)])
        del self.buffer[: len(wanted)]
        if seen != wanted:
            self.failed_due_to_bytes = True
            shown = self._shown(seen.decode("latin-1"))
            expected = self._shown(wanted.decode("latin-1"))
            detail = f"{self.stream.where} sends '{shown}', expected '{expected}'."
            raise Broken(Reason.CONTENT, detail)

    async def _more(self) -> bool:
        if not self.ended:
            piece = await self.stream.receive()
            self.ended = not piece
            self.buffer += piece
        return not self.ended

    def _told(self) -> str:
        return f"{self.stream.where} sends '{self._shown(self.last)}', expected {self.waits_for}."

    def _shown(self, line: str) -> str:
        return "".join(c if c.isprintable() else "." for c in self._masked(line)[:MOST_SHOWN])

    def _masked(self, text: str) -> str:
        for hidden in self.secrets:
            text = text.replace(hidden, "***")
        return text


def samples(talk: Dialogue | None) -> list[Sample]:
    """The metrics of a dialogue, none of one that was not begun."""
    if talk is None:
        return []
    found = [
        Sample("probe_failed_due_to_bytes", talk.failed_due_to_bytes),
        Sample("probe_failed_due_to_regex", talk.failed_due_to_regex),
    ]
    if talk.labels:
        found.append(Sample("probe_expect_info", 1, talk.labels))
    return found


def _up_to_starttls(steps: Iterator[Step]) -> list[Step]:
    """The next steps, up to one that begins TLS."""
    parts = []
    for step in steps:
        parts.append(step)
        if step.starttls:
            break
    return parts


def _line_to_send(step: Step) -> str | None:
    return secret.read(step.send_file) if step.send_file else step.send


def expand(template: str, match: Match) -> str:
    """$1, ${1}, $name and $$ as in Go (the documentation of regexp.Expand); unknown ones are ''."""

    def group(reference: re.Match[str]) -> str:
        name = reference[1] or reference[2]
        if name is None:
            return "$"
        try:
            return match[int(name) if name.isdecimal() else name] or ""
        except IndexError:
            return ""

    return re.sub(r"\$(?:\{(\w+)\}|(\w+)|\$)", group, template)
