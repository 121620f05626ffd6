"""TCP: a connection, TLS if asked, and a dialogue; with the metrics of blackbox_exporter's tcp."""

from pydantic import ConfigDict

from dolcevita.probes import address, dialogue, security, stream
from dolcevita.probes.course import Broken, Course, fault_of
from dolcevita.probes.dialogue import Dialogue, Step
from dolcevita.probes.kind import Expectations, Kind, Target
from dolcevita.probes.pattern import Regex
from dolcevita.probes.result import Result
from dolcevita.probes.security import TlsOptions
from dolcevita.probes.stream import NetworkOptions, Stream

PHASES = ("resolve", "connect", "tls", "dialogue")


class Options(NetworkOptions, TlsOptions):
    """How the server is spoken to."""

    tls: bool = False
    """Speak TLS from the beginning."""
    query_response: tuple[Step, ...] = ()
    """The dialogue, a list of steps."""


class Expect(Expectations):
    """What the server must say."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    banner: Regex | None = None
    """A regular expression that a line must match before anything is sent."""


HELP = {
    **address.HELP,
    **security.HELP,
    **dialogue.HELP,
    "probe_tcp_duration_seconds": "Time of each finished phase",
}


async def probe(target: Target[Options, Expect], budget: float) -> Result:
    """Connect, go through the dialogue, hang up."""
    course = Course(budget)
    options = target.options
    connection: Stream | None = None
    talk: Dialogue | None = None
    broken: Broken | None = None
    try:
        where = stream.place(target.url)
        connection = await stream.connect(where, course, options)
        if options.tls:
            await stream.secure(connection, options, where.host, course, course.connecting)
        talk = Dialogue(connection, options, where.host)
        await talk.run(dialogue.steps(target.expect.banner, options.query_response), course)
    except Broken as error:
        broken = error
    finally:
        if connection:
            connection.close()
    samples = course.samples("probe_tcp_duration_seconds", PHASES)
    samples += address.samples(course.seconds("resolve"), course.address)
    samples += dialogue.samples(talk)
    detail = f"{target.url} answers as expected."
    return stream.result(course, broken, detail, samples, connection, talk.secrets if talk else ())


KIND = Kind(
    "tcp", ("tcp",), Options, Expect, probe, HELP, fault=lambda url: fault_of(url, stream.place)
)
