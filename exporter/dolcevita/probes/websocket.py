"""WebSocket (RFC 6455): the handshake and messages, with the metrics of blackbox_exporter's.

Upon our own streams, because no library tells when TCP was connected and TLS agreed on, and
without that a server that accepts and says nothing looks like one that is not there.
"""

import asyncio
import base64
import hashlib
import os
import re
import struct
from collections.abc import Mapping
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Self

from pydantic import ConfigDict, Field, model_validator
from yarl import URL

from dolcevita.config import Strict
from dolcevita.probes import address, security, stream
from dolcevita.probes.course import Broken, Course
from dolcevita.probes.curl import USER_AGENT
from dolcevita.probes.dialogue import expand
from dolcevita.probes.evidence import is_secret
from dolcevita.probes.http_options import Authorization, BasicAuth, Line, Token
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.pattern import Match, Regex, TooSlow, search
from dolcevita.probes.result import Reason, Result, Sample
from dolcevita.probes.secret import read
from dolcevita.probes.security import TlsOptions
from dolcevita.probes.stream import NetworkOptions, Stream

PORTS = {"ws": 80, "wss": 443}
PHASES = ("resolve", "connect", "tls", "processing", "transfer")

MOST_HEAD = 65_536
"""Bytes of the answer to the handshake."""

MOST_MESSAGE = 1_000_000
"""Bytes of a message."""

MOST_SHOWN = 100
"""Characters of a message that are told."""

FAREWELL = 0.25
"""Seconds that a server has to answer the farewell; the verdict does not depend on it."""

_ACCEPT = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""What a server mixes into the key (RFC 6455, section 1.3)."""


class Step(Strict):
    """Wait for a message, then send one; either may be left out."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    expect: Regex | None = None
    """The next message must match this regular expression."""
    send: str | None = None
    """A message to send; `${1}` in it is what `expect` found."""
    send_file: Path | None = None
    """A file with the message to send, for a secret."""

    @model_validator(mode="after")
    def _sends_one(self) -> Self:
        if self.send is not None and self.send_file is not None:
            raise ValueError("found both send and send_file, expected one of them")
        return self


class Options(NetworkOptions, TlsOptions):
    """How the server is spoken to."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    headers: dict[Token, Line] = {}
    """Headers of the handshake, such as Origin."""
    header_files: dict[Token, Path] = {}
    """Headers whose value is in a file, for a secret."""
    basic_auth: BasicAuth | None = None
    """`username` and `password`, or `username_file` and `password_file`."""
    authorization: Authorization | None = None
    """`credentials` or `credentials_file`, and their `type` if it is not Bearer."""
    subprotocols: tuple[Token, ...] = Field(default=(), max_length=20)
    """Subprotocols to offer, the best first."""
    query_response: tuple[Step, ...] = Field(default=(), max_length=100)
    """The messages, a list of steps."""

    @model_validator(mode="after")
    def _authorized_once(self) -> Self:
        if self.basic_auth is not None and self.authorization is not None:
            raise ValueError("found both basic_auth and authorization, expected one of them")
        return self


class Expect(Expectations):
    """What the server must answer."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    subprotocol: str | None = None
    """The subprotocol that the server must choose of those offered."""


HELP = {
    **address.HELP,
    **security.HELP,
    "probe_websocket_connection_upgraded": "1 if the server took the handshake",
    "probe_websocket_duration_seconds": "Time of each finished phase",
    "probe_websocket_failed_due_to_regex": "1 if a message did not match what was expected",
    "probe_websocket_status_code": "Status of the answer to the handshake, 0 without one",
}


async def probe(target: Target[Options, Expect], budget: float) -> Result:
    """Shake hands, go through the messages, say goodbye."""
    course = Course(budget)
    connection: Stream | None = None
    talk: _Talk | None = None
    broken: Broken | None = None
    try:
        scheme = target.url.partition(":")[0].lower()
        where = stream.place(target.url, PORTS[scheme])
        connection = await stream.connect(where, course, target.options)
        if scheme == "wss":
            options = target.options
            await stream.secure(connection, options, where.host, course, course.connecting)
        talk = _Talk(connection, course)
        await talk.shake_hands(target)
        await talk.exchange(target.options.query_response)
    except Broken as error:
        broken = error
    finally:
        if talk and talk.upgraded:
            await talk.leave()
        if connection:
            connection.close()
    samples = [
        *course.samples("probe_websocket_duration_seconds", PHASES),
        *address.samples(course.seconds("resolve"), connection.address if connection else ""),
        Sample("probe_websocket_connection_upgraded", bool(talk and talk.upgraded)),
        Sample("probe_websocket_failed_due_to_regex", bool(talk and talk.mismatched)),
        Sample("probe_websocket_status_code", talk.status if talk else 0),
    ]
    detail = f"{target.url} answers as expected."
    return stream.result(course, broken, detail, samples, connection, talk.secrets if talk else ())


