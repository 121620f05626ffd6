"""FTP: greeting, AUTH TLS and a login (RFC 959 and 4217); no file is touched."""

from dolcevita.probes.conversation import Conversation, Login, Reply, reply, service

PORTS = {"ftp": 21, "ftps": 990}


async def converse(talk: Conversation) -> None:
    """Greeting to login. Without a login asked for, no name is given: not even anonymous."""
    async with talk.phase("greeting"):
        greeting = await reply(talk, "FTP")
        if greeting.code == 120:  # Ready in some minutes, or already in a moment.
            greeting = await reply(talk, "FTP")
    if greeting.code != 220:
        raise talk.refused("to talk", greeting.text)
    talk.greeted(" ".join(greeting.lines))
    if talk.starttls:
        async with talk.phase("capabilities"):
            answer = await _say(talk, "AUTH TLS")
        if answer.code != 234:
            raise talk.no_starttls("AUTH TLS")
        await talk.secure(talk.course.left)
    if talk.login:
        async with talk.phase("login"):
            await _log_in(talk, talk.login)


async def _log_in(talk: Conversation, login: Login) -> None:
    answer = await _say(talk, f"USER {login.username}")
    if answer.code == 331:
        answer = await _say(talk, f"PASS {login.password}")
    if answer.code not in (230, 202, 232):
        raise talk.no_entry(answer.text, for_now=400 <= answer.code < 500)


async def _say(talk: Conversation, line: str) -> Reply:
    await talk.send(line)
    return await reply(talk, "FTP")


KIND = service("ftp", PORTS, converse, "QUIT")
