"""Asks, on a terminal, for what the command line left open; a wrong answer is asked for again."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import typer

from dolcevita.init.answers import Answers, channel_kind, faults

EXAMPLE = Answers(
    sites=["https://www.example.com"],
    provider_notify=["a@example.com"],
    owner_notify=["a@example.com"],
)
"""Good ones, with which each answer is judged by itself."""


def ask(given: dict[str, Any]) -> Answers:
    """All answers; those in `given` are not asked for. Raises typer.Abort at the end of input."""
    found = dict(given)

    def field(name: str, question: str, default: str = "", read: Callable[[str], Any] = str) -> Any:
        while name not in found:
            text = typer.prompt(question, default=default, show_default=bool(default)).strip()
            value = read(text)
            if problem := fault(name, value):
                typer.echo(f"  {problem}", err=True)
            else:
                found[name] = value
        return found[name]

    field("sites", "Sites to watch, as URLs with spaces between", read=str.split)
    field("provider", "Who fixes them? A short name", "provider")
    field("provider_notify", "How are they reached? Mail addresses or URLs", read=str.split)
    language = field("provider_language", "Their language, en or fr", _language(), str.lower)
    field("owner", "Who is left in peace? A short name", "owner")
    field("owner_notify", "How do they hear good news? Mail addresses or URLs", read=str.split)
    field("owner_language", "Their language, en or fr", language, str.lower)
    field("timezone", "Their time zone", machine_zone())
    field("quiet_hours", "Quiet hours, - for none", "19:00-09:00", _or_none)
    if "weekends" not in found:
        found["weekends"] = typer.confirm("Are weekends quiet?", default=True)
    field(
        "public_holidays", "Public holidays of which country? Such as FR, - for none", "-", _or_none
    )
    field(
        "away",
        "Away? Such as 2027-07-10..2027-07-25, with spaces between, - for not yet",
        "-",
        lambda text: _or_none(text).split(),
    )
    return Answers(**found)


def fault(name: str, value: Any) -> str:
    """What is wrong with one answer, '' for nothing."""
    if name in ("sites", "provider_notify", "owner_notify") and not value:
        return "at least one is needed"
    try:
        for channel in value if name.endswith("_notify") else ():
            channel_kind(channel)
    except ValueError as error:
        return str(error)
    return "; ".join(faults(replace(EXAMPLE, **{name: value})))


def machine_zone() -> str:
    """The time zone of this machine, UTC where it does not say."""
    name = os.environ.get("TZ", "").lstrip(":")
    if not name:
        _, found, name = str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")
        name = name if found else ""
    return name if name and not fault("timezone", name) else "UTC"


def _language() -> str:
    variables = ("LC_ALL", "LC_MESSAGES", "LANG")
    return "fr" if next(filter(None, map(os.environ.get, variables)), "").startswith("fr") else "en"


def _or_none(text: str) -> str:
    return "" if text == "-" else text
