"""ICMP echo, the ping; with the metrics of blackbox_exporter's icmp.

Own code because no library both tells a reply's hop limit and forbids fragments.
"""

import asyncio
import errno
import socket
import struct
import sys
from secrets import randbits
from time import perf_counter
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

from pydantic import Field

from dolcevita.probes import address, stream
from dolcevita.probes.course import Broken, Course
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.result import Reason, Result, Sample
from dolcevita.probes.stream import NetworkOptions

PHASES = ("resolve", "setup", "rtt")

# <linux/in.h>; Python has no names for them.
IP_TTL = 2
IP_MTU_DISCOVER = 10
IP_RECVTTL = 12
IP_PMTUDISC_DO = 2
IPV6_MTU_DISCOVER = 23

LARGEST = 65_507 - 8
"""Bytes of payload that fit into a packet of IPv4."""


class Options(NetworkOptions):
    """How the host is pinged."""

    payload_size: Annotated[int, Field(ge=0, le=LARGEST)] = 28
    """Bytes to send along."""
    ttl: Annotated[int, Field(ge=1, le=255)] | None = None
    """Hops that the packet may take; as the system has it where it is not set."""
    dont_fragment: bool = False
    """No router may split the packet: a larger one than the path takes is lost."""


class Expect(Expectations):
    """Nothing beyond the reply."""


HELP = {
    **address.HELP,
    "probe_icmp_duration_seconds": "Time of each finished phase",
    "probe_icmp_reply_hop_limit": "Hop limit (TTL for IPv4) of the reply as it arrived",
}


class Protocol(NamedTuple):
    """What differs between the two versions of IP ("RFC 792" and "RFC 4443")."""

    family: socket.AddressFamily
    number: int
    request: int
    reply: int
    level: int
    ttl: int
    receive_ttl: int
    arrived_ttl: int
    mtu_discover: int


PROTOCOLS = {
    4: Protocol(
        *(socket.AF_INET, socket.IPPROTO_ICMP, 8, 0),
        *(socket.IPPROTO_IP, socket.IP_TTL, IP_RECVTTL, IP_TTL, IP_MTU_DISCOVER),
    ),
    6: Protocol(
        *(socket.AF_INET6, socket.IPPROTO_ICMPV6, 128, 129),
        *(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, socket.IPV6_RECVHOPLIMIT),
        *(socket.IPV6_HOPLIMIT, IPV6_MTU_DISCOVER),
    ),
}


class Reply(NamedTuple):
    """After how many seconds it came, and the hop limit of its packet on arrival."""

    seconds: float
    hop_limit: int | None


async def probe(target: Target[Options, Expect], budget: float) -> Result:
    """One echo request to the first address that answers."""
    course = Course(budget)
    reply: Reply | None = None
    broken: Broken | None = None
    try:
        host = stream.host(target.url)
        found = await stream.addresses(host, course, target.options)
        reply = await _ping(host, found, course, target.options)
    except Broken as error:
        broken = error
    samples = course.samples("probe_icmp_duration_seconds", PHASES)
    samples += address.samples(course.seconds("resolve"), course.address)
    facts = {"address": course.address} if course.address else {}
    if reply and reply.hop_limit is not None:
        samples.append(Sample("probe_icmp_reply_hop_limit", reply.hop_limit))
        facts["hop limit"] = f"{reply.hop_limit} left on arrival"
    fine = f"{target.url} answers in {reply.seconds * 1000:.1f} ms." if reply else ""
    return Result(
        success=broken is None,
        reason=broken.reason if broken else None,
        detail=broken.detail if broken else fine,
        duration=course.elapsed,
        samples=tuple(samples),
        phases=tuple(course.phases),
        facts=facts,
        evidence=stream.seen(course) if broken else None,
    )


async def _ping(host: str, found: list[str], course: Course, options: Options) -> Reply:
    """Each address has its share of half of the budget. Raises Broken."""
    broken = late = Broken(Reason.CONNECT, f"{host} does not answer.")
    for number, one in enumerate(found):
        within = course.connecting / (len(found) - number)
        course.address = one
        try:
            return await _ping_address(host, one, within, late, course, options)
        except Broken as error:
            broken = error
    raise broken


