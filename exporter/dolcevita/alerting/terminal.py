"""A timeline as a person reads it."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dolcevita.alerting.whatif import Entry, Kind, Outage
from dolcevita.config import format_duration

_STYLES: Mapping[Kind, str] = {"happens": "dim", "told": "bold", "silent": "green"}


def render(outage: Outage, timezone: str, entries: Sequence[Entry]) -> RenderableType:
    """What `dolcevita whatif` prints."""
    lasts = format_duration(outage.lasts.total_seconds())
    heading = Text(f"{outage.site.name} is down for {lasts}", style="bold")
    heading.append(f"  times of {timezone}, each at the latest", style="not bold dim")
    parts: list[RenderableType] = [heading, ""]
    timed = [entry for entry in entries if entry.at]
    for day, of_day in groupby(timed, key=lambda entry: f"{entry.at:%a %d %b %Y}"):
        table = _table("time", "who", "what")
        for entry in of_day:
            table.add_row(f"{entry.at:%H:%M:%S}", entry.who, _text(entry))
        parts += [Text(day, style="underline"), table, ""]
    silent = _table("who", "what")
    for entry in entries:
        if not entry.at:
            silent.add_row(entry.who, _text(entry))
    if silent.row_count:
        parts += [Text("deliberately not", style="underline"), silent]
    return Group(*parts)


def _table(*columns: str) -> Table:
    """Of what may be too wide, nothing is left out."""
    table = Table.grid(padding=(0, 2))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _text(entry: Entry) -> Text:
    text = Text(entry.text, style=_STYLES[entry.kind])
    if entry.why:
        text.append(f": {entry.why}", style="not bold dim")
    return text
