"""DNS over UDP, TCP or TLS: what a name server answers, and whether all of a zone agree."""

import asyncio
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset
from pydantic import AfterValidator, ConfigDict, Field

from dolcevita.config import Strict, one_or_many
from dolcevita.probes import address, security, stream
from dolcevita.probes.course import Broken, Course, fault_of
from dolcevita.probes.evidence import Evidence
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.pattern import Regex, TooSlow, search
from dolcevita.probes.result import Reason, Result, Sample
from dolcevita.probes.security import Session, TlsOptions
from dolcevita.probes.stream import NetworkOptions, Place

Transport = Literal["udp", "tcp", "tls"]

LARGEST = 1232
"""Bytes that an answer over UDP may have: more is often lost on the way (DNS flag day 2020)."""

MOST_SERVERS = 20
"""Name servers of a zone that are compared."""

MOST_SHOWN = 200
"""Characters of answers that are told."""


class Options(NetworkOptions, TlsOptions):
    """How the name server is asked. The TLS options are for `transport: tls`."""

    transport: Transport = "udp"
    """udp (over TCP where the answer is cut off), tcp, or tls for DNS over TLS."""
    recursion: bool = True
    """Ask the server to find the answer elsewhere if it does not have it itself."""


def _rcode(text: str) -> str:
    try:
        return dns.rcode.to_text(dns.rcode.from_text(text))
    except (dns.exception.DNSException, ValueError):
        raise ValueError("expected a response code such as NOERROR or NXDOMAIN") from None


class Records(Strict):
    """Regular expressions over the records of a section, as blackbox_exporter has them.

    A record is its text with tabs between name, TTL, class, type and data.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)

    fail_if_matches_regexp: Annotated[tuple[Regex, ...], one_or_many()] = ()
    """Fails if one record matches one of them."""
    fail_if_all_match_regexp: Annotated[tuple[Regex, ...], one_or_many()] = ()
    """Fails unless all records match all of them: so blackbox_exporter does it too."""
    fail_if_not_matches_regexp: Annotated[tuple[Regex, ...], one_or_many()] = ()
    """Fails if one record does not match one of them, or there is no record."""
    fail_if_none_matches_regexp: Annotated[tuple[Regex, ...], one_or_many()] = ()
    """Fails if no record matches any of them."""


class Expect(Expectations):
    """What the name server must answer."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    rcode: Annotated[tuple[Annotated[str, AfterValidator(_rcode)], ...], one_or_many()] = (
        "NOERROR",
    )
    """The response codes that are fine."""
    answer: Annotated[tuple[str, ...], one_or_many()] = ()
    """Data that must be among the answers, as a zone file has it: 192.0.2.1, or 10 mail.example."""
    only: bool = False
    """Nothing else than `answer` may be among the answers."""
    absent: Annotated[tuple[str, ...], one_or_many()] = ()
    """Data that must not be among the answers."""
    records: Annotated[int, Field(ge=0)] = 1
    """At least so many records in a NOERROR answer."""
    authority: Annotated[tuple[str, ...], one_or_many()] = ()
    """Data that must be in the authority section."""
    authoritative: bool = False
    """The server must answer with authority, not from a cache."""
    agreement: bool | Literal["answers"] = False
    """All name servers of the zone must have the same answer and the same serial, or the same
    answer only."""
    validate_answer_rrs: Records = Records()
    """Regular expressions over the answer section."""
    validate_authority_rrs: Records = Records()
    """Regular expressions over the authority section."""
    validate_additional_rrs: Records = Records()
    """Regular expressions over the additional section."""


HELP = {
    **address.HELP,
    **security.HELP,
    "probe_dns_additional_rrs": "Records in the additional section",
    "probe_dns_answer_rrs": "Records in the answer section",
    "probe_dns_authority_rrs": "Records in the authority section",
    "probe_dns_duration_seconds": "Time of each finished phase",
    "probe_dns_nameserver_serial": "Serial of the zone at each of its name servers",
    "probe_dns_nameserver_success": "1 for each name server of the zone that answers for it",
    "probe_dns_query_succeeded": "1 if there was an answer, whatever it says",
    "probe_dns_serial": "Serial of the zone, where its SOA record is asked for",
}