async def _ping_address(
    host: str, to: str, within: float, late: Broken, course: Course, options: Options
) -> Reply:
    family, _, _, _, remote = stream.sockaddr(to, 0, socket.SOCK_DGRAM)
    protocol = PROTOCOLS[6 if family == socket.AF_INET6 else 4]
    try:
        async with course.phase("setup", within, late):
            sock = _open(protocol)
            raw = sock.type == socket.SOCK_RAW
            request = _request(protocol, raw, options.payload_size)
        with sock:
            _prepare(sock, protocol, options)
            # Then errors of routers on the way come as errors of the socket.
            sock.connect((remote[0], 0, *remote[2:]))
            async with course.phase("rtt", within, late):
                begin = perf_counter()
                sock.send(request)
                hop_limit = await _reply(sock, protocol, request, raw)
                return Reply(perf_counter() - begin, hop_limit)
    except OSError as error:
        if error.errno == errno.EMSGSIZE:
            detail = f"{host} cannot be reached by a packet of this size without splitting it."
            raise Broken(Reason.CONNECT, detail) from None
        raise Broken(Reason.CONNECT, f"{host} {stream.cause(error)}.") from None


def _open(protocol: Protocol) -> socket.socket:
    """A socket that this program may open: for pings only, else raw. Raises Broken, OSError."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            sock = socket.socket(protocol.family, kind, protocol.number)
        except PermissionError:
            continue
        sock.setblocking(False)
        return sock
    detail = (
        "This machine does not let the exporter ping: have the sysctl net.ipv4.ping_group_range "
        "include its group, or give it the capability CAP_NET_RAW."
    )
    raise Broken(Reason.LOCAL, detail)


def _prepare(sock: socket.socket, protocol: Protocol, options: Options) -> None:
    sock.setsockopt(protocol.level, protocol.receive_ttl, 1)
    if options.ttl is not None:
        sock.setsockopt(protocol.level, protocol.ttl, options.ttl)
    if options.dont_fragment:
        sock.setsockopt(protocol.level, protocol.mtu_discover, IP_PMTUDISC_DO)
    if source := options.source_ip_address:
        sock.bind(stream.sockaddr(source, 0, socket.SOCK_DGRAM)[4])


def _request(protocol: Protocol, raw: bool, size: int) -> bytes:
    """An echo request. The kernel fills in a ping socket's identifier, and IPv6's checksum."""
    payload = b"Dolce Vita asks: all well?  "[:size].ljust(size, b"\0")
    rest = struct.pack("!HH", randbits(16), randbits(16)) + payload
    checksum = _checksum(bytes([protocol.request, 0, 0, 0]) + rest) if raw else 0
    return struct.pack("!BBH", protocol.request, 0, checksum) + rest


def _checksum(packet: bytes) -> int:
    """RFC 1071."""
    words = struct.unpack(f"!{(len(packet) + 1) // 2}H", packet + b"\0" * (len(packet) % 2))
    total: int = sum(words)
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    return ~total & 0xFFFF


async def _reply(sock: socket.socket, protocol: Protocol, request: bytes, raw: bool) -> int | None:
    """Wait for the reply to the request; its hop limit."""
    while True:
        await _readable(sock)
        try:
            packet, ancillary, _, _ = sock.recvmsg(stream.PIECE, socket.CMSG_SPACE(4))
        except BlockingIOError:
            continue
        if raw and protocol.family == socket.AF_INET:
            # A raw socket of IPv4 gives the header of IP too; its length is in words.
            packet = packet[(packet[0] & 0x0F) * 4 :]
        # The identifier of a ping socket is the kernel's business, as are the checksums.
        same = packet[4:] == request[4:] if raw else packet[6:] == request[6:]
        if packet[:1] == bytes([protocol.reply]) and same:
            limits = (
                int.from_bytes(data, sys.byteorder)
                for level, kind, data in ancillary
                if (level, kind) == (protocol.level, protocol.arrived_ttl)
            )
            return next(limits, None)


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)


def _fault(url: str) -> str:
    return "names a port, and a ping has none: take it out" if urlsplit(url).port else ""


KIND = Kind("icmp", ("icmp",), Options, Expect, probe, HELP, fault=_fault)
