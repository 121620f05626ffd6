"""A connection over TCP or a unix socket that can be secured, read and written."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

from aiohappyeyeballs import start_connection
from pydantic import AfterValidator, ConfigDict
from yarl import URL

from dolcevita.config import Strict
from dolcevita.probes import security
from dolcevita.probes.course import Broken, Course
from dolcevita.probes.evidence import MOST_SEEN, Evidence, gather
from dolcevita.probes.resolve import Unresolved, resolve
from dolcevita.probes.result import Reason, Result, Sample
from dolcevita.probes.security import Session, TlsOptions

T = TypeVar("T")

MOST_ADDRESSES = 16
"""Addresses of a name that are tried; more would be a scan of somebody's network."""

HEAD_START = 0.25
"""Seconds that one address has before the next is tried beside it (RFC 8305, section 5)."""

PIECE = 65_536
"""Bytes read at once."""


def _address(text: str) -> str:
    try:
        return str(ip_address(text))
    except ValueError:
        raise ValueError("expected an IP address") from None


Address = Annotated[str, AfterValidator(_address)]


class NetworkOptions(Strict):
    """How a host is reached."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    ip_version: Literal[4, 6] | None = None
    """Only over this version of IP; as the system prefers where it is not set."""
    ip_fallback: bool = False
    """Over the other version where the name has no address of `ip_version`."""
    source_ip_address: Address | None = None
    """An address of this machine to send from."""


class Place(NamedTuple):
    """A port of a host; the host is an ASCII name or an address without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host} port {self.port}"


def host(url: str) -> str:
    """The ASCII name or the address that a URL is about. Raises Broken where there is none."""
    try:
        found = URL(url, encoded=url.isascii()).raw_host
    except ValueError:
        found = None
    if not found:
        raise Broken(Reason.PROTOCOL, f"{url} names no host.")
    return found


def place(url: str, default_port: int | None = None) -> Place:
    """Where a URL points to. Raises Broken where it names no host or no port."""
    name = host(url)
    port = URL(url, encoded=url.isascii()).explicit_port or default_port
    if not port:
        raise Broken(Reason.PROTOCOL, f"{url} names no port: write one, as in {url}:22.")
    return Place(name, port)


async def addresses(host: str, course: Course, options: NetworkOptions) -> list[str]:
    """The addresses of a host that may be tried, at least one. Raises Broken."""
    late = Broken(Reason.DNS, f"{host} was not resolved in time.")
    async with course.phase("resolve", course.budget, late):
        try:
            found = await resolve(host, course.connecting)
        except Unresolved as error:
            raise Broken(Reason.DNS, str(error)) from None
        if version := options.ip_version:
            wanted = [one for one in found if ip_address(one).version == version]
            if not wanted and not options.ip_fallback:
                raise Broken(Reason.DNS, f"The name {host} has no IPv{version} address.")
            found = wanted or found
        course.address = found[0]
        course.addresses = found[:MOST_ADDRESSES]
        return course.addresses


def sockaddr(address: str, port: int, kind: socket.SocketKind) -> Any:
    """(family, type, protocol, '', address) of an IP address, scope and all."""
    flags = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
    return socket.getaddrinfo(address, port, type=kind, flags=flags)[0]


async def connect(where: Place, course: Course, options: NetworkOptions) -> "Stream":
    """Over TCP to the first address that answers. Raises Broken."""
    found = await addresses(where.host, course, options)
    remote = [sockaddr(address, where.port, socket.SOCK_STREAM) for address in found]
    source = options.source_ip_address
    local = [sockaddr(source, 0, socket.SOCK_STREAM)] if source else None
    late = Broken(Reason.CONNECT, f"{where} does not answer.")
    async with course.phase("connect", course.connecting, late):
        try:
            connected = await start_connection(
                remote,
                local_addr_infos=local,
                happy_eyeballs_delay=HEAD_START,
                interleave=1 if options.ip_version is None else None,
            )
        except (OSError, RuntimeError) as error:
            raise Broken(Reason.CONNECT, f"{where} {cause(error)}.") from None
        try:
            course.address = connected.getpeername()[0]
        except OSError:
            # The server has hung up already.
            connected.close()
            detail = f"{where} broke the connection off."
            raise Broken(Reason.PROTOCOL, detail) from None
    return Stream(connected, str(where), course.address)


