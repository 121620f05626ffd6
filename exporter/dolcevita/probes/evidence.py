"""What was seen of a failure, for whoever must fix it: bounded, and with secrets masked."""

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote, quote_plus

MOST_BODY = 2048
"""Characters of a body that are kept."""

MOST_SEEN = 2 * MOST_BODY
"""Bytes of a body that are looked at: a secret at the cut must be seen whole to be masked."""

MOST_HEADERS = 50
MOST_VALUE = 500
MOST_ADDRESSES = 16

MASK = "***"

SHORTEST_SECRET = 4
"""Shorter ones would mask half of what there is to read."""

_SECRET_WORD = (
    r"(?:password|passwd|passphrase|pass(?![a-z])|pwd|secret|token|api[_-]?key|private[_-]?key"
    r"|access[_-]?key|credentials?|authorization|auth(?![a-z])|cookie|session|sid(?![a-z])"
    r"|csrf|xsrf|signature|dsn(?![a-z]))"
)
_NAME = rf"[\w.-]{{0,40}}{_SECRET_WORD}[\w.-]{{0,40}}"
_ENTITY = r"&(?:quot|apos|\#x27|\#39|\#34);"

_SECRET = re.compile(_SECRET_WORD, re.IGNORECASE)

_PATTERNS = tuple(
    re.compile(pattern, re.IGNORECASE | re.VERBOSE)
    for pattern in (
        # A scheme and its credentials (RFC 9110, section 11.4), before a name hides the scheme.
        r"(?P<keep> \b (?:Bearer|Basic|Digest) \s{1,3} ) [\w.~+/-]{8,} =*",
        # A name and its value, as forms, JSON, YAML, environments, and the tables of pages that
        # are meant for developers have them.
        rf"""
        (?P<keep> (?<![\w.-]) {_NAME} (?: ["'\]] | {_ENTITY} ){{0,2}} \s{{0,3}}
          (?: => | [:=] | </\w{{1,8}}> \s{{0,9}} <\w{{1,8}}[^<>]{{0,99}}> ) \s{{0,3}}
          (?: <\w{{1,8}}[^<>]{{0,99}}> )? )
        (?: "[^"\n]*(?:"|$) | '[^'\n]*(?:'|$) | {_ENTITY}.*?(?:{_ENTITY}|$)
          | [^\s"'<>&{{\[(][^\s"'<>&]* )
        """,
        # A field of a form.
        rf"""
        (?P<keep> \b name=["']?{_NAME}["']? \s [^<>]{{0,99}}? value= )
        (?: "[^"]*(?:"|$) | '[^']*(?:'|$) | [^\s>]+ )
        """,
        # A user and a password before a host.
        r"(?P<keep> :// ) [^/\s\"'<>@:]{1,200} : [^/\s\"'<>@]{1,200} (?=@)",
        # JSON Web Tokens (RFC 7519) and keys (RFC 7468).
        r"(?P<keep> ) \b eyJ[\w-]{5,} \. [\w-]{5,} \. [\w-]*",
        r"(?P<keep> -----BEGIN[ ][A-Z ]{0,30}PRIVATE[ ]KEY----- ) [^-]*",
    )
)


class Evidence(NamedTuple):
    """What was seen. `addresses` are those of the name, `address` the one that was in use.

    `answer` is what came first, such as 'HTTP/2 503'. `body` is the begin of what came after the
    headers, or of all that a server without headers said.
    """

    addresses: tuple[str, ...] = ()
    address: str = ""
    answer: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""


def gather(
    *,
    secrets: Iterable[str] = (),
    addresses: Sequence[str] = (),
    address: str = "",
    answer: str = "",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    charset: str = "utf-8",
) -> Evidence:
    """Evidence without `secrets` (in clear text) and without what looks like one."""
    known = _forms(secrets)
    return Evidence(
        addresses=tuple(addresses[:MOST_ADDRESSES]),
        address=address,
        answer=masked(answer, known)[:MOST_VALUE],
        headers=tuple(
            (name[:MOST_VALUE], _header(name, value, known))
            for name, value in list(headers)[:MOST_HEADERS]
        ),
        body=masked(_text(body[:MOST_SEEN], charset), known)[:MOST_BODY],
    )


def masked(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without these words, and without what looks like a secret."""
    for secret in secrets:
        text = text.replace(secret, MASK)
    for pattern in _PATTERNS:
        text = pattern.sub(rf"\g<keep>{MASK}", text)
    return text


def is_secret(name: str) -> bool:
    """Whether a header or a field of this name holds a secret."""
    return bool(_SECRET.search(name)) and not name.lower().startswith("access-control-")


def _forms(secrets: Iterable[str]) -> list[str]:
    """Every form in which a server may repeat them, the longest first: one may hold another."""
    forms = {
        form
        for secret in secrets
        for form in (
            secret,
            quote(secret, safe="", errors="replace"),
            quote_plus(secret, errors="replace"),
            html.escape(secret),
            json.dumps(secret)[1:-1],
            b64encode(secret.encode(errors="replace")).decode(),
        )
        if len(secret) >= SHORTEST_SECRET
    }
    return sorted(forms, key=len, reverse=True)


def _header(name: str, value: str, secrets: Iterable[str]) -> str:
    if name.lower() == "set-cookie":
        cookie, _, rest = value.partition("=")
        _, semicolon, attributes = rest.partition(";")
        return f"{cookie}={MASK}{semicolon}{attributes}"[:MOST_VALUE]
    if is_secret(name):
        return MASK
    return masked(value[: 2 * MOST_VALUE], secrets)[:MOST_VALUE]


def _text(raw: bytes, charset: str) -> str:
    """As text; what cannot be shown is a dot."""
    try:
        text = raw.decode(charset, "replace")
    except (LookupError, ValueError):
        text = raw.decode("utf-8", "replace")
    return "".join(c if c.isprintable() or c in "\n\t" else "." for c in text.replace("\r\n", "\n"))