class Question(NamedTuple):
    """What is asked."""

    name: dns.name.Name
    type: dns.rdatatype.RdataType
    rdclass: dns.rdataclass.RdataClass

    def __str__(self) -> str:
        return f"{dns.rdatatype.to_text(self.type)} {self.name.to_text(omit_final_dot=True)}"

    def query(self, recursion: bool) -> dns.message.QueryMessage:
        """A message that asks it."""
        query = dns.message.make_query(
            self.name, self.type, self.rdclass, use_edns=0, payload=LARGEST
        )
        if not recursion:
            query.flags &= ~dns.flags.RD
        return query


class Answer(NamedTuple):
    """A response, the address it came from, and the TLS that it came in."""

    message: dns.message.Message
    address: str
    session: Session | None


async def probe(target: Target[Options, Expect], budget: float) -> Result:
    """Ask, compare the answer with what is expected, and the zone's name servers if asked to."""
    course = Course(budget)
    answer: Answer | None = None
    more: list[Sample] = []
    broken: Broken | None = None
    detail = ""
    try:
        where = stream.place(target.url, 853 if target.options.transport == "tls" else 53)
        question = _question(target.url)
        answer = await _ask(question, where, target.options, course)
        detail = f"{where} answers {_told(answer.message.answer)}."
        await _judge(question, where, answer.message, target.expect)
        if target.expect.agreement:
            late = Broken(Reason.TIMEOUT, "Not all name servers of the zone answer in time.")
            async with course.phase("agreement", course.left, late):
                await _compare(question, where, target, course, more)
    except Broken as error:
        broken = error
    session = answer.session if answer else None
    return Result(
        success=broken is None,
        reason=broken.reason if broken else None,
        detail=broken.detail if broken else detail,
        duration=course.elapsed,
        samples=(*_samples(course, answer), *more, *(session.samples() if session else ())),
        phases=tuple(course.phases),
        certificates=session.chain if session else (),
        facts=_facts(course, answer),
        evidence=_evidence(course, answer) if broken else None,
    )


def _question(url: str) -> Question:
    """From dns://server/name?type=MX&class=IN, much as RFC 4501 has it. Raises Broken."""
    parts = urlsplit(url)
    text = unquote(parts.path).removeprefix("/")
    if not text:
        detail = f"{url} names nothing to ask for: write dns://server/example.com?type=A."
        raise Broken(Reason.PROTOCOL, detail)
    asked = {key.lower(): value for key, value in parse_qsl(parts.query.replace(";", "&"))}
    try:
        return Question(
            dns.name.from_text(text),
            dns.rdatatype.from_text(asked.get("type", "A")),
            dns.rdataclass.from_text(asked.get("class", "IN")),
        )
    except (dns.exception.DNSException, ValueError):
        detail = f"{url} cannot be asked: its name, type or class is none of DNS."
        raise Broken(Reason.PROTOCOL, detail) from None


async def _ask(question: Question, where: Place, options: Options, course: Course) -> Answer:
    """Raises Broken."""
    query = question.query(options.recursion)
    if options.transport != "udp":
        return await _ask_over_tcp(query, where, options, course)
    answer = await _ask_over_udp(query, where, options, course)
    if answer.message.flags & dns.flags.TC:
        exact = options.model_copy(update={"ip_version": None})
        there = Place(answer.address, where.port)
        return await _ask_over_tcp(query, there, exact, course)
    return answer


async def _ask_over_udp(
    query: dns.message.Message, where: Place, options: Options, course: Course
) -> Answer:
    """From the first address that answers; each has its share of half of the budget."""
    found = await stream.addresses(where.host, course, options)
    late = Broken(Reason.CONNECT, f"{where} does not answer.")
    broken = late
    for number, one in enumerate(found):
        within = course.connecting / (len(found) - number)
        course.address = one
        try:
            async with course.phase("request", within, late):
                return Answer(await _exchange(query, where, one, options), one, None)
        except Broken as error:
            broken = error
    raise broken


