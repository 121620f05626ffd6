"""What mail servers and FTP share: one greets, may turn to TLS and may take a login."""

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, ConfigDict, SecretStr, model_validator

from dolcevita.probes import address, security, stream
from dolcevita.probes.course import Broken, Course
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.result import Reason, Result, Sample
from dolcevita.probes.secret import read
from dolcevita.probes.security import TlsOptions
from dolcevita.probes.stream import NetworkOptions, Stream

MOST_LINE = 8192
"""Bytes of a line. RFC 5321 asks for 512; IMAP servers list what they can do in more."""

MOST_LINES = 200
"""Lines of an answer."""

MOST_SHOWN = 100
"""Characters of an answer that are told."""

FAREWELL = 0.25
"""Seconds that a server has to answer the farewell; the verdict does not depend on it."""

PHASES = ("resolve", "connect", "tls", "greeting", "capabilities", "login")

LATE = {
    "greeting": "accepts connections but does not greet in time",
    "capabilities": "greets but does not answer in time",
    "login": "does not answer the login in time",
}


def _secret(value: Any) -> Any:
    # Pydantic's own message would show the value.
    if value is not None and not isinstance(value, str | SecretStr):
        raise ValueError("found no text, expected a text; put it in quotes")
    if isinstance(value, str) and not value.isprintable():
        raise ValueError("found a text with a line break or the like, expected one line")
    return value


class Options(NetworkOptions, TlsOptions):
    """How the server is reached, trusted and logged in to. Files are read for each probe."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    username: Annotated[SecretStr | None, BeforeValidator(_secret)] = None
    """Log in with this name."""
    username_file: Path | None = None
    """A file with the name."""
    password: Annotated[SecretStr | None, BeforeValidator(_secret)] = None
    """The password of that name."""
    password_file: Path | None = None
    """A file with the password."""

    @model_validator(mode="after")
    def _login_is_whole(self) -> Self:
        for key in ("username", "password"):
            if getattr(self, key) is not None and getattr(self, f"{key}_file") is not None:
                raise ValueError(f"found both {key} and {key}_file, expected one of them")
        if self.logs_in != (self.password is not None or self.password_file is not None):
            raise ValueError("found half a login, expected a username and a password")
        return self

    @property
    def logs_in(self) -> bool:
        return self.username is not None or self.username_file is not None


class Expect(Expectations):
    """What the server must do."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    starttls: bool | None = None
    """Offer STARTTLS, with a certificate that is right; `false` does not try. Without it needed for
    submission and before a login, else not tried."""
    greeting: str | None = None
    """Text that the greeting must contain."""


class Login(NamedTuple):
    """Who logs in, in clear text."""

    username: str
    password: str

    def plain(self) -> str:
        """As the SASL mechanism PLAIN has it (RFC 4616), in base64."""
        return encoded(f"\0{self.username}\0{self.password}")

    def forms(self) -> tuple[str, ...]:
        """Every form in which a server could repeat the secrets."""
        words = (self.password, self.username)
        return (self.plain(), *map(encoded, words), *words)


def encoded(text: str) -> str:
    """In base64, as SASL wants it."""
    return base64.b64encode(text.encode()).decode()


class Conversation:
    """One connection, in lines. What goes wrong is raised as Broken; no wait is without end."""

    def __init__(
        self, course: Course, connection: Stream, target: Target[Options, Expect], starttls: bool
    ) -> None:
        """`starttls` is whether the connection in clear text must become TLS."""
        self.course = course
        self.stream = connection
        self.options = target.options
        self.expect = target.expect
        self.starttls = starttls
        self.login = _login(target.options)
        self.host = connection.where.rpartition(" port ")[0]
        self.greeting = ""
        self.lost = False
        self._buffer = bytearray()

    def phase(self, name: str) -> AbstractAsyncContextManager[None]:
        """The time of what is done in it, within what is left of the budget."""
        late = Broken(Reason.TIMEOUT, f"{self.stream.where} {LATE[name]}.")
        return self.course.phase(name, self.course.left, late)

    async def secure(self, within: float) -> None:
        """Speak TLS from now on, agreed on in so many seconds."""
        if self._buffer:
            # Somebody on the way could make it count as said within TLS (RFC 3207, section 6).
            detail = f"{self.stream.where} says more before TLS than it was asked."
            raise Broken(Reason.PROTOCOL, detail)
        self.lost = True
        await stream.secure(self.stream, self.options, self.host, self.course, within)
        self.lost = False

    async def line(self) -> str:
        """The next line without its end."""
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MOST_LINE:
                raise Broken(Reason.PROTOCOL, f"{self.stream.where} sends a line without end.")
            piece = await self.stream.receive()
            if not piece:
                self.lost = True
                when = "in the middle of an answer" if self.greeting else "before its greeting"
                detail = f"{self.stream.where} closes the connection {when}."
                raise Broken(Reason.PROTOCOL, detail)
            self._buffer += piece
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.removesuffix(b"\r").decode("utf-8", "replace")

    async def send(self, line: str) -> None:
        await self.stream.send(f"{line}\r\n".encode())

    def greeted(self, text: str) -> None:
        """Take the text of a greeting that is no refusal."""
        self.greeting = _printable(text) or "an empty greeting"
        if self.expect.greeting is not None and self.expect.greeting not in text:
            detail = f"{self.stream.where} greets with '{_printable(text)}'"
            wanted = f"expected it to contain '{self.expect.greeting}'"
            raise Broken(Reason.CONTENT, f"{detail}, {wanted}.")

    def refused(self, what: str, answer: str) -> Broken:
        """A proper answer that is no yes."""
        detail = f"{self.stream.where} refuses {what}: '{self.shown(answer)}'."
        return Broken(Reason.STATUS, detail)

    def no_entry(self, answer: str, for_now: bool = False) -> Broken:
        """A login that is refused; it is tried again only where that is said to be `for_now`."""
        detail = self.refused("the login", answer).detail
        return Broken(Reason.STATUS, detail, again=for_now)

    def babble(self, protocol: str, answer: str) -> Broken:
        """An answer that is none."""
        detail = f"{self.stream.where} does not speak {protocol}: '{self.shown(answer)}'."
        return Broken(Reason.PROTOCOL, detail)

    def endless(self) -> Broken:
        return Broken(Reason.PROTOCOL, f"{self.stream.where} sends an answer without end.")

    def no_starttls(self, command: str) -> Broken:
        return Broken(Reason.TLS, f"{self.stream.where} offers no {command}.")

    def no_login(self, known: str) -> Broken:
        detail = f"{self.stream.where} offers no login that this prober knows ({known})."
        return Broken(Reason.STATUS, detail)

    def shown(self, text: str) -> str:
        """The begin of what a server says, without what was told to it in secret."""
        for form in self.login.forms() if self.login else ():
            text = text.replace(form, "***") if form else text
        return _printable(text)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else "." for c in text.strip())[:MOST_SHOWN]


