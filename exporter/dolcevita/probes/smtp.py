"""SMTP and mail submission: greeting, EHLO, STARTTLS and a login (RFC 5321, 3207, 4954)."""

from ipaddress import ip_address

from dolcevita.probes import conversation
from dolcevita.probes.conversation import Conversation, Login, Reply, encoded, reply, service

PORTS = {"smtp": 25, "smtps": 465, "submission": 587}


class Options(conversation.Options):
    """How the server is reached, trusted and logged in to."""

    helo: str | None = None
    """The name to introduce oneself with, instead of the address one comes from."""


async def converse(talk: Conversation) -> None:
    """Greeting to login. A server that knows EHLO only as HELO is fine if nothing needs more."""
    async with talk.phase("greeting"):
        greeting = await reply(talk, "SMTP")
    if greeting.code != 220:
        raise talk.refused("to talk", greeting.text)
    talk.greeted(" ".join(greeting.lines))
    async with talk.phase("capabilities"):
        able = await _hello(talk)
    if talk.starttls:
        if "STARTTLS" not in able:
            raise talk.no_starttls("STARTTLS")
        async with talk.phase("capabilities"):
            await _command(talk, "STARTTLS", 220)
        await talk.secure(talk.course.left)
        async with talk.phase("capabilities"):
            able = await _hello(talk)
    if talk.login:
        async with talk.phase("login"):
            await _log_in(talk, talk.login, able.get("AUTH", ()))


async def _hello(talk: Conversation) -> dict[str, tuple[str, ...]]:
    """What the server can do: each keyword with its words, in upper case."""
    assert isinstance(talk.options, Options)
    name = talk.options.helo or _literal(talk.stream.sock.getsockname()[0])
    await talk.send(f"EHLO {name}")
    answer = await reply(talk, "SMTP")
    if answer.code in (500, 502, 504):
        await _command(talk, f"HELO {name}", 250)
        return {}
    if answer.code != 250:
        raise talk.refused("EHLO", answer.text)
    lines = (line.upper().split() for line in answer.lines[1:])
    return {words[0]: tuple(words[1:]) for words in lines if words}


def _literal(ip: str) -> str:
    """An address where a name belongs (RFC 5321, section 4.1.3)."""
    return f"[IPv6:{ip}]" if ip_address(ip).version == 6 else f"[{ip}]"


async def _log_in(talk: Conversation, login: Login, mechanisms: tuple[str, ...]) -> None:
    if "PLAIN" in mechanisms:
        await _enter(talk, f"AUTH PLAIN {login.plain()}", 235)
    elif "LOGIN" in mechanisms:
        await _enter(talk, "AUTH LOGIN", 334)
        await _enter(talk, encoded(login.username), 334)
        await _enter(talk, encoded(login.password), 235)
    else:
        raise talk.no_login("PLAIN, LOGIN")


async def _enter(talk: Conversation, line: str, wanted: int) -> None:
    await talk.send(line)
    answer = await reply(talk, "SMTP")
    if answer.code != wanted:
        raise talk.no_entry(answer.text, for_now=400 <= answer.code < 500)


async def _command(talk: Conversation, line: str, wanted: int) -> Reply:
    await talk.send(line)
    answer = await reply(talk, "SMTP")
    if answer.code != wanted:
        raise talk.refused(line.partition(" ")[0], answer.text)
    return answer


KIND = service("smtp", PORTS, converse, "QUIT", Options)
