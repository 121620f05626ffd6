"""The month of an owner: how their sites fared, told from what Prometheus holds."""

from collections.abc import Mapping
from pathlib import Path

from dolcevita.report.month import Month, last_month, month_of, parse_month
from dolcevita.report.render import FORMATS, as_html, as_json, as_markdown

__all__ = [
    "FORMATS",
    "SUFFIXES",
    "Month",
    "as_html",
    "as_json",
    "as_markdown",
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