async def connect_unix(path: str, course: Course) -> "Stream":
    """To a unix socket. Raises Broken."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.setblocking(False)
    where = f"The socket {path}"
    late = Broken(Reason.CONNECT, f"{where} accepts no more connections.")
    try:
        async with course.phase("connect", course.connecting, late):
            # Nothing tells when there is room in a full backlog: one must ask again.
            while (code := sock.connect_ex(path)) == errno.EAGAIN:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            if code:
                words = _UNIX_CAUSES.get(code) or cause(OSError(code, ""))
                raise Broken(Reason.CONNECT, f"{where} {words}.")
    except OSError as error:
        sock.close()
        raise Broken(Reason.CONNECT, f"{where} cannot be opened: {error}.") from None
    except BaseException:
        sock.close()
        raise
    return Stream(sock, where, "")


async def secure(
    connection: "Stream", options: TlsOptions, name: str | None, course: Course, within: float
) -> Session:
    """Begin TLS on a connection. Raises Broken."""
    detail = f"{connection.where} accepts connections but does not begin TLS in time."
    late = Broken(Reason.TIMEOUT, detail)
    context = security.context(options)
    async with course.phase("tls", within, late):
        return await connection.secure(context, options.server_name or name)


_CAUSES = {
    errno.ECONNREFUSED: "refuses the connection",
    errno.EHOSTUNREACH: "cannot be reached: no route to the host",
    errno.ENETUNREACH: "cannot be reached: no route to its network",
    errno.ETIMEDOUT: "does not answer",
    errno.EADDRNOTAVAIL: "cannot be reached from that address of this machine",
    errno.EACCES: "may not be reached: this machine forbids it",
    errno.EPERM: "may not be reached: this machine forbids it",
}
_UNIX_CAUSES = {
    errno.ENOENT: "does not exist",
    errno.ECONNREFUSED: "has nobody who listens on it",
    errno.EACCES: "may not be opened by the exporter's user",
    errno.EPERM: "may not be opened by the exporter's user",
    errno.ENOTSOCK: "is no socket",
    errno.EPROTOTYPE: "is for datagrams and takes no connections",
}


def cause(error: OSError | RuntimeError) -> str:
    """Why a host is not reached, as the end of a sentence that begins with it."""
    code = error.errno if isinstance(error, OSError) else None
    words = errno.errorcode.get(code or 0) or "several addresses failed, each for another cause"
    return _CAUSES.get(code or 0) or f"cannot be reached: {words}"


def result(
    course: Course,
    broken: Broken | None,
    detail: str,
    samples: Sequence[Sample],
    connection: "Stream | None",
    secrets: Iterable[str] = (),
) -> Result:
    """What came of a probe over this connection, if there was one.

    `detail` is for a success; `secrets` are what the server was told, in clear text.
    """
    session = connection.session if connection else None
    facts = {"address": course.address} if course.address else {}
    return Result(
        success=broken is None,
        reason=broken.reason if broken else None,
        detail=broken.detail if broken else detail,
        duration=course.elapsed,
        samples=(*samples, *(session.samples() if session else ())),
        phases=tuple(course.phases),
        certificates=session.chain if session else (),
        facts=facts | (session.facts() if session else {}),
        evidence=seen(course, bytes(connection.head) if connection else b"", secrets)
        if broken
        else None,
        again=broken.again if broken else True,
    )


def seen(course: Course, body: bytes = b"", secrets: Iterable[str] = ()) -> Evidence:
    """The evidence of a course: addresses, and what was sent back."""
    return gather(secrets=secrets, addresses=course.addresses, address=course.address, body=body)


class Stream:
    """A connection to the server `where`; `address` is its IP address, '' on a unix socket.

    `head` is the begin of what was received. Every wait is the caller's to limit. What goes
    wrong is raised as Broken.
    """

    def __init__(self, sock: socket.socket, where: str, address: str) -> None:
        self.sock = sock
        self.where = where
        self.address = address
        self.session: Session | None = None
        self.head = bytearray()
        self._tls: ssl.SSLObject | None = None
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()

    async def secure(self, context: ssl.SSLContext, name: str | None) -> Session:
        """Speak TLS from now on; `name` is None where the certificate's does not matter."""
        tls = context.wrap_bio(
            self._incoming, self._outgoing, server_hostname=name.rstrip(".") if name else None
        )
        try:
            await self._drive(tls.do_handshake)
        except OSError as error:
            raise security.failure(error, name or self.where, self.where) from None
        self._tls = tls
        self.session = Session(tls)
        return self.session

    async def receive(self) -> bytes:
        """What comes next, at most 64 KiB; b'' when the server has closed the connection."""
        tls = self._tls
        try:
            if tls is None:
                piece = await self._receive()
            else:
                piece = await self._drive(lambda: tls.read(PIECE))
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return b""
        except OSError as error:
            raise self._lost(error) from None
        self.head += piece[: MOST_SEEN - len(self.head)]
        return piece

    async def send(self, data: bytes) -> None:
        """Send all of it."""
        tls = self._tls
        try:
            if tls is None:
                await asyncio.get_running_loop().sock_sendall(self.sock, data)
            elif data:
                await self._drive(lambda: tls.write(data))
        except OSError as error:
            raise self._lost(error) from None

    def close(self) -> None:
        """End the connection without waiting for the other side; again, it does nothing."""
        tls, self._tls = self._tls, None
        if tls:
            with suppress(OSError):
                # Servers note a connection that ends without TLS's own goodbye as an attack.
                tls.unwrap()
            with suppress(OSError):
                self.sock.send(self._outgoing.read())
        self.sock.close()

    async def _drive(self, step: Callable[[], T]) -> T:
        """Carry bytes between OpenSSL and the socket until the step is done."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                done = step()
            except ssl.SSLWantReadError:
                await loop.sock_sendall(self.sock, self._outgoing.read())
            except ssl.SSLError:
                with suppress(OSError):
                    # The alert, so that the server's log tells it too.
                    self.sock.send(self._outgoing.read())
                raise
            else:
                await loop.sock_sendall(self.sock, self._outgoing.read())
                return done
            if piece := await self._receive():
                self._incoming.write(piece)
            else:
                self._incoming.write_eof()

    async def _receive(self) -> bytes:
        piece = await asyncio.get_running_loop().sock_recv(self.sock, PIECE)
        # A server that sends without a pause would keep the event loop to itself.
        await asyncio.sleep(0)
        return piece

    def _lost(self, error: OSError) -> Broken:
        if isinstance(error, ssl.SSLError):
            return security.failure(error, self.where, self.where)
        return Broken(Reason.PROTOCOL, f"{self.where} broke the connection off.")