async def _exchange(
    query: dns.message.Message, where: Place, address: str, options: Options
) -> dns.message.Message:
    loop = asyncio.get_running_loop()
    family, kind, protocol, _, remote = stream.sockaddr(address, where.port, socket.SOCK_DGRAM)
    with socket.socket(family, kind, protocol) as sock:
        sock.setblocking(False)
        try:
            if source := options.source_ip_address:
                sock.bind(stream.sockaddr(source, 0, socket.SOCK_DGRAM)[4])
            sock.connect(remote)
            await loop.sock_sendall(sock, query.to_wire())
            while True:
                packet = await loop.sock_recv(sock, stream.PIECE)
                # A server that sends without a pause would keep the event loop to itself.
                await asyncio.sleep(0)
                if message := _read(packet, query, where):
                    return message
        except OSError as error:
            raise Broken(Reason.CONNECT, f"{where} {stream.cause(error)}.") from None


async def _ask_over_tcp(
    query: dns.message.Message, where: Place, options: Options, course: Course
) -> Answer:
    connection = await stream.connect(where, course, options)
    try:
        if options.transport == "tls":
            await stream.secure(connection, options, where.host, course, course.connecting)
        late = Broken(Reason.TIMEOUT, f"{where} accepts connections but does not answer in time.")
        async with course.phase("request", course.left, late):
            wire = query.to_wire()
            await connection.send(len(wire).to_bytes(2) + wire)
            received = bytearray()
            while len(received) < 2 or len(received) < 2 + int.from_bytes(received[:2]):
                piece = await connection.receive()
                if not piece:
                    raise Broken(Reason.PROTOCOL, f"{where} closed the connection too early.")
                received += piece
            message = _read(bytes(received[2 : 2 + int.from_bytes(received[:2])]), query, where)
        if not message:
            raise Broken(Reason.PROTOCOL, f"{where} answers another question than was asked.")
        return Answer(message, connection.address, connection.session)
    finally:
        connection.close()


def _read(packet: bytes, query: dns.message.Message, where: Place) -> dns.message.Message | None:
    """The response to the query; None if it is one to something else. Raises Broken."""
    try:
        message = dns.message.from_wire(packet, ignore_trailing=True)
        return message if query.is_response(message) else None
    except (dns.exception.DNSException, ValueError):
        if packet[:2] != query.id.to_bytes(2):
            return None
        raise Broken(Reason.PROTOCOL, f"{where} sends what is no DNS message.") from None


async def _judge(
    question: Question, where: Place, message: dns.message.Message, expect: Expect
) -> None:
    """Raises Broken for the first thing that is not as expected."""
    rcode = dns.rcode.to_text(message.rcode())
    if rcode not in expect.rcode:
        detail = f"{where} answers {rcode} for {question}, expected {' or '.join(expect.rcode)}."
        raise Broken(Reason.STATUS, detail)
    if expect.authoritative and not message.flags & dns.flags.AA:
        raise Broken(Reason.CONTENT, f"{where} answers for {question} without authority.")
    found = _count(message.answer)
    if rcode == "NOERROR" and found < expect.records:
        detail = f"{where} has {found or 'no'} records for {question}, expected {expect.records}."
        raise Broken(Reason.CONTENT, detail)
    sections = {"answer": message.answer, "authority": message.authority}
    for section, wanted in (("answer", expect.answer), ("authority", expect.authority)):
        for text in wanted:
            if not any(_is(data, text) for data in _all(sections[section])):
                detail = (
                    f"{where} has {_told(sections[section])} in the {section} section "
                    f"for {question}, expected {text}."
                )
                raise Broken(Reason.CONTENT, detail)
    for data in _all(message.answer):
        if any(_is(data, text) for text in expect.absent) or (
            expect.only and not any(_is(data, text) for text in expect.answer)
        ):
            detail = f"{where} answers {data.to_text()[:MOST_SHOWN]} for {question}: not expected."
            raise Broken(Reason.CONTENT, detail)
    for section, records, rules in (
        ("answer", message.answer, expect.validate_answer_rrs),
        ("authority", message.authority, expect.validate_authority_rrs),
        ("additional", message.additional, expect.validate_additional_rrs),
    ):
        try:
            fault = await _fault(list(_lines(records)), rules)
        except TooSlow:
            fault = "its records take too long to look through"
        if fault:
            raise Broken(Reason.CONTENT, f"The {section} section of {where}: {fault}.")


