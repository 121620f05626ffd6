"""IMAP: greeting, STARTTLS and a login (RFC 9051 and 3501)."""

import re

from dolcevita.probes.conversation import MOST_LINES, Conversation, Login, service
from dolcevita.probes.course import Broken

PORTS = {"imap": 143, "imaps": 993}

LOGIN = "the login"


async def converse(talk: Conversation) -> None:
    """Greeting to login."""
    async with talk.phase("greeting"):
        line = await talk.line()
    star, _, rest = line.partition(" ")
    status, _, text = rest.partition(" ")
    if star != "*" or status.upper() not in ("OK", "PREAUTH", "BYE"):
        raise talk.babble("IMAP", line)
    if status.upper() == "BYE":
        raise talk.refused("to talk", rest)
    talk.greeted(re.sub(r"^\[[^]]*] ?", "", text))
    async with talk.phase("capabilities"):
        able = await _capabilities(talk)
    if talk.starttls:
        if "STARTTLS" not in able:
            raise talk.no_starttls("STARTTLS")
        async with talk.phase("capabilities"):
            await _command(talk, "STARTTLS", "STARTTLS")
        await talk.secure(talk.course.left)
        async with talk.phase("capabilities"):
            able = await _capabilities(talk)
    if talk.login:
        async with talk.phase("login"):
            await _log_in(talk, talk.login, able)
            # Some take the login first and look for the mailbox then.
            await _command(talk, "NOOP", "to open the mailbox")


async def _capabilities(talk: Conversation) -> set[str]:
    """What the server can do, in upper case."""
    able: set[str] = set()
    for line in await _command(talk, "CAPABILITY", "CAPABILITY"):
        words = line.upper().split()
        if words[:2] == ["*", "CAPABILITY"]:
            able.update(words[2:])
    return able


async def _log_in(talk: Conversation, login: Login, able: set[str]) -> None:
    if "AUTH=PLAIN" in able:
        await talk.send("a AUTHENTICATE PLAIN")
        line = await talk.line()
        if not line.startswith("+"):
            raise _no_entry(talk, line.removeprefix("a "))
        await talk.send(login.plain())
        await _finish(talk, LOGIN)
    elif "LOGINDISABLED" not in able:
        words = f"{_quoted(login.username)} {_quoted(login.password)}"
        await _command(talk, f"LOGIN {words}", LOGIN)
    else:
        raise talk.no_login("PLAIN, LOGIN")


def _no_entry(talk: Conversation, answer: str) -> Broken:
    # The response code of RFC 9051, section 7.1.
    return talk.no_entry(answer, for_now="[UNAVAILABLE]" in answer.upper())


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


async def _command(talk: Conversation, command: str, what: str) -> list[str]:
    """The lines that come before the command is done."""
    await talk.send(f"a {command}")
    return await _finish(talk, what)


async def _finish(talk: Conversation, what: str) -> list[str]:
    lines: list[str] = []
    while len(lines) < MOST_LINES:
        line = await talk.line()
        tag, _, rest = line.partition(" ")
        if tag == "a":
            if rest.upper().split(" ")[0] != "OK":
                raise _no_entry(talk, rest) if what == LOGIN else talk.refused(what, rest)
            return lines
        if tag not in ("*", "+"):
            raise talk.babble("IMAP", line)
        lines.append(line)
    raise talk.endless()


KIND = service("imap", PORTS, converse, "a LOGOUT")