class Reply(NamedTuple):
    """A reply of SMTP (RFC 5321, section 4.2) or FTP (RFC 959, section 4.2)."""

    code: int
    lines: tuple[str, ...]
    """What comes after the code."""

    @property
    def text(self) -> str:
        return f"{self.code} {' '.join(self.lines)}"


async def reply(talk: Conversation, protocol: str) -> Reply:
    """The next reply, all lines of it."""
    line = await talk.line()
    if not re.fullmatch(r"[1-5][0-9]{2}([ -].*)?", line):
        raise talk.babble(protocol, line)
    code, lines = line[:3], [line[4:]]
    while line[3:4] == "-" or line[:3] != code or line[3:4] not in ("", " "):
        line = await talk.line()
        lines.append(line[4:] if line.startswith(code) else line)
        if len(lines) > MOST_LINES:
            raise talk.endless()
    return Reply(int(code), tuple(lines))


def service(
    name: str,
    ports: Mapping[str, int],
    talk: Callable[[Conversation], Awaitable[None]],
    farewell: str,
    options: type[Options] = Options,
) -> Kind:
    """The kind of a protocol with the port of each of its schemes.

    A scheme with an s at its end speaks TLS from the begin, `submission` always as soon as it
    can. `talk` goes from the greeting to the login, `farewell` is the line that ends it.
    """

    async def probe(target: Target[Options, Expect], budget: float) -> Result:
        course = Course(budget)
        scheme = target.url.partition(":")[0].lower()
        conversation: Conversation | None = None
        broken: Broken | None = None
        try:
            where = stream.place(target.url, ports[scheme])
            connected = await stream.connect(where, course, target.options)
            try:
                starttls = not _implicit(scheme) and _wants_starttls(scheme, target)
                conversation = Conversation(course, connected, target, starttls)
                if _implicit(scheme):
                    await conversation.secure(course.connecting)
                await talk(conversation)
            finally:
                if conversation:
                    await _leave(conversation, farewell)
                connected.close()
        except Broken as error:
            broken = error
        return _result(name, course, conversation, broken)

    help = {
        **address.HELP,
        **security.HELP,
        f"probe_{name}_duration_seconds": "Time of each finished phase",
        f"probe_{name}_ssl": "1 if the connection was over TLS in the end",
    }
    return Kind(name, tuple(ports), options, Expect, probe, help, fault=_fault)


def _fault(url: str) -> str:
    names_more = urlsplit(url).path not in ("", "/")
    return (
        "names more than a server, and nothing on it is looked at: take it out"
        if names_more
        else ""
    )


def _implicit(scheme: str) -> bool:
    return scheme.endswith("s")


def _wants_starttls(scheme: str, target: Target[Options, Expect]) -> bool:
    if target.expect.starttls is not None:
        return target.expect.starttls
    return scheme == "submission" or target.options.logs_in


def _login(options: Options) -> Login | None:
    if not options.logs_in:
        return None
    return Login(
        _word(options.username, options.username_file),
        _word(options.password, options.password_file),
    )


def _word(given: SecretStr | None, file: Path | None) -> str:
    if file is None:
        return given.get_secret_value() if given else ""
    word = read(file)
    if not word.isprintable():
        raise Broken(Reason.LOCAL, f"The file {file} holds more than one line.")
    return word


async def _leave(talk: Conversation, farewell: str) -> None:
    """Say goodbye where that is possible: without it a server's log notes an attack."""
    if talk.lost:
        return
    with suppress(Broken, TimeoutError):
        async with asyncio.timeout(min(FAREWELL, talk.course.left)):
            await talk.send(farewell)
            while await talk.stream.receive():
                pass


def _result(name: str, course: Course, talk: Conversation | None, broken: Broken | None) -> Result:
    connection = talk.stream if talk else None
    session = connection.session if connection else None
    samples = [
        *course.samples(f"probe_{name}_duration_seconds", PHASES),
        Sample(f"probe_{name}_ssl", session is not None),
        *address.samples(course.seconds("resolve"), connection.address if connection else ""),
    ]
    detail = f"{connection.where} is ready" if connection else ""
    if session:
        detail += f", over {session.version}"
    if talk and talk.login:
        detail += ", and takes the login"
    secrets = talk.login.forms() if talk and talk.login else ()
    result = stream.result(course, broken, f"{detail}.", samples, connection, secrets)
    if talk and talk.greeting:
        return replace(result, facts={**result.facts, "greeting": talk.greeting})
    return result
