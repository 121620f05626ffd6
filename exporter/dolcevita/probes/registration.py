"""The registration of a domain, as a registry tells it over RDAP or WHOIS."""

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Registration:
    """What a registry says of a domain.

    `expires` is in unix seconds, None where the registry does not tell. `statuses` are in the
    words of RDAP, lower case ("client hold"). `source` is the server that said so.
    """

    registered: bool
    source: str
    expires: float | None = None
    statuses: tuple[str, ...] = ()
    registrar: str = ""


MOST_STATUSES: Final = 20
MOST_LETTERS: Final = 100


def status(word: str) -> str:
    """A status in the words of RDAP: 'clientHold' of EPP is 'client hold' (RFC 8056)."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", word.strip())
    return re.sub(r"[\s_-]+", " ", spaced).lower()[:MOST_LETTERS]


def statuses(words: list[str]) -> tuple[str, ...]:
    """Each status once, no more than a sane registry would give."""
    return tuple(dict.fromkeys(filter(None, map(status, words))))[:MOST_STATUSES]
