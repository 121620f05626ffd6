"""WHOIS: what a registry says of a domain in free text (RFC 3912), where RDAP has nothing."""

import asyncio
import re
from contextlib import suppress
from datetime import UTC, datetime
from time import perf_counter

from dolcevita.probes import rdap
from dolcevita.probes.background import Unavailable
from dolcevita.probes.registration import MOST_LETTERS, Registration, statuses
from dolcevita.probes.resolve import Unresolved, resolve

ROOT = ("whois.iana.org", 43)
"""Names the WHOIS server of each top-level domain."""

MOST_BYTES = 200_000

_EXPIRY_KEYS = (
    "registry expiry date",
    "registrar registration expiration date",
    "expiration date",
    "expiration time",
    "expiry date",
    "expire date",
    "expires on",
    "expires",
    "expire",
    "paid till",
    "renewal date",
    "valid until",
    "free date",
)
"""Best first: registries have their own words. `free date` is when it goes to others."""

_DATES = (
    "%d-%b-%Y",
    "%Y-%b-%d",
    "%Y.%m.%d",
    "%Y/%m/%d",
    "%d.%m.%Y",
    "%d-%m-%Y",
    "%d/%m/%Y",
    "%Y%m%d",
)
_FREE = re.compile(
    r"\b(no match|not found|no entries found|no data found|nothing found|no object found"
    r"|does not exist|not registered|status:\s*(free|available)|is available for)\b",
    re.IGNORECASE,
)


async def server_of(domain: str, budget: float) -> tuple[str, int] | None:
    """(host, port) of the WHOIS server for the domain's end, None if there is none.

    Raises Unavailable.
    """
    answer = await _ask(*ROOT, domain.rpartition(".")[2], budget)
    host = next((value for key, value in _fields(answer) if key == "whois"), "")
    return (host, 43) if re.fullmatch(r"[A-Za-z0-9.-]+", host) else None


async def look_up(domain: str, host: str, port: int, budget: float) -> Registration:
    """Ask the WHOIS server. Raises Unavailable, also for an answer that cannot be understood."""
    answer = await _ask(host, port, domain, budget)
    source = f"whois://{host}:{port}"
    fields = _fields(answer)
    dates = {key: found for key, value in fields if (found := _date(value)) is not None}
    expires = next((dates[key] for key in _EXPIRY_KEYS if key in dates), None)
    # 'clientHold https://icann.org/epp#clientHold' has the code first.
    words = [
        re.split(r"\s+https?://|\s*\(", value)[0]
        for key, value in fields
        if key in ("domain status", "status", "eppstatus")
    ]
    if expires is None and _FREE.search(answer):
        return Registration(registered=False, source=source)
    if expires is None and not words:
        raise Unavailable(f"The answer of {host} port {port} holds no registration of {domain}.")
    registrars = [value for key, value in fields if key in ("registrar", "registrar name")]
    registrar = next(filter(None, registrars), "")[:MOST_LETTERS]
    return Registration(True, source, expires, statuses(words), registrar)


async def _ask(host: str, port: int, question: str, budget: float) -> str:
    begin = perf_counter()
    place = f"The WHOIS server {host} port {port}"
    try:
        async with asyncio.timeout(budget):
            addresses = await resolve(host, budget / 2)
            return await _exchange(addresses, port, question, begin + budget)
    except Unresolved as error:
        raise Unavailable(str(error)) from None
    except TimeoutError:
        raise Unavailable(f"{place} does not answer in time.") from None
    except OSError as error:
        words = error.strerror or "the connection broke"
        raise Unavailable(f"{place} cannot be asked: {words}.") from None


async def _exchange(addresses: list[str], port: int, question: str, deadline: float) -> str:
    """Ask the first address that connects, each within its share of the time that is left."""
    for i, address in enumerate(addresses):
        share = (deadline - perf_counter()) / (2 if i + 1 < len(addresses) else 1)
        try:
            async with asyncio.timeout(share):
                reader, writer = await asyncio.open_connection(address, port)
                break
        except OSError:
            # TimeoutError is one. The last address's fault is the one that is told.
            if i + 1 == len(addresses):
                raise
    try:
        writer.write(question.encode("ascii", "replace") + b"\r\n")
        await writer.drain()
        answer = bytearray()
        while len(answer) < MOST_BYTES and (piece := await reader.read(8192)):
            answer += piece
    finally:
        writer.close()
    with suppress(UnicodeDecodeError):
        return answer.decode("utf-8")
    return answer.decode("latin-1")


def _fields(answer: str) -> list[tuple[str, str]]:
    """(key in lower case, value) of each line 'Key: value', 'key.....: value' or '[Key] value'."""
    fields = []
    for line in answer.splitlines():
        match = re.match(r"\s*\[?([A-Za-z][\w /-]{0,60}?)[\s.]{0,60}[:\]]\s*(\S.*)?$", line[:500])
        if match and not line.startswith(("%", "#", ">>>")):
            key = re.sub(r"[\s-]+", " ", match[1]).lower()
            fields.append((key, (match[2] or "").strip()))
    return fields


def _date(text: str) -> float | None:
    """Unix seconds of a date as registries write it, in UTC where they name no zone."""
    text = re.sub(r"(?<=\d)\. (?=\d)", ".", text.strip()).rstrip(".")
    whole = rdap.instant(re.sub(r"([+-]\d\d)$", r"\1:00", text))
    # 20270714 is a date of ISO 8601 as well.
    if whole is not None:
        return whole
    day = re.split(r"[\sT]", text)[0]
    for form in ("%Y-%m-%d", *_DATES):
        with suppress(ValueError, OverflowError):
            return datetime.strptime(day, form).replace(tzinfo=UTC).timestamp()
    return None
