"""HTTP: what is wrong with an answer, in the order in which it comes."""

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from dolcevita.probes import cel, pattern
from dolcevita.probes.curl import Exchange, Failure, Headers, shown
from dolcevita.probes.evidence import MOST_SEEN, Evidence, gather
from dolcevita.probes.http_options import (
    ANYTHING,
    MOST_REDIRECTS,
    Expect,
    HeaderExpect,
    Options,
    split,
)
from dolcevita.probes.kind import Target
from dolcevita.probes.result import Reason

MOST_BODY = 10_000_000
"""Bytes of a decoded body that are read; what comes after them is not looked at."""

MOST_KEPT = 1_000_000
"""Bytes of a decoded body that expressions and JSONPaths see, without `body_limit`."""


class Fault(NamedTuple):
    """Why the answer is not what is expected; `regex` or `cel` where such an expression said so."""

    failure: Failure
    regex: bool = False
    cel: bool = False


class Body:
    """Looks for texts in a body as it comes; keeps only what expressions must see, bounded.

    So the memory of a probe does not depend on what a server sends, and no decoder runs on it:
    a text is looked for in the bytes that it has in the encodings a page may be in.
    """

    def __init__(self, expect: Expect, limit: int | None) -> None:
        self.texts = (*expect.contains, *expect.absent)
        self.limit = limit
        expressions = expect.matches or expect.not_matches or expect.json_ or expect.cel
        self.most_kept = min(limit or MOST_KEPT, MOST_BODY) if expressions else 0
        self.reset()

    def reset(self) -> None:
        """Forget the body of a redirect."""
        self.length = 0
        self.too_long = False
        self.head = bytearray()
        self.found: set[str] = set()
        self.patterns: list[tuple[str, bytes]] = []
        self.overlap = b""
        self.longest = 0
        self.charset = "utf-8"
        self.kept = bytearray()

    def begin(self, headers: Headers) -> Callable[[bytes], bool]:
        self.charset = _charset(headers)
        if not self.texts:
            return self.take
        encodings = ("utf-8", "cp1252", "utf-16-le", "utf-16-be", self.charset)
        patterns = {(text, _encode(text, name)) for text in self.texts for name in encodings}
        self.patterns = [(text, pattern) for text, pattern in patterns if pattern]
        self.longest = max((len(pattern) for _, pattern in self.patterns), default=0)
        self.found = {text for text in self.texts if not text}
        return self.take

    def take(self, piece: bytes) -> bool:
        if self.limit is not None and self.length + len(piece) > self.limit:
            piece = piece[: self.limit - self.length]
            self.too_long = True
        self.length += len(piece)
        self.head += piece[: MOST_SEEN - len(self.head)]
        self.kept += piece[: self.most_kept - len(self.kept)]
        if self.patterns:
            window = self.overlap + piece
            self.found |= {text for text, pattern in self.patterns if pattern in window}
            self.overlap = window[-self.longest :]
        return not self.too_long if self.limit is not None else self.length < MOST_BODY

    def text(self) -> str:
        """What was kept of it, for expressions."""
        try:
            return self.kept.decode(self.charset, "replace")
        except LookupError:
            return self.kept.decode("utf-8", "replace")


async def verdict(
    target: Target[Options, Expect], hops: Sequence[Exchange], body: Body
) -> Fault | None:
    """What is wrong first, in the order in which an answer comes."""
    expect, final = target.expect, hops[-1]
    if final.failure:
        if len(hops) > 1 and final.failure.reason is Reason.PROTOCOL and not final.connected:
            there = shown(final.url)
            detail = f"{shown(hops[-2].url)} redirects to {there}, which is not a web URL."
            return Fault(Failure(Reason.REDIRECT, detail))
        return Fault(final.failure)
    failure = _connection(target, hops)
    if failure:
        return Fault(failure)
    for name, wanted in expect.header.items():
        values = [value for key, value in final.headers if key == name.lower()]
        if fault := await _header(name, values, wanted):
            return fault
    if body.too_long:
        detail = f"The page is longer than {body.limit:,} bytes."
        return Fault(Failure(Reason.CONTENT, detail))
    return await _content(target, final, body)


