"""POP3: greeting, STLS and a login (RFC 1939, 2449 and 2595)."""

from dolcevita.probes.conversation import MOST_LINES, Conversation, Login, service

PORTS = {"pop3": 110, "pop3s": 995}


async def converse(talk: Conversation) -> None:
    """Greeting to login."""
    async with talk.phase("greeting"):
        yes, text = await _answer(talk)
    if not yes:
        raise talk.refused("to talk", text)
    talk.greeted(text)
    if talk.starttls:
        async with talk.phase("capabilities"):
            if "STLS" not in await _capabilities(talk):
                raise talk.no_starttls("STLS")
            await _command(talk, "STLS", "STLS")
        await talk.secure(talk.course.left)
    if talk.login:
        async with talk.phase("login"):
            await _log_in(talk, talk.login)


async def _answer(talk: Conversation) -> tuple[bool, str]:
    """Whether it is a yes, and its text."""
    line = await talk.line()
    sign, _, text = line.partition(" ")
    if sign not in ("+OK", "-ERR"):
        raise talk.babble("POP3", line)
    return sign == "+OK", text


async def _capabilities(talk: Conversation) -> set[str]:
    """The keywords of what the server can do, in upper case; none where it does not tell."""
    await talk.send("CAPA")
    yes, _ = await _answer(talk)
    if not yes:
        return set()
    able: set[str] = set()
    for _ in range(MOST_LINES):
        line = await talk.line()
        if line == ".":
            return able
        able.add(line.upper().partition(" ")[0])
    raise talk.endless()


async def _log_in(talk: Conversation, login: Login) -> None:
    for line in (f"USER {login.username}", f"PASS {login.password}"):
        await talk.send(line)
        yes, text = await _answer(talk)
        if not yes:
            # Extended response codes (RFC 2449 and 3206).
            raise talk.no_entry(text, for_now=text.startswith(("[SYS/TEMP]", "[IN-USE]")))


async def _command(talk: Conversation, line: str, what: str) -> None:
    await talk.send(line)
    yes, text = await _answer(talk)
    if not yes:
        raise talk.refused(what, text)


KIND = service("pop3", PORTS, converse, "QUIT")
