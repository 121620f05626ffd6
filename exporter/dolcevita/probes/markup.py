"""What the HTML of a page says and refers to (HTML Living Standard), as far as time allows."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from time import perf_counter
from urllib.parse import urldefrag, urljoin, urlsplit

MOST_REFERENCES = 1000
"""Assets, and links, that are kept of a page."""

PIECE = 16_384
"""Characters that are parsed between two looks at the clock."""

DEEPEST = 50

_ASSETS: Mapping[str, str] = {
    "script": "src",
    "img": "src",
    "iframe": "src",
    "frame": "src",
    "embed": "src",
    "object": "data",
    "source": "src",
    "track": "src",
    "video": "src",
    "audio": "src",
    "input": "src",
}
"""The attribute that names what a browser loads with the page."""

_LOADED = frozenset("stylesheet icon apple-touch-icon preload modulepreload manifest".split())
"""Relations of a <link> that a browser loads with the page."""

_UNSEEN = frozenset(["script", "style", "template", "noscript", "title"])


@dataclass(slots=True)
class Markup:
    """A page, taken apart. URLs are absolute, without fragment, each once, in order.

    `robots` are the directives for search engines. `submits` are where forms go. `text` and
    `structure` are SHA-256 of what is seen of it and of its elements. `whole` is False where
    time was up before its end.
    """

    title: str = ""
    robots: set[str] = field(default_factory=set)
    assets: dict[str, None] = field(default_factory=dict)
    links: dict[str, None] = field(default_factory=dict)
    submits: dict[str, None] = field(default_factory=dict)
    scripts: dict[str, None] = field(default_factory=dict)
    text: bytes = b""
    structure: bytes = b""
    whole: bool = True


def read(text: str, url: str, seconds: float) -> Markup:
    """Take the page at `url` apart, for at most so many seconds (and one piece)."""
    deadline = perf_counter() + seconds
    reader = _Reader(url)
    for start in range(0, len(text), PIECE):
        if perf_counter() > deadline:
            reader.markup.whole = False
            break
        reader.feed(text[start : start + PIECE])
    # No close(): it takes quadratic time for a page of broken tags, and adds nothing.
    reader.markup.title = " ".join("".join(reader.title).split())
    reader.markup.text = reader.seen.digest()
    reader.markup.structure = reader.elements.digest()
    return reader.markup


class _Reader(HTMLParser):
    def __init__(self, url: str) -> None:
        super().__init__()
        self.markup = Markup()
        self.base = url
        self.inside: list[str] = []
        self.title: list[str] = []
        self.titled = False
        self.blank = True
        self.seen = hashlib.sha256()
        self.elements = hashlib.sha256()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.update(tag.encode() + b"\n")
        given = {name: value or "" for name, value in reversed(attributes)}
        if tag in _UNSEEN and len(self.inside) < DEEPEST:
            self.inside.append(tag)
        if tag in _ASSETS:
            self._refer(self.markup.assets, given.get(_ASSETS[tag], ""))
        match tag:
            case "base":
                self.base = self._absolute(given.get("href", "")) or self.base
            case "script":
                self._refer(self.markup.scripts, given.get("src", ""))
            case "img" | "source" if "srcset" in given:
                for candidate in re.split(r",\s+", given["srcset"])[:20]:
                    self._refer(self.markup.assets, candidate.strip().partition(" ")[0])
            case "video":
                self._refer(self.markup.assets, given.get("poster", ""))
            case "link" if _LOADED.intersection(given.get("rel", "").lower().split()):
                self._refer(self.markup.assets, given.get("href", ""))
            case "form":
                self._refer(self.markup.submits, given.get("action", ""))
            case "a" | "area" if "nofollow" not in given.get("rel", "").lower().split():
                self._refer(self.markup.links, given.get("href", ""))
            case "meta" if given.get("name", "").lower() in ("robots", "googlebot"):
                self.markup.robots |= directives(given.get("content", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag in self.inside:
            # What was left open inside ends with it.
            del self.inside[self.inside.index(tag) :]
            # Later ones are those of pictures.
            self.titled = self.titled or tag == "title"

    def handle_data(self, data: str) -> None:
        if self.inside == ["title"] and not self.titled:
            self.title.append(data)
        if not self.inside:
            # White space counts as one blank, wherever the pieces were cut.
            words = re.sub(r"\s+", " ", data)
            words = words[1:] if self.blank and words.startswith(" ") else words
            if words:
                self.seen.update(words.encode("utf-8", "replace"))
                self.blank = words.endswith(" ")

    def _refer(self, references: dict[str, None], href: str) -> None:
        if href and len(references) < MOST_REFERENCES and (url := self._absolute(href)):
            references[url] = None

    def _absolute(self, href: str) -> str:
        """'' for what is no web URL."""
        try:
            url = urldefrag(urljoin(self.base, href.strip()))[0]
            parts = urlsplit(url)
            fits = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            return ""
        return url if fits and not parts.username else ""


def directives(text: str) -> set[str]:
    """The words of a robots directive: 'noindex, nofollow'."""
    return {word.strip().lower() for word in text.split(",")[:50]}
