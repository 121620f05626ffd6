"""What somebody says of their sites, their people and their peace, and the two files of it."""

import json
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dolcevita import probes
from dolcevita.config import Config, ConfigError, load

SITES = """\
# WHAT is watched. A URL alone is a site; README.md shows what else one can say of it.
# `dolcevita check` says whether this file is good; a running stack follows it within seconds.

defaults: {every: 15s, timeout: 10s}

sites:
%(sites)s

# What a page must say, and the server it is on: sites on one host make one page when it falls.
#  - name: cart
#    url: https://shop.example.com/cart
#    host: srv1
#    expect: {contains: "Add to cart"}

# Sentinels tell "the site is down" from "this machine is offline": when all of them fail,
# nobody is paged about sites. Name two that are far from your sites and from each other.
#  - {url: "https://www.debian.org", sentinel: true}
#  - {url: "https://www.wikipedia.org", sentinel: true}
"""

PEOPLE = """\
# WHO is told, and WHEN they want peace. `dolcevita check` says whether this file is good, and
# `dolcevita whatif` who would be told what.

providers:
  # On call round the clock: gets every page and every recovery.
  - name: %(provider)s
    language: %(provider_language)s
    notify:
%(provider_notify)s

owners:
  # Hears good news only, and never in quiet time.
  - name: %(owner)s
    language: %(owner_language)s
    timezone: %(timezone)s
    notify:
%(owner_notify)s
%(quiet)s
    # Not fixed by then: tell me all the same, though not in quiet time.
    # overdue_after: 4h
"""

PLAIN = re.compile(
    r"(?!(?:true|false|null|yes|no|on|off|y|n)$)[A-Za-z][A-Za-z0-9_./-]*", re.IGNORECASE
)
"""A text that YAML takes for nothing else without quotes."""


@dataclass(slots=True)
class Answers:
    """As they were given. Channels are an address, a webhook's URL or one of Apprise."""

    sites: Sequence[str] = ()
    provider: str = "provider"
    provider_language: str = "en"
    provider_notify: Sequence[str] = ()
    owner: str = "owner"
    owner_language: str = "en"
    owner_notify: Sequence[str] = ()
    timezone: str = "UTC"
    quiet_hours: str = ""
    weekends: bool = False
    public_holidays: str = ""
    away: Sequence[str] = ()

    def files(self) -> tuple[str, str]:
        """sites.yml and people.yml."""
        people = {
            name: _scalar(getattr(self, name))
            for name in ("provider", "provider_language", "owner", "owner_language", "timezone")
        }
        people |= {
            "provider_notify": _channels(self.provider_notify),
            "owner_notify": _channels(self.owner_notify),
            "quiet": "\n".join(self._quiet()),
        }
        sites = "\n".join(f"  - {_scalar(url)}" for url in self.sites)
        return SITES % {"sites": sites}, PEOPLE % people

    def _quiet(self) -> list[str]:
        away = ", ".join(map(_quoted, self.away))
        lines = [
            *([f"      hours: {_quoted(self.quiet_hours)}"] if self.quiet_hours else []),
            *(["      weekends: true"] if self.weekends else []),
            *(
                [f"      public_holidays: {_scalar(self.public_holidays)}"]
                if self.public_holidays
                else []
            ),
            *([f"      away: [{away}]"] if away else []),
        ]
        if not away:
            lines.append('      # away: ["2027-07-10..2027-07-25"]')
        return ["    quiet:" if lines[0].strip()[0] != "#" else "    # quiet:", *lines]


def channel_kind(text: str) -> str:
    """The short form of people.yml for a channel. Raises ValueError for what is none."""
    if re.match(r"https?://.", text):
        return "webhook"
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://.", text):
        return "apprise"
    if re.fullmatch(r"[^@\s:/]+@[^@\s:/]+", text):
        return "email"
    raise ValueError(
        f"found '{text}', expected a mail address, the https:// address of a webhook, or a URL of "
        "Apprise such as ntfys://ntfy.sh/topic"
    )


def read(answers: Answers) -> Config:
    """What the two files will say, by the loader of the stack. Raises ConfigError."""
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "sites.yml"), Path(folder, "people.yml")
        for path, text in zip(paths, answers.files(), strict=True):
            path.write_text(text, encoding="utf-8")
        return load(*paths, probes.KINDS, probes.PLANNED)


def faults(answers: Answers) -> list[str]:
    """What is wrong with the answers, without the lines of files that are not there yet.

    Nobody means what the loader would only warn of, such as days that are over.
    """
    try:
        found = read(answers).warnings
    except ConfigError as error:
        found = error.problems
    return [problem.message for problem in found]


def _channels(texts: Sequence[str]) -> str:
    return "\n".join(f"      - {channel_kind(text)}: {_quoted(text)}" for text in texts)


def _scalar(text: str) -> str:
    return text if PLAIN.fullmatch(text) else _quoted(text)


def _quoted(text: str) -> str:
    """As JSON, which is YAML."""
    return json.dumps(text, ensure_ascii=False)
