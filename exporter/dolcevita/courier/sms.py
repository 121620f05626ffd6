"""One SMS: at most 160 characters of the GSM 7-bit default alphabet (3GPP TS 23.038)."""

import unicodedata

import apprise

LONGEST = 160

GSM_7 = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
"""The characters that count as one; any other makes the message twice as long, or longer."""

_LIKE = {
    "œ": "oe", "Œ": "OE", "\u2019": "'", "\u2018": "'", "«": '"', "»": '"', "\u201c": '"',
    "\u201d": '"', "\u2013": "-", "\u2014": "-", "…": "...", "€": "EUR", "\u00a0": " ",
    "\u202f": " ", "[": "(", "]": ")", "{": "(", "}": ")", "\\": "/", "|": "/", "~": "-",
    "ł": "l", "Ł": "L", "đ": "d",
}  # fmt: skip


_TAKES_MORE = frozenset(
    "cm eight00com exotel kaleyra klr mobilemessage mobilemsg notifyre octopush smpp smpps "
    "smseagle smseagles smstunnel telesign".split()
)
"""Services of Apprise that send a longer text as several SMS, each of which is paid for."""


def is_sms(url: str) -> bool:
    """Whether the service behind an Apprise URL sends SMS."""
    service = apprise.Apprise.instantiate(url)
    if service is None:
        return False
    return 0 < service.body_maxlen <= LONGEST or url.partition("://")[0].lower() in _TAKES_MORE


def fitted(text: str) -> str:
    """The text as one SMS: letters that it cannot hold become like ones, and the end is cut."""
    plain = "".join(_plain(character) for character in text)
    return plain if len(plain) <= LONGEST else plain[: LONGEST - 3] + "..."


def _plain(character: str) -> str:
    if character in GSM_7:
        return character
    if character in _LIKE:
        return _LIKE[character]
    base = unicodedata.normalize("NFKD", character)[0]
    return base if base in GSM_7 else "?"
