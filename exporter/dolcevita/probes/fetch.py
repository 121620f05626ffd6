"""A whole document over HTTP: redirects followed, the body kept up to a limit."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from dolcevita.probes.curl import Exchange, Failure, Headers, Request, Tls, exchange
from dolcevita.probes.result import Reason

MOST_REDIRECTS = 10


@dataclass(frozen=True, slots=True)
class Document:
    """What came of it: every exchange, the last body, and why it is not whole if it is not.

    An answer of any status is whole. `length` and `digest` (SHA-256) are of all that was read
    of the body, `cut` says that it is longer than that.
    """

    hops: tuple[Exchange, ...]
    body: bytes = b""
    failure: Failure | None = None
    length: int = 0
    digest: bytes = b""
    cut: bool = False

    @property
    def final(self) -> Exchange:
        """The last exchange."""
        return self.hops[-1]

    def header(self, name: str) -> str:
        """All values of a header of the last answer, joined as one list; '' without it."""
        return ", ".join(value for key, value in self.final.headers if key == name)


async def fetch(
    url: str,
    budget: float,
    most: int,
    headers: Sequence[str] = (),
    read: int | None = None,
    ca_file: Path | None = None,
    follow: Callable[[str], bool] = lambda url: True,
) -> Document:
    """GET within `budget` seconds, read that much of the body, else `most`, and keep `most` of it.

    `headers` are whole lines for the URL's own origin. A redirect that `follow` declines is the
    last answer. Raises nothing of the network's.
    """
    begin = perf_counter()
    hops: list[Exchange] = []
    own = _origin(url)
    while True:
        left = budget - (perf_counter() - begin)
        if left <= 0:
            failure = Failure(Reason.TIMEOUT, f"The redirects of {hops[0].url} take too long.")
            return Document(tuple(hops), failure=failure)
        body = _Body(most, most if read is None else read)
        hop = await exchange(
            Request(
                url=url,
                timeout=left,
                connect_timeout=left / 2,
                on_answer=body.begin,
                headers=headers if _origin(url) == own else (),
                cookies=hops[-1].cookies if hops else (),
                tls=Tls(ca_file=ca_file),
            )
        )
        hops.append(hop)
        if hop.failure or not hop.redirect or not follow(hop.redirect):
            return Document(
                hops=tuple(hops),
                body=bytes(body.kept),
                failure=hop.failure,
                length=body.length,
                digest=body.hash.digest(),
                cut=body.cut,
            )
        if len(hops) > MOST_REDIRECTS:
            words = f"{hops[0].url} redirects more than {MOST_REDIRECTS} times."
            return Document(tuple(hops), failure=Failure(Reason.REDIRECT, words))
        url = hop.redirect


class _Body:
    def __init__(self, keep: int, read: int) -> None:
        self.keep = keep
        self.read = read
        self.kept = bytearray()
        self.length = 0
        self.hash = hashlib.sha256()
        self.cut = False

    def begin(self, headers: Headers) -> Callable[[bytes], bool]:
        return self.take

    def take(self, piece: bytes) -> bool:
        self.cut = len(piece) > self.read - self.length
        piece = piece[: self.read - self.length]
        self.length += len(piece)
        self.hash.update(piece)
        self.kept += piece[: self.keep - len(self.kept)]
        return not self.cut


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