def _connection(target: Target[Options, Expect], hops: Sequence[Exchange]) -> Failure | None:
    """What is wrong with the status, the versions and the URL."""
    expect, final, url = target.expect, hops[-1], shown(hops[-1].url)
    if len(hops) > MOST_REDIRECTS and target.options.redirects is None:
        detail = f"{shown(hops[0].url)} redirects more than {MOST_REDIRECTS} times."
        return Failure(Reason.REDIRECT, detail)
    if expect.status:
        if final.status not in expect.status:
            wanted = " or ".join(map(str, expect.status))
            detail = f"{url} answers with {final.status}, expected {wanted}."
            return Failure(Reason.STATUS, detail)
    elif not 200 <= final.status < 300:
        return Failure(Reason.STATUS, f"{url} answers with {final.status}, expected 2xx.")
    if expect.final_url and _normal(final.url) != _normal(expect.final_url):
        detail = f"The redirects end at {url}, expected {expect.final_url}."
        return Failure(Reason.REDIRECT, detail)
    if expect.http_version and f"{final.version:g}" not in expect.http_version:
        wanted = " or ".join(f"HTTP/{version}" for version in expect.http_version)
        detail = f"{url} answers with HTTP/{final.version:g}, expected {wanted}."
        return Failure(Reason.PROTOCOL, detail)
    if expect.tls is not None and expect.tls != (final.secured > 0):
        found, wanted = ("with", "without") if final.secured else ("without", "with")
        return Failure(Reason.TLS, f"{url} answers {found} TLS, expected {wanted}.")
    if expect.tls_version and final.tls_version not in expect.tls_version:
        wanted = " or ".join(expect.tls_version)
        detail = f"{url} answers over {final.tls_version or 'no TLS'}, expected {wanted}."
        return Failure(Reason.TLS, detail)
    return None


async def _header(name: str, values: Sequence[str], wanted: HeaderExpect) -> Fault | None:
    asks = bool(wanted.matches or wanted.not_matches)
    if not values:
        if wanted.optional or wanted.present is False:
            return None
        return Fault(Failure(Reason.CONTENT, f"The header {name} is not sent."), asks)
    sent = f"The header {name} is '{values[-1][:100]}'"
    if wanted.present is False:
        return Fault(Failure(Reason.CONTENT, f"{sent}, expected it not to be sent."))
    for text in wanted.contains:
        if not any(text in value for value in values):
            return Fault(Failure(Reason.CONTENT, f"{sent}, expected it to contain '{text}'."))
    try:
        for regex in wanted.not_matches:
            if await _in_one(regex, values):
                detail = f"{sent}, expected it not to match '{regex}'."
                return Fault(Failure(Reason.CONTENT, detail), True)
        for regex in wanted.matches:
            if not await _in_one(regex, values):
                detail = f"{sent}, expected it to match '{regex}'."
                return Fault(Failure(Reason.CONTENT, detail), True)
    except pattern.TooSlow:
        return _too_slow(f"the header {name}")
    return None


async def _in_one(regex: str, values: Sequence[str]) -> bool:
    for value in values:
        if await pattern.search(regex, value):
            return True
    return False


def _too_slow(where: str) -> Fault:
    detail = f"The regular expressions take too long for {where}: write simpler ones."
    return Fault(Failure(Reason.CONTENT, detail), True)


