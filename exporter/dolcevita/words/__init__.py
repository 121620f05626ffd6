"""What people read on the status page and in the report, in their language."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

LANGUAGES = ("en", "fr")

_HERE = Path(__file__).parent
_FIRM = "\N{NO-BREAK SPACE}"
_NARROW = "\N{NARROW NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Words:
    """The texts of one language, and how it writes numbers, lengths of time and dates."""

    language: str
    texts: Mapping[str, str]
    reasons: Mapping[str, str]
    months: tuple[str, ...]
    months_short: tuple[str, ...]
    decimal: str

    def __call__(self, key: str, count: float | None = None, /, **values: object) -> str:
        """The text called `key` with its places filled in; `key`_one where `count` is 1.

        French counts zero as one does one.
        """
        if count is not None:
            single = count == 1 or (count == 0 and self.language == "fr")
            key = f"{key}_one" if single else key
            values["count"] = self.number(count)
        return self.texts[key].format(**values)

    def reason(self, reason: str) -> str:
        """Why a site failed, `reason` being the word that metrics have for it."""
        return self.reasons.get(reason) or (reason if reason else self.reasons["unknown"])

    def why(self, reason: str, planned: bool) -> str:
        """Why a site failed, and whether it was being worked on."""
        return self.reason(reason) + (f", {self.texts['planned']}" if planned else "")

    def number(self, value: float, digits: int = 0) -> str:
        text = f"{value:,.{digits}f}"
        if self.language == "fr":
            text = text.replace(",", _NARROW).replace(".", self.decimal)
        return text

    def percent(self, ratio: float) -> str:
        """A ratio as a percentage that is never rounded up to 100%: 0.99996 is 99.99%."""
        hundredths = int(ratio * 10000 + 1e-6) if ratio < 1 else 10000
        digits = 0 if hundredths == 10000 else 2
        space = _NARROW if self.language == "fr" else ""
        return f"{self.number(hundredths / 100, digits)}{space}%"

    def lasting(self, seconds: float) -> str:
        """A length of time in its two largest units: 1 h 12 min."""
        whole = round(seconds)
        if whole < 60:
            return f"{whole} s"
        minutes = round(whole / 60)
        days, rest = divmod(minutes, 1440)
        hours, minutes = divmod(rest, 60)
        units = ((days, self.texts["unit_day"]), (hours, "h"), (minutes, "min"))
        first = next(i for i, (amount, _) in enumerate(units) if amount)
        return " ".join(f"{amount} {unit}" for amount, unit in units[first : first + 2] if amount)

    def left(self, days: float) -> str:
        """What is left of a certificate or domain."""
        return self.texts["expired"] if days < 0 else self("days_left", int(days))

    def took(self, seconds: float) -> str:
        """A response time: 320 ms, 1.25 s."""
        if seconds < 0.9995:
            return f"{self.number(seconds * 1000)} ms"
        return f"{self.number(seconds, 2)} s"

    def day(self, day: date) -> str:
        return self.texts["day"].format(day=day.day, month=self.months[day.month - 1])

    def month(self, month: date) -> str:
        return f"{self.months[month.month - 1]} {month.year}"

    def clock(self, at: float, zone: ZoneInfo) -> str:
        """A moment (unix seconds) on the clock of `zone`."""
        local = datetime.fromtimestamp(at, zone)
        return f"{self.day(local)} {local.year}, {local:%H:%M}"

    def time(self, at: float, zone: ZoneInfo) -> str:
        """The time of day alone."""
        return f"{datetime.fromtimestamp(at, zone):%H:%M}"

    def clock_short(self, at: float, zone: ZoneInfo) -> str:
        """The same without the year, for tables of the last months."""
        local = datetime.fromtimestamp(at, zone)
        return f"{local.day}{_FIRM}{self.months_short[local.month - 1]}, {local:%H:%M}"


@cache
def words(language: str) -> Words:
    """The words of one of LANGUAGES."""
    data: dict[str, Any] = yaml.safe_load((_HERE / f"{language}.yml").read_text(encoding="utf-8"))
    return Words(
        language,
        data["texts"],
        data["reasons"],
        tuple(data["months"]),
        tuple(data["months_short"]),
        data["decimal"],
    )


def preferred(accept_language: str) -> str:
    """The one of LANGUAGES that an Accept-Language header (RFC 9110) likes best, else 'en'."""
    ranked = []
    for i, part in enumerate(accept_language.split(",")[:20]):
        tag, _, weight = part.strip().partition(";")
        try:
            quality = float(weight.strip().removeprefix("q=") or 1)
        except ValueError:
            continue
        language = tag.strip().lower().partition("-")[0]
        if language in LANGUAGES and quality > 0:
            ranked.append((-quality, i, language))
    return min(ranked)[2] if ranked else "en"