async def _fault(lines: Sequence[str], rules: Records) -> str:
    """What the regular expressions find wrong with a section, '' for nothing. Raises TooSlow."""
    for line in lines:
        for regex in rules.fail_if_matches_regexp:
            if await search(regex, line):
                return f"'{line[:MOST_SHOWN]}' matches '{regex}'"
    for regex in rules.fail_if_not_matches_regexp:
        if not lines:
            return f"there is no record to match '{regex}'"
        for line in lines:
            if not await search(regex, line):
                return f"'{line[:MOST_SHOWN]}' does not match '{regex}'"
    for regex in rules.fail_if_all_match_regexp:
        for line in lines:
            if not await search(regex, line):
                return "not all records match what all should"
    some = rules.fail_if_none_matches_regexp
    for regex in some:
        for line in lines:
            if await search(regex, line):
                return ""
    return f"no record matches {' or '.join(some)}" if some else ""


def _all(section: Sequence[dns.rrset.RRset]) -> Iterator[Any]:
    for rrset in section:
        yield from rrset


def _count(section: Sequence[dns.rrset.RRset]) -> int:
    return sum(len(rrset) for rrset in section)


def _lines(section: Sequence[dns.rrset.RRset]) -> Iterator[str]:
    for rrset in section:
        kind, rdclass = dns.rdatatype.to_text(rrset.rdtype), dns.rdataclass.to_text(rrset.rdclass)
        for data in rrset:
            yield f"{rrset.name}\t{rrset.ttl}\t{rdclass}\t{kind}\t{data.to_text()}"


def _text(section: Sequence[dns.rrset.RRset]) -> str:
    return ", ".join(sorted(data.to_text() for data in _all(section))) or "nothing"


def _told(section: Sequence[dns.rrset.RRset]) -> str:
    return _text(section)[:MOST_SHOWN]


def _is(data: Any, text: str) -> bool:
    """Whether a record's data is what a zone file would have as this text."""
    if data.rdtype == dns.rdatatype.TXT and b"".join(data.strings).decode("latin-1") == text:
        return True
    try:
        # Equal whatever the case of names in it, or the way an address is written.
        wanted = dns.rdata.from_text(data.rdclass, data.rdtype, text, dns.name.root, False)
    except (dns.exception.DNSException, ValueError):
        return False
    return bool(data == wanted)


async def _compare(
    question: Question,
    where: Place,
    target: Target[Options, Expect],
    course: Course,
    samples: list[Sample],
) -> None:
    """Ask every name server of the zone the same, and for its serial. Raises Broken."""
    aside = Course(course.left)
    soa = (await _ask(question._replace(type=dns.rdatatype.SOA), where, target.options, aside))[0]
    zone = next(
        (one.name for one in (*soa.answer, *soa.authority) if one.rdtype == dns.rdatatype.SOA),
        None,
    )
    if zone is None:
        raise Broken(Reason.CONTENT, f"{where} does not tell which zone has {question}.")
    ns = question._replace(name=zone, type=dns.rdatatype.NS)
    listed = (await _ask(ns, where, target.options, aside))[0]
    servers = sorted(
        {data.target for data in _all(listed.answer) if data.rdtype == dns.rdatatype.NS}
    )[:MOST_SERVERS]
    if not servers:
        raise Broken(Reason.CONTENT, f"{where} names no name server of {zone}.")
    glue = _glue(listed.additional, target.options.ip_version)
    found = await asyncio.gather(
        *(
            _ask_server(question, zone, server, glue.get(server), where.port, target, course.left)
            for server in servers
        )
    )
    names = [server.to_text(omit_final_dot=True) for server in servers]
    views = dict(zip(names, found, strict=True))
    for name, view in views.items():
        label = {"nameserver": name}
        samples.append(Sample("probe_dns_nameserver_success", not isinstance(view, Broken), label))
        if not isinstance(view, Broken):
            samples.append(Sample("probe_dns_nameserver_serial", view.serial, label))
    good: dict[str, _View] = {}
    for name, view in views.items():
        if isinstance(view, Broken):
            detail = f"Not all name servers of {zone} are fine. {name}: {view.detail}"
            raise Broken(view.reason, detail)
        good[name] = view
    _agree(zone, question, {name: view.answer for name, view in good.items()})
    if target.expect.agreement is True:
        serials = {name: f"serial {view.serial}" for name, view in good.items()}
        _agree(zone, question, serials)


