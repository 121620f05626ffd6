"""Go's regular expressions (the documentation of its package regexp/syntax) in Python's words."""

import re

from dolcevita.probes.pattern import compiled

_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": r"\x00-\x7f",
    "blank": r"\t ",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r"\t\n\v\f\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}

_ASCII = {r"\d": _POSIX["digit"], r"\w": _POSIX["word"], r"\s": r"\t\n\f\r "}

_TOKEN = re.compile(
    r"\\Q(?P<quoted>.*?)(?:\\E|$)"
    r"|\\x\{(?P<code>[0-9A-Fa-f]{1,6})\}"
    r"|(?P<escape>\\.)"
    r"|\[(?P<negated>\^?)(?P<items>\]?(?:\[:\^?[a-z]+:\]|\\.|[^\]\\])*)\]"
    r"|\(\?(?P<flags>[a-zA-Z-]+)(?P<end>[:)])"
    r"|\(\?<(?P<name>[A-Za-z0-9_]+)>"
    r"|(?P<brace>\{(?!\d+(?:,\d*)?\}))"
    r"|(?P<dollar>\$)",
    re.DOTALL,
)

_ITEM = re.compile(r"\[:(?P<class>\^?[a-z]+):\]|\\x\{(?P<code>[0-9A-Fa-f]+)\}|\\.|.", re.DOTALL)


def to_python(text: str) -> str:
    """The same expression for Python's re. Raises ValueError, naming what it has no match for."""
    multiline = re.search(r"\(\?[a-zA-Z]*m", text) is not None

    def replace(match: re.Match[str]) -> str:
        if match["quoted"] is not None:
            return re.escape(match["quoted"])
        if match["code"]:
            return rf"\U{int(match['code'], 16):08x}"
        if match["escape"]:
            return _escape(match["escape"])
        if match["items"] is not None:
            items = _ITEM.sub(_item, match["items"])
            return f"[{match['negated']}{items}]"
        if match["flags"]:
            return _flags(match)
        if match["name"]:
            return f"(?P<{match['name']}>"
        if match["brace"]:
            return r"\{"
        # Python's $ matches before a line break at the end too.
        return "$" if multiline else r"\Z"

    python = _TOKEN.sub(replace, text)
    try:
        compiled(python)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"which is no regular expression that is known here: {error}") from None
    return python


def _escape(escape: str) -> str:
    if escape == r"\z":
        return r"\Z"
    if escape[1] in "bBdDsSwW":
        # These know only ASCII in Go.
        return f"(?a:{escape})"
    if escape[1] in "pPC":
        raise ValueError(f"with {escape}, which is not supported: write the characters in [ ]")
    return escape


def _item(match: re.Match[str]) -> str:
    """One item of a class in brackets."""
    if name := match["class"]:
        if name not in _POSIX:
            raise ValueError(f"with [:{name}:], which is not supported: write the characters")
        return _POSIX[name]
    if match["code"]:
        return rf"\U{int(match['code'], 16):08x}"
    item = match[0]
    if item in _ASCII:
        return _ASCII[item]
    if item in ("[", "]", "&", "~", "|"):
        # Python keeps these for sets within sets.
        return "\\" + item
    return _escape(item) if item[0] == "\\" and item[1] in "pPC" else item


def _flags(match: re.Match[str]) -> str:
    flags, end = match["flags"], match["end"]
    if "U" in flags:
        raise ValueError("with the flag U, which is not supported: write *? instead of *")
    on, _, off = flags.partition("-")
    if end == ":":
        return f"(?{on}-{off}:" if off else f"(?{on}:"
    if match.start() > 0 and not re.fullmatch(r"(?:\(\?[a-z-]+\))*", match.string[: match.start()]):
        raise ValueError(f"with (?{flags}) in the middle: write it at the beginning")
    return f"(?{on})" if on else ""