class _Opcode(IntEnum):
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


class _Talk:
    """One connection, from the handshake to the farewell."""

    def __init__(self, connection: Stream, course: Course) -> None:
        self.stream = connection
        self.course = course
        self.status = 0
        self.upgraded = False
        self.mismatched = False
        self._buffer = bytearray()
        self.secrets: list[str] = []

    async def shake_hands(self, target: Target[Options, Expect]) -> None:
        """The HTTP request and its answer (RFC 6455, section 4). Raises Broken."""
        key = base64.b64encode(os.urandom(16))
        request = _request(target, key.decode(), self.secrets)
        where = self.stream.where
        detail = f"{where} accepts connections but does not answer in time."
        late = Broken(Reason.TIMEOUT, detail)
        async with self.course.phase("processing", self.course.left, late):
            await self.stream.send(request)
            self.status, headers = await self._head()
        if self.status != 101:
            detail = f"{target.url} answers with {self.status}, expected 101."
            refused = self.status == 401 and target.options.basic_auth is not None
            raise Broken(Reason.STATUS, detail, again=not refused)
        accept = base64.b64encode(hashlib.sha1(key + _ACCEPT).digest()).decode()
        chosen = headers.get("sec-websocket-protocol")
        for wrong, what in (
            (headers.get("upgrade", "").lower() != "websocket", "has no right Upgrade header"),
            ("upgrade" not in headers.get("connection", "").lower(), "does not switch over"),
            (headers.get("sec-websocket-accept") != accept, "does not repeat the key"),
            ("sec-websocket-extensions" in headers, "uses an extension nobody offered"),
            (
                chosen is not None and chosen not in target.options.subprotocols,
                "chooses a subprotocol nobody offered",
            ),
        ):
            if wrong:
                raise Broken(Reason.PROTOCOL, f"The handshake of {where} is wrong: it {what}.")
        self.upgraded = True
        wanted = target.expect.subprotocol
        if wanted is not None and wanted != chosen:
            choice = f"chooses the subprotocol '{chosen}'" if chosen else "chooses no subprotocol"
            raise Broken(Reason.CONTENT, f"{where} {choice}, expected '{wanted}'.")

    async def exchange(self, steps: tuple[Step, ...]) -> None:
        """Go through the steps. Raises Broken."""
        if not steps:
            return
        detail = f"{self.stream.where} does not send the messages that are expected in time."
        late = Broken(Reason.TIMEOUT, detail)
        async with self.course.phase("transfer", self.course.left, late):
            for step in steps:
                message = step.send
                if step.send_file:
                    message = read(step.send_file)
                    self.secrets.append(message)
                if step.expect is not None:
                    match = await self._match(step.expect, await self._message())
                    if step.send is not None:
                        message = expand(step.send, match)
                if message is not None:
                    await self._send(_Opcode.TEXT, message.encode())

    async def leave(self) -> None:
        """Close as RFC 6455, section 7, wants it; the server may answer for a moment."""
        with suppress(Broken, TimeoutError):
            async with asyncio.timeout(min(FAREWELL, self.course.left)):
                await self._send(_Opcode.CLOSE, struct.pack("!H", 1000))
                while await self.stream.receive():
                    pass

    async def _match(self, regex: str, message: str) -> Match:
        try:
            match = await search(regex, message)
        except TooSlow:
            match = None
        if match:
            return match
        self.mismatched = True
        for secret in filter(None, self.secrets):
            message = message.replace(secret, "***")
        shown = "".join(c if c.isprintable() else "." for c in message[:MOST_SHOWN])
        detail = f"{self.stream.where} sends '{shown}', expected a message that matches '{regex}'."
        raise Broken(Reason.CONTENT, detail)

    async def _head(self) -> tuple[int, Mapping[str, str]]:
        """Status and headers, names in lower case."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MOST_HEAD:
                detail = f"{self.stream.where} sends headers without end."
                raise Broken(Reason.PROTOCOL, detail)
            await self._fill()
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        status = re.match(r"HTTP/1\.[01] ([1-9][0-9]{2})( |$)", first)
        if not status:
            raise Broken(Reason.PROTOCOL, f"{self.stream.where} does not answer in HTTP/1.1.")
        fields = (line.partition(":") for line in lines)
        return int(status[1]), {name.strip().lower(): value.strip() for name, _, value in fields}

    async def _message(self) -> str:
        """The next message, its fragments joined; bytes that are no UTF-8 are replaced."""
        payload = bytearray()
        begun = False
        while True:
            last, opcode, piece = await self._frame()
            if opcode is _Opcode.PING:
                await self._send(_Opcode.PONG, piece)
            elif opcode is _Opcode.CLOSE:
                raise self._closed(piece)
            elif opcode is not _Opcode.PONG:
                if begun is not (opcode is _Opcode.CONTINUATION):
                    raise self._wrong("mixes up the fragments of its messages")
                begun = True
                payload += piece
                if len(payload) > MOST_MESSAGE:
                    raise self._wrong(f"sends a message of more than {MOST_MESSAGE:,} bytes")
                if last:
                    return payload.decode("utf-8", "replace")

    async def _frame(self) -> tuple[bool, _Opcode, bytes]:
        """Whether it is the last of its message, what it is, and its payload (section 5.2)."""
        first, second = await self._exactly(2)
        length = second & 0x7F
        if length == 126:
            (length,) = struct.unpack("!H", await self._exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", await self._exactly(8))
        last = bool(first & 0x80)
        if first & 0x70 or second & 0x80 or first & 0x0F not in set(_Opcode):
            raise self._wrong("sends a frame that RFC 6455 does not know")
        opcode = _Opcode(first & 0x0F)
        if opcode >= _Opcode.CLOSE and (not last or length > 125):
            raise self._wrong("sends a control frame that is too long")
        if length > MOST_MESSAGE:
            raise self._wrong(f"sends a message of more than {MOST_MESSAGE:,} bytes")
        return last, opcode, await self._exactly(length)

    async def _send(self, opcode: _Opcode, payload: bytes) -> None:
        mask = os.urandom(4)
        length = len(payload)
        if length < 126:
            size = struct.pack("!B", 0x80 | length)
        elif length < 65_536:
            size = struct.pack("!BH", 0x80 | 126, length)
        else:
            size = struct.pack("!BQ", 0x80 | 127, length)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
        await self.stream.send(bytes([0x80 | opcode]) + size + mask + masked)

    async def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count:
            await self._fill()
        piece = bytes(self._buffer[:count])
        del self._buffer[:count]
        return piece

    async def _fill(self) -> None:
        piece = await self.stream.receive()
        if not piece:
            when = "in the middle of a message" if self.upgraded else "before it answered"
            raise Broken(Reason.PROTOCOL, f"{self.stream.where} closed the connection {when}.")
        self._buffer += piece

    def _closed(self, payload: bytes) -> Broken:
        code = f" with code {int.from_bytes(payload[:2])}" if len(payload) >= 2 else ""
        return self._wrong(f"says goodbye{code} before it sent what is expected")

    def _wrong(self, what: str) -> Broken:
        return Broken(Reason.PROTOCOL, f"{self.stream.where} {what}.")


def _request(target: Target[Options, Expect], key: str, secrets: list[str]) -> bytes:
    """The handshake; what of it is secret is added to `secrets`."""
    url = URL(target.url, encoded=target.url.isascii())
    options = target.options
    headers: dict[str, str] = {
        "Host": url.raw_authority,
        "User-Agent": USER_AGENT,
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": key,
        "Sec-WebSocket-Version": "13",
    }
    if options.subprotocols:
        headers["Sec-WebSocket-Protocol"] = ", ".join(options.subprotocols)
    if basic := options.basic_auth:
        user = read(basic.username_file) if basic.username_file else basic.username or ""
        password = read(basic.password_file) if basic.password_file else basic.password or ""
        secrets += [password, f"{user}:{password}"]
        pair = base64.b64encode(f"{user}:{password}".encode()).decode()
        headers["Authorization"] = f"Basic {pair}"
    if given := options.authorization:
        token = read(given.credentials_file) if given.credentials_file else given.credentials
        headers["Authorization"] = f"{given.type} {token or ''}"
    own = {**options.headers, **{name: read(file) for name, file in options.header_files.items()}}
    replaced = {name.lower() for name in own}
    headers = {name: value for name, value in headers.items() if name.lower() not in replaced}
    headers |= own
    secrets += [value for name, value in headers.items() if is_secret(name)]
    secrets += [headers[name] for name in options.header_files]
    secrets.append(headers.get("Authorization", "").partition(" ")[2])
    for name, value in headers.items():
        if "\r" in value or "\n" in value:
            raise Broken(Reason.LOCAL, f"The file for {name} holds more than one line.")
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"GET {url.raw_path_qs} HTTP/1.1", *lines, "", ""]).encode()


KIND = Kind("websocket", tuple(PORTS), Options, Expect, probe, HELP)