async def _content(target: Target[Options, Expect], final: Exchange, body: Body) -> Fault | None:
    """What is wrong with the page."""
    expect, options = target.expect, target.options
    if options.compression not in (None, "identity"):
        sent = next((value for key, value in final.headers if key == "content-encoding"), "none")
        if sent.lower() != options.compression:
            detail = f"The compression of the page is {sent}, expected {options.compression}."
            return Fault(Failure(Reason.CONTENT, detail))
    for text in expect.contains:
        if text not in body.found:
            return Fault(Failure(Reason.CONTENT, f"'{text}' is not in the page."))
    for text in expect.absent:
        if text in body.found:
            detail = f"'{text}' is in the page and should not be."
            return Fault(Failure(Reason.CONTENT, detail))
    if expect.matches or expect.not_matches:
        try:
            if fault := await _matches(expect, body.text()):
                return fault
        except pattern.TooSlow:
            return _too_slow("the page")
    if expect.json_ and (failure := _json(expect, body)):
        return Fault(failure)
    return await _cel(expect, body) if expect.cel else None


async def _matches(expect: Expect, text: str) -> Fault | None:
    for regex in expect.not_matches:
        if await pattern.search(regex, text):
            detail = f"The page matches '{regex}' and should not."
            return Fault(Failure(Reason.CONTENT, detail), True)
    for regex in expect.matches:
        if not await pattern.search(regex, text):
            return Fault(Failure(Reason.CONTENT, f"The page does not match '{regex}'."), True)
    return None


def _json(expect: Expect, body: Body) -> Failure | None:
    if failure := _cut_off(body):
        return failure
    try:
        with pattern.bounded():
            document = pattern.document(bytes(body.kept))
            for path, wanted in expect.json_.items():
                values = pattern.found(path, document)
                if not values:
                    return Failure(Reason.CONTENT, f"The page has nothing at {path}.")
                if wanted is not ANYTHING and not any(_same(value, wanted) for value in values):
                    there = repr(values[0])[:100]
                    detail = f"The page has {there} at {path}, expected {wanted!r}."
                    return Failure(Reason.CONTENT, detail)
    except ValueError as error:
        return Failure(Reason.CONTENT, f"The page is no JSON: {error}.")
    except pattern.TooSlow:
        return Failure(Reason.CONTENT, "The JSON of the page takes too long to look through.")
    return None


def _cut_off(body: Body) -> Failure | None:
    if body.length <= len(body.kept):
        return None
    detail = f"The page is longer than the {len(body.kept):,} bytes of JSON that are read."
    return Failure(Reason.CONTENT, detail)


async def _cel(expect: Expect, body: Body) -> Fault | None:
    if failure := _cut_off(body):
        return Fault(failure, cel=True)
    try:
        found = await cel.wrong(expect.cel, bytes(body.kept))
    except cel.NoJSON as error:
        detail = f"The page is no JSON: {error}."
    except pattern.TooSlow:
        detail = "CEL takes too much time or memory for the page: write a simpler expression."
    else:
        if not found:
            return None
        expression, given = found
        detail = f"For the page '{' '.join(expression.split())}' gives {given}, expected true."
    return Fault(Failure(Reason.CONTENT, detail), cel=True)


def _same(value: Any, wanted: Any) -> bool:
    """Equal in JSON, where true is not 1."""
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)


def _normal(url: str) -> tuple[str, str, int | None, str, str]:
    """What makes two URLs the same page: https://A.example and https://a.example:443/ are."""
    parts = split(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname or "", port, parts.path or "/", parts.query


def seen(final: Exchange, body: bytes, secrets: Iterable[str] = ()) -> Evidence:
    """The evidence of the last exchange and the begin of its body."""
    return gather(
        secrets=secrets,
        addresses=final.addresses,
        address=final.address,
        answer=f"HTTP/{final.version:g} {final.status}" if final.status else "",
        headers=final.headers,
        body=body,
        charset=_charset(final.headers),
    )


def _charset(headers: Headers) -> str:
    return _charset_of(dict(headers).get("content-type", ""))


@lru_cache(maxsize=256)
def _charset_of(content_type: str) -> str:
    _, _, name = content_type.lower().partition("charset=")
    return name.partition(";")[0].strip("\"' ") or "utf-8"


def _encode(text: str, encoding: str) -> bytes:
    """The bytes of the text, b'' if the encoding is unknown or has not all its characters."""
    try:
        return text.encode(encoding)
    except (LookupError, ValueError):
        return b""
