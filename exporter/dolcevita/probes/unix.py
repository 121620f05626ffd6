"""Unix sockets: what tcp.py does, on a socket of this machine."""

from typing import Self
from urllib.parse import unquote, urlsplit

from pydantic import model_validator

from dolcevita.probes import dialogue, security, stream
from dolcevita.probes.course import Broken, Course, fault_of
from dolcevita.probes.dialogue import Dialogue, Step
from dolcevita.probes.kind import Kind, Target
from dolcevita.probes.result import Reason, Result
from dolcevita.probes.security import TlsOptions
from dolcevita.probes.stream import Stream
from dolcevita.probes.tcp import Expect

PHASES = ("connect", "tls", "dialogue")


class Options(TlsOptions):
    """How the program behind the socket is spoken to."""

    tls: bool = False
    """Speak TLS from the beginning."""
    query_response: tuple[Step, ...] = ()
    """The dialogue, a list of steps."""

    @model_validator(mode="after")
    def _has_a_name(self) -> Self:
        secure = self.tls or any(step.starttls for step in self.query_response)
        if secure and not (self.server_name or self.insecure):
            raise ValueError(
                "expected 'server_name' (a socket's path is in no certificate), or insecure: true"
            )
        return self


HELP = {
    **security.HELP,
    **dialogue.HELP,
    "probe_unix_duration_seconds": "Time of each finished phase",
}


async def probe(target: Target[Options, Expect], budget: float) -> Result:
    """Connect, go through the dialogue, hang up."""
    course = Course(budget)
    options = target.options
    connection: Stream | None = None
    talk: Dialogue | None = None
    broken: Broken | None = None
    try:
        connection = await stream.connect_unix(_path(target.url), course)
        if options.tls:
            await stream.secure(connection, options, None, course, course.connecting)
        talk = Dialogue(connection, options, None)
        await talk.run(dialogue.steps(target.expect.banner, options.query_response), course)
    except Broken as error:
        broken = error
    finally:
        if connection:
            connection.close()
    samples = course.samples("probe_unix_duration_seconds", PHASES) + dialogue.samples(talk)
    detail = f"{target.url} answers as expected."
    return stream.result(course, broken, detail, samples, connection, talk.secrets if talk else ())


def _path(url: str) -> str:
    parts = urlsplit(url)
    if parts.netloc or not parts.path.startswith("/"):
        detail = f"{url} names no absolute path: write three slashes, as in unix:///run/app.sock."
        raise Broken(Reason.PROTOCOL, detail)
    return unquote(parts.path)


KIND = Kind("unix", ("unix",), Options, Expect, probe, HELP, fault=lambda url: fault_of(url, _path))
