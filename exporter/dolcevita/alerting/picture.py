"""The weeks ahead, as a picture: when each person can be reached."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import jinja2
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from dolcevita.alerting.intervals import Muting
from dolcevita.config import Config

SLOT = 30
"""Minutes of one cell."""

STEP = 5
"""Minutes between looks within a cell."""

Cell = Literal["free", "partly", "quiet"]

_SIGNS: Mapping[Cell, tuple[str, str]] = {
    "free": ("█", "green"),
    "partly": ("▒", "yellow"),
    "quiet": ("·", "dim"),
}

_PAGE = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
).get_template("picture.html")


@dataclass(frozen=True, slots=True)
class Day:
    """One day of one person: a cell for each half hour of the wall clock."""

    date: date
    cells: tuple[Cell, ...]

    @property
    def spans(self) -> list[tuple[Cell, int, str]]:
        """Cells that are alike, joined: (cell, how many, '09:00-19:00')."""
        joined: list[tuple[Cell, int, str]] = []
        start = 0
        for i, cell in enumerate(self.cells):
            if i + 1 == len(self.cells) or self.cells[i + 1] != cell:
                joined.append((cell, i + 1 - start, f"{_clock(start)}-{_clock(i + 1)}"))
                start = i + 1
        return joined


@dataclass(frozen=True, slots=True)
class Row:
    """The days of one person; `what` says what reaches them in the free cells."""

    name: str
    what: str
    timezone: str
    days: tuple[Day, ...]


def rows(config: Config, mutings: Mapping[str, Muting], now: datetime, weeks: int) -> list[Row]:
    """Every owner, and every provider with working hours, from the day of `now` (aware) on."""
    found = []
    for owner in config.owners:
        muting = mutings.get(f"quiet/{owner.name}", Muting(()))
        days = _days(muting, owner.timezone, now, weeks)
        found.append(Row(owner.name, "messages", owner.timezone, days))
    for provider in config.providers:
        off = mutings.get(f"off/{provider.name}")
        if off:
            days = _days(off, provider.timezone, now, weeks)
            found.append(Row(provider.name, "warnings; pages at any time", provider.timezone, days))
    return found


def text(pictures: Iterable[Row]) -> RenderableType:
    """The picture for a terminal."""
    parts: list[RenderableType] = []
    for row in pictures:
        heading = Text(row.name, style="bold")
        heading.append(f"  {row.what}, {row.timezone}", style="not bold")
        table = Table.grid(padding=(0, 2))
        hours = "".join(f"{hour:<6}" for hour in range(0, 24, 3))
        table.add_row("", Text(hours, style="dim"))
        for day in row.days:
            line = Text(no_wrap=True)
            for cell in day.cells:
                sign, style = _SIGNS[cell]
                line.append(sign, style=style)
            table.add_row(f"{day.date:%a %d %b}", line)
        parts += [heading, table, ""]
    legend = Text("█ can be reached   ▒ partly   · quiet: what comes is held until after", "dim")
    return Group(*parts, legend)


def html(pictures: Iterable[Row], now: datetime) -> str:
    """The picture as a page of its own, without scripts or anything to load."""
    return _PAGE.render(rows=list(pictures), now=now.astimezone(UTC), slots=24 * 60 // SLOT)


def _days(muting: Muting, timezone: str, now: datetime, weeks: int) -> tuple[Day, ...]:
    zone = ZoneInfo(timezone)
    first = now.astimezone(zone).date()
    return tuple(
        Day(
            day,
            tuple(_cell(muting, day, minute, zone) for minute in range(0, 24 * 60, SLOT)),
        )
        for day in (first + timedelta(days=n) for n in range(7 * weeks))
    )


def _cell(muting: Muting, day: date, minute: int, zone: ZoneInfo) -> Cell:
    looks = [
        muting.contains(datetime.combine(day, time(m // 60, m % 60), zone))
        for m in range(minute, minute + SLOT, STEP)
    ]
    if all(looks):
        return "quiet"
    return "partly" if any(looks) else "free"


def _clock(cell: int) -> str:
    return f"{cell * SLOT // 60:02}:{cell * SLOT % 60:02}"
