"""TLS: the whole chain, every certificate's expiry, other names, versions and OCSP stapling."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated

from cryptography import x509
from pydantic import ConfigDict, Field

from dolcevita.config import Duration, format_duration, one_or_many
from dolcevita.probes import address, security, stream
from dolcevita.probes.certificate import Certificate
from dolcevita.probes.course import Broken, Course
from dolcevita.probes.curl import check_staple
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.result import Reason, Result, Sample
from dolcevita.probes.security import Session, TlsOptions, Version
from dolcevita.probes.stream import NetworkOptions, Place, Stream

PHASES = ("resolve", "connect", "tls", "names", "versions", "ocsp")

MOST_TOLD = 10
"""Certificates of a chain that get a metric each."""


class Options(NetworkOptions, TlsOptions):
    """How the server is spoken to."""


class Expect(Expectations):
    """What the server must show."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    valid_for: Duration | None = None
    """Every certificate that is sent is still valid for so long."""
    issuer: str | None = None
    """A text in the name of who signed the server's certificate."""
    names: Annotated[tuple[str, ...], one_or_many(), Field(max_length=20)] = ()
    """Other names that the server has a good certificate for when it is asked by them."""
    accepts: Annotated[tuple[Version, ...], one_or_many()] = ()
    """Versions of TLS that the server speaks."""
    refuses: Annotated[tuple[Version, ...], one_or_many()] = ()
    """Versions of TLS that the server does not speak."""
    ocsp: bool = False
    """The server staples a good OCSP response; always expected where its certificate says so."""


HELP = {
    **address.HELP,
    **security.HELP,
    "probe_tls_certificate_expiry_timestamp_seconds": (
        "Unix time when a certificate that was sent for a name expires, the server's own first"
    ),
    "probe_tls_duration_seconds": "Time of each finished phase",
    "probe_tls_ocsp_stapled": "1 if a good OCSP response is stapled; only where it is expected",
    "probe_tls_version_accepted": "1 if the server speaks a version of TLS that was asked about",
}


async def probe(target: Target[Options, Expect], budget: float) -> Result:
    """Shake hands, and again for each name, version and OCSP response that is expected."""
    check = _Check(target, Course(budget))
    broken: Broken | None = None
    try:
        await check.run()
    except Broken as error:
        broken = error
    course = check.course
    samples = course.samples("probe_tls_duration_seconds", PHASES)
    samples += address.samples(course.seconds("resolve"), course.address)
    samples += _expiries(check.sessions) + check.samples
    own = next(iter(check.sessions.values()), None)
    if check.connection and check.connection.session is None:
        # It broke off at the certificate, which was then looked at without judging it.
        check.connection.session = own
    detail = f"{target.url} is as expected."
    if own and own.chain:
        first = min(own.chain, key=lambda one: one.expires)
        detail = f"{target.url} is as expected; {first.subject} expires first, {_day(first)}."
    return stream.result(course, broken, detail, samples, check.connection)


