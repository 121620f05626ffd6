"""The month of an owner: how their sites fared, told from what Prometheus holds."""

from collections.abc import Mapping
from pathlib import Path

from dolcevita.report.month import Month, asked, last_month, month_of, parse_month
from dolcevita.report.render import FORMATS, STYLE_HASH, as_html, as_json, as_markdown

__all__ = [
    "FORMATS",
    "STYLE_HASH",
    "SUFFIXES",
    "Month",
    "as_html",
    "as_json",
    "as_markdown",
    "asked",
    "format_of",
    "last_month",
    "month_of",
    "parse_month",
]

SUFFIXES: Mapping[str, str] = {".html": "html", ".md": "markdown", ".json": "json"}
"""The format of a file by the end of its name."""


def format_of(path: Path) -> str:
    """The format that a file's name asks for, '' where it asks for none."""
    return SUFFIXES.get(path.suffix.lower(), "")