def _glue(additional: Sequence[dns.rrset.RRset], version: int | None) -> dict[dns.name.Name, str]:
    """The address of each name server that has one of this version, else IPv4 rather than 6."""
    types = {4: [dns.rdatatype.A], 6: [dns.rdatatype.AAAA]}.get(
        version or 0, [dns.rdatatype.AAAA, dns.rdatatype.A]
    )
    return {
        one.name: one[0].to_text() for kind in types for one in additional if one.rdtype == kind
    }


class _View(NamedTuple):
    """What one name server has: its answer in lower case without TTLs, and the zone's serial."""

    answer: str
    serial: int


async def _ask_server(
    question: Question,
    zone: dns.name.Name,
    server: dns.name.Name,
    glue: str | None,
    port: int,
    target: Target[Options, Expect],
    budget: float,
) -> _View | Broken:
    transport = "tcp" if target.options.transport == "tcp" else "udp"
    options = target.options.model_copy(update={"recursion": False, "transport": transport})
    # A course has half of its budget for being heard; here nothing comes after that.
    course = Course(budget * 1.8)
    host = glue or server.to_text(omit_final_dot=True)
    soa = question._replace(name=zone, type=dns.rdatatype.SOA)
    try:
        answers = [await _ask(one, Place(host, port), options, course) for one in (question, soa)]
    except Broken as error:
        return error
    message, about_zone = (answer.message for answer in answers)
    if not message.flags & dns.flags.AA:
        return Broken(Reason.CONTENT, f"It answers for {question} without authority.")
    serial = next(
        (data.serial for data in _all(about_zone.answer) if data.rdtype == dns.rdatatype.SOA), None
    )
    if serial is None:
        return Broken(Reason.CONTENT, "It has no SOA record of the zone.")
    rcode = dns.rcode.to_text(message.rcode())
    return _View(rcode if rcode != "NOERROR" else _text(message.answer).lower(), serial)


def _agree(zone: dns.name.Name, question: Question, views: Mapping[str, str]) -> None:
    if len(set(views.values())) > 1:
        told = ", ".join(f"{name} has {view}" for name, view in views.items())
        detail = f"The name servers of {zone} disagree about {question}: {told[: 3 * MOST_SHOWN]}."
        raise Broken(Reason.CONTENT, detail)


def _samples(course: Course, answer: Answer | None) -> list[Sample]:
    message = answer.message if answer else None
    sections = (message.answer, message.authority, message.additional) if message else ((), (), ())
    names = ("answer", "authority", "additional")
    samples = [
        Sample(f"probe_dns_{name}_rrs", _count(section))
        for name, section in zip(names, sections, strict=True)
    ]
    spent = {
        "resolve": course.seconds("resolve"),
        "connect": course.seconds("connect") + course.seconds("tls"),
        "request": course.seconds("request"),
    }
    samples += [
        Sample("probe_dns_duration_seconds", seconds, {"phase": phase})
        for phase, seconds in spent.items()
    ]
    samples.append(Sample("probe_dns_query_succeeded", message is not None))
    samples += address.samples(spent["resolve"], course.address)
    if message and message.question and message.question[0].rdtype == dns.rdatatype.SOA:
        serials = [d.serial for d in _all(message.answer) if d.rdtype == dns.rdatatype.SOA]
        samples.append(Sample("probe_dns_serial", serials[0] if serials else 0))
    return samples


def _evidence(course: Course, answer: Answer | None) -> Evidence:
    try:
        return stream.seen(course, answer.message.to_text().encode() if answer else b"")
    except (dns.exception.DNSException, ValueError):
        return stream.seen(course)


def _facts(course: Course, answer: Answer | None) -> dict[str, str]:
    facts = {"address": course.address} if course.address else {}
    if answer is None:
        return facts
    if answer.session:
        facts |= answer.session.facts()
    message = answer.message
    rcode = dns.rcode.to_text(message.rcode())
    facts["answer"] = f"{rcode}, {_told(message.answer)}"
    if message.flags & dns.flags.AA:
        facts["authority"] = "the server's own"
    return facts


KIND = Kind(
    "dns", ("dns",), Options, Expect, probe, HELP, fault=lambda url: fault_of(url, _question)
)