class _Check:
    """The handshakes of one probe; `sessions` are by the name that was asked for."""

    def __init__(self, target: Target[Options, Expect], course: Course) -> None:
        self.target = target
        self.options = target.options
        self.course = course
        self.connection: Stream | None = None
        self.sessions: dict[str, Session] = {}
        self.samples: list[Sample] = []

    async def run(self) -> None:
        """Everything that is expected, in order. Raises Broken at the first that is not so."""
        expect = self.target.expect
        where = stream.place(self.target.url, 443)
        name = self.options.server_name or where.host
        self.connection = await stream.connect(where, self.course, self.options)
        # From here on the same machine, if several have the name.
        there = Place(self.connection.address, where.port)
        try:
            own = self.sessions[name] = await stream.secure(
                self.connection, self.options, name, self.course, self.course.connecting
            )
        except Broken as error:
            self.connection.close()
            if error.reason is Reason.CERTIFICATE:
                await self._look_closer(there, name, error)
            raise
        # What follows has connections of its own, and some servers take one at a time.
        self.connection.close()
        if expect.names:
            await self._ask_for_names(there, expect.names)
        if expect.accepts or expect.refuses:
            await self._offer_versions(there, name)
        self._judge(name)
        if expect.ocsp or _must_staple(own):
            await self._ask_for_staple(there, name)

    async def _look_closer(self, there: Place, name: str, error: Broken) -> None:
        """Which certificate it is: OpenSSL tells nothing of a chain that it does not accept."""
        try:
            session = await self._shake_hands(there, name, self.options, verify=False)
        except Broken:
            return
        self.sessions[name] = session
        now = datetime.now(UTC).timestamp()
        expired = [one for one in session.chain if one.expires < now]
        if expired and error.detail.endswith("has expired."):
            which = f"{expired[0].subject} was valid until {_day(expired[0])}"
            raise Broken(error.reason, f"{error.detail[:-1]}: {which}.") from None

    async def _ask_for_names(self, there: Place, names: Sequence[str]) -> None:
        late = Broken(Reason.TIMEOUT, f"{there} does not show all names' certificates in time.")
        async with self.course.phase("names", self.course.left, late):
            tries = (self._shake_hands(there, name, self.options) for name in names)
            found = await asyncio.gather(*tries, return_exceptions=True)
        for name, outcome in zip(names, found, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            self.sessions[name] = outcome

    async def _offer_versions(self, there: Place, name: str) -> None:
        expect = self.target.expect
        versions = tuple(dict.fromkeys((*expect.accepts, *expect.refuses)))
        late = Broken(Reason.TIMEOUT, f"{there} does not answer to all versions of TLS in time.")
        async with self.course.phase("versions", self.course.left, late):
            spoken = await asyncio.gather(*(self._speaks(there, name, one) for one in versions))
        for version, speaks in zip(versions, spoken, strict=True):
            label = {"version": version}
            self.samples.append(Sample("probe_tls_version_accepted", speaks, label))
        for version, speaks in zip(versions, spoken, strict=True):
            if speaks and version in expect.refuses:
                raise Broken(Reason.TLS, f"{name} speaks {version}, which it should refuse.")
            if not speaks and version in expect.accepts:
                raise Broken(Reason.TLS, f"{name} does not speak {version}.")

    async def _speaks(self, there: Place, name: str, version: Version) -> bool:
        options = self.options.model_copy(update={"min_version": version, "max_version": version})
        try:
            await self._shake_hands(there, name, options, verify=False)
        except Broken as error:
            if error.reason is not Reason.TLS:
                raise
            return False
        return True

    async def _ask_for_staple(self, there: Place, name: str) -> None:
        late = Broken(Reason.TIMEOUT, f"{name} does not staple an OCSP response in time.")
        async with self.course.phase("ocsp", self.course.left, late):
            fault = await check_staple(
                name, there.port, there.host, self.course.left, self.options.ca_file
            )
        self.samples.append(Sample("probe_tls_ocsp_stapled", not fault))
        if fault:
            demands = "demands" if _must_staple(self.sessions[name]) else "should come with"
            detail = f"The certificate of {name} {demands} a good OCSP response: {fault}."
            raise Broken(Reason.CERTIFICATE, detail)

    async def _shake_hands(
        self, there: Place, name: str, options: Options, verify: bool = True
    ) -> Session:
        """On a connection of its own. Raises Broken."""
        course = Course(self.course.left)
        options = options.model_copy(update={"ip_version": None})
        context = security.context(options, verify)
        connection = await stream.connect(there, course, options)
        detail = f"{there} accepts connections but does not begin TLS in time."
        try:
            async with course.phase("tls", course.left, Broken(Reason.TIMEOUT, detail)):
                return await connection.secure(context, name)
        finally:
            connection.close()

    def _judge(self, name: str) -> None:
        """The chains against what is expected of them."""
        expect = self.target.expect
        soon = datetime.now(UTC).timestamp() + (expect.valid_for or 0)
        for asked, session in self.sessions.items():
            for one in session.chain:
                if expect.valid_for and one.expires < soon:
                    wanted = format_duration(expect.valid_for)
                    detail = (
                        f"The certificate {one.subject} of {asked} is valid until {_day(one)}, "
                        f"expected {wanted} or more from now."
                    )
                    raise Broken(Reason.CERTIFICATE, detail)
        own = self.sessions[name].chain
        issuer = own[0].issuer if own else "nobody that can be read"
        if expect.issuer and expect.issuer not in issuer:
            detail = f"The certificate of {name} is from '{issuer}', expected '{expect.issuer}'."
            raise Broken(Reason.CERTIFICATE, detail)


def _must_staple(session: Session) -> bool:
    """Whether the server's certificate has the extension of RFC 7633."""
    try:
        own = x509.load_der_x509_certificate(session.chain_der[0])
        features = own.extensions.get_extension_for_class(x509.TLSFeature).value
    except (ValueError, IndexError, x509.ExtensionNotFound, x509.DuplicateExtension):
        return False
    return x509.TLSFeatureType.status_request in features


def _day(one: Certificate) -> str:
    try:
        return datetime.fromtimestamp(one.expires, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (OverflowError, ValueError):
        return "a year beyond reckoning"


def _expiries(sessions: Mapping[str, Session]) -> list[Sample]:
    return [
        Sample(
            "probe_tls_certificate_expiry_timestamp_seconds",
            one.expires,
            {"server_name": name, "position": str(position), "subject": one.subject},
        )
        for name, session in sessions.items()
        for position, one in enumerate(session.chain[:MOST_TOLD])
    ]


KIND = Kind("tls", ("tls",), Options, Expect, probe, HELP)
