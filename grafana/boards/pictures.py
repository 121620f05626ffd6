"""Draw the dashboards as they lie on the grid, with real answers: `python -m boards.pictures`.

Grafana itself is not needed. It is close to what Grafana shows, not the same.
"""

import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from boards import ask, history, replay
from boards.build import models
from boards.kit import GOOD, PALETTE
from dolcevita.config import UserError
from dolcevita.stack.packages import find_programs

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "docs" / "dashboards"
SITES, DAYS, END = 60, 90, 1786000000

COLUMN, ROW, GAP, DPI = 54, 38, 8, 100
"""Pixels of a window of 1296: Grafana's grid."""

BACK, PANEL, TEXT, FAINT = "#111217", "#181b1f", "#ccccdc", "#8e8ea0"

Model = Mapping[str, Any]
Draw = Callable[[Axes, Model, list[tuple[ask.Question, list[Any]]], ask.Span], None]


def main() -> None:
    try:
        programs = find_programs(ROOT / ".stack", print)
    except UserError as error:
        sys.exit(str(error))
    FOLDER.mkdir(parents=True, exist_ok=True)
    mpl.rcParams.update({"font.size": 9, "text.color": TEXT})
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        blocks = replay.backfill(programs.promtool, folder, SITES, DAYS, END)
        with replay.prometheus(programs.prometheus, folder, blocks) as url:
            for name, model in models("en").items():
                file = FOLDER / f"{name}.png"
                draw(url, model).savefig(file, dpi=DPI, facecolor=BACK)
                print(file)


def draw(prometheus: str, model: Model) -> Figure:
    """The whole dashboard, as long as it is."""
    span = ask.shown_by_default(model, END)
    bottom = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in model["panels"])
    width, height = 24 * COLUMN, bottom * ROW + 40
    figure = Figure(figsize=(width / DPI, height / DPI))
    figure.text(GAP / width, 1 - 26 / height, f"Dolce Vita / {model['title']}", fontsize=13)
    one_site = model["uid"].endswith("-site")
    variables = history.ONE_SITE if one_site else history.ALL_SITES
    for panel in model["panels"]:
        at = panel["gridPos"]
        left, top = at["x"] * COLUMN, 40 + at["y"] * ROW
        wide, high = at["w"] * COLUMN - GAP, at["h"] * ROW - GAP
        box = (left / width, 1 - (top + high) / height, wide / width, high / height)
        frame = figure.add_axes(box, facecolor=PANEL)
        frame.set(xticks=[], yticks=[], xlim=(0, wide), ylim=(0, high))
        for spine in frame.spines.values():
            spine.set_color("#2c3235")
        frame.text(10, high - 20, panel["title"], fontsize=9.5, weight="bold")
        answers = [
            (question, ask.answer(prometheus, question, span, variables))
            for question in ask.of_panel(panel)
        ]
        if not any(found for _, found in answers):
            words = panel["fieldConfig"]["defaults"]["noValue"]
            frame.text(wide / 2, high / 2, words, color=FAINT, ha="center")
            continue
        inner = (box[0] + 10 / width, box[1] + 8 / height)
        size = ((wide - 20) / width, (high - 38) / height)
        axes = figure.add_axes((*inner, *size), facecolor="none")
        axes.set(xticks=[], yticks=[])
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set(xlim=(0, wide - 20), ylim=(0, high - 38))
        DRAW[panel["type"]](axes, panel, answers, span)
    return figure


# ---- Values ----------------------------------------------------------------------------------


def shown(value: float, unit: str, decimals: int | None) -> str:
    """A number in the words of Grafana's unit."""
    if unit == "dateTimeAsIso":
        return f"{datetime.fromtimestamp(value / 1000, UTC):%Y-%m-%d %H:%M}"
    if unit == "percentunit":
        return f"{100 * value:.{2 if decimals is None else decimals}f}%"
    if unit.startswith("suffix:"):
        return f"{_number(value, decimals)} {unit.removeprefix('suffix:')}"
    scales: Mapping[str, Sequence[tuple[float, str]]] = {
        "s": (
            (365 * 86400, " years"),
            (7 * 86400, " weeks"),
            (86400, " days"),
            (3600, " hours"),
            (60, " mins"),
            (1, " s"),
            (0.001, " ms"),
        ),
        "bytes": ((2**40, " TiB"), (2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")),
    }
    if unit in scales:
        fallback = scales[unit][-1]
        size, name = next((s for s in scales[unit] if abs(value) >= s[0]), fallback)
        return f"{_number(value / size, decimals)}{name}"
    return _number(value, decimals) + (" req/s" if unit == "reqps" else "")


def _number(value: float, decimals: int | None) -> str:
    if decimals is None:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.{decimals}f}"


def _worded(value: float, defaults: Model) -> tuple[str, str]:
    """Text and colour of a value, from its mappings or else from its thresholds."""
    for mapping in defaults.get("mappings", ()):
        options = mapping["options"]
        if mapping["type"] == "value" and f"{value:g}" in options:
            return options[f"{value:g}"]["text"], options[f"{value:g}"]["color"]
        if mapping["type"] == "range" and options["from"] <= value <= options["to"]:
            return options["result"].get("text", f"{value:g}"), options["result"]["color"]
    text = shown(value, defaults.get("unit", "none"), defaults.get("decimals"))
    return text, _step(value, defaults["thresholds"]["steps"])


def _step(value: float, steps: Sequence[Model]) -> str:
    colours = [s["color"] for s in steps if s["value"] is None or value >= s["value"]]
    return str(colours[-1])


def _ink(background: str) -> str:
    """What Grafana writes in on a colour: dark where that is bright."""
    red, green, blue = (255 * part for part in to_rgb(background))
    return "#202226" if (299 * red + 587 * green + 114 * blue) / 1000 > 180 else "white"


def _name(question: ask.Question, labels: Mapping[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), question.legend)


def _series(
    answers: list[tuple[ask.Question, list[Any]]],
) -> list[tuple[str, list[float], list[float]]]:
    found = []
    for question, series in answers:
        for one in series:
            points = one["values"] if "values" in one else [one["value"]]
            times = [float(at) for at, _ in points]
            values = [float(value) for _, value in points]
            found.append((_name(question, one["metric"]), times, values))
    return found


# ---- Panels ----------------------------------------------------------------------------------


def _stat(axes: Axes, panel: Model, answers: Any, span: ask.Span) -> None:
    series = _series(answers)
    wide, high = axes.get_xlim()[1], axes.get_ylim()[1]
    each = wide / len(series)
    named = panel["options"]["textMode"] == "value_and_name"
    for index, (name, _, values) in enumerate(series):
        text, colour = _worded(values[-1], panel["fieldConfig"]["defaults"])
        axes.add_patch(Rectangle((index * each, 0), each - 3, high, color=colour))
        size = min(34.0, 0.95 * each / max(len(text), 4), high / 2.6)
        middle = index * each + each / 2
        rise = high * (0.36 if named else 0.5)
        axes.text(
            middle,
            rise,
            text,
            fontsize=size,
            color=_ink(colour),
            weight="bold",
            ha="center",
            va="center",
        )
        if named:
            axes.text(middle, high * 0.72, name, fontsize=9, color=_ink(colour), ha="center")


def _table(axes: Axes, panel: Model, answers: Any, span: ask.Span) -> None:
    organize = panel["transformations"][-1]["options"]
    merged: dict[tuple[tuple[str, str], ...], dict[str, Any]] = {}
    for question, series in answers:
        for one in series:
            row = merged.setdefault(tuple(sorted(one["metric"].items())), dict(one["metric"]))
            row["Value" if len(answers) == 1 else f"Value #{question.ref}"] = float(one["value"][1])
    fields = [f for f in organize["renameByName"] if f not in organize["excludeByName"]]
    titles = [organize["renameByName"][field] for field in fields]
    by = panel["options"]["sortBy"][0]
    key = next(field for field, title in organize["renameByName"].items()
               if title == by["displayName"])  # fmt: skip

    def order(row: Mapping[str, Any]) -> tuple[bool, Any]:
        missing = key not in row
        return missing != by.get("desc", False), "" if missing else row[key]

    rows = sorted(merged.values(), key=order, reverse=by.get("desc", False))
    wide, high = axes.get_xlim()[1], axes.get_ylim()[1]
    weights = [1.0 if field.startswith("Value") else 1.4 for field in fields]
    edges = [sum(weights[:n]) / sum(weights) * wide for n in range(len(fields) + 1)]
    looks = {
        override["matcher"]["options"]: {p["id"]: p["value"] for p in override["properties"]}
        for override in panel["fieldConfig"]["overrides"]
    }
    for left, title in zip(edges, titles, strict=False):
        axes.text(left + 4, high - 16, title, fontsize=8.5, color="#6e9fff")
    for line, row in enumerate(rows[: int((high - 24) // 26)]):
        y = high - 48 - 26 * line
        for left, right, field, title in zip(edges, edges[1:], fields, titles, strict=False):
            look = looks.get(title, {})
            value = row.get(field)
            colour = TEXT
            if isinstance(value, float):
                steps = look.get("thresholds", {}).get("steps")
                if steps:
                    fill = _step(value, steps)
                    colour = _ink(fill)
                    share = 1.0
                    if "max" in look:
                        share = min(1, max(0.02, value / look["max"])) * 0.8
                    box = Rectangle((left, y), (right - left - 2) * share, 24, color=fill)
                    axes.add_patch(box)
                text = shown(value, look.get("unit", "none"), look.get("decimals"))
            else:
                text = value or "-"
            if "max" in look:
                axes.text(right - 6, y + 8, text, fontsize=8.5, color=TEXT, ha="right")
            else:
                axes.text(
                    left + 4, y + 8, text[: int((right - left) / 8.5)], fontsize=8.5, color=colour
                )
    if len(rows) > int((high - 24) // 26):
        axes.text(wide, -6, f"{len(rows)} rows, the rest by scrolling", fontsize=7, color=FAINT,
                  ha="right")  # fmt: skip


def _timeline(axes: Axes, panel: Model, answers: Any, span: ask.Span) -> None:
    series = _series(answers)
    axes.set(xlim=(span.start, span.end), ylim=(len(series), -0.0))
    used = {}
    for index, (_, times, values) in enumerate(series):
        step = min((b - a for a, b in pairwise(times)), default=300)
        for at, value in zip(times, values, strict=True):
            text, colour = _worded(value, panel["fieldConfig"]["defaults"])
            used[text] = colour
            axes.add_patch(Rectangle((at, index + 0.08), step * 1.02, 0.84, color=colour, lw=0))
    axes.set_yticks([i + 0.5 for i in range(len(series))], [name for name, _, _ in series])
    axes.tick_params(colors=TEXT, labelsize=8 if len(series) < 25 else 6.5, length=0)
    _time_axis(axes, span)
    _legend(axes, list(used.items()))
    _inset(axes)


def _lines(axes: Axes, panel: Model, answers: Any, span: ask.Span) -> None:
    defaults = panel["fieldConfig"]["defaults"]
    custom = defaults["custom"]
    fixed: dict[str, str] = {}
    dashed = set()
    for override in panel["fieldConfig"]["overrides"]:
        properties = {p["id"]: p["value"] for p in override["properties"]}
        name = override["matcher"]["options"].strip("/^$")
        fixed[name] = properties["color"]["fixedColor"]
        if "custom.lineStyle" in properties:
            dashed.add(name)
    stacked = custom.get("stacking", {}).get("mode") == "normal"
    base: dict[float, float] = {}
    used = []
    for index, (name, times, values) in enumerate(_series(answers)):
        colour = fixed.get(name, PALETTE[index % len(PALETTE)])
        used.append((name, colour))
        if name in dashed or not stacked:
            axes.plot(times, values, color=colour, lw=1.4, ls="--" if name in dashed else "-")
            continue
        under = [base.get(at, 0.0) for at in times]
        over = [a + b for a, b in zip(under, values, strict=True)]
        base.update(zip(times, over, strict=True))
        if custom.get("drawStyle") == "bars":
            step = min((b - a for a, b in pairwise(times)), default=86400)
            axes.bar(times, values, width=step * 0.8, bottom=under, color=colour)
        else:
            axes.fill_between(times, under, over, color=colour, alpha=0.7, lw=0.6)
    axes.autoscale(axis="y")
    axes.set_xlim(span.start, span.end)
    if "min" in defaults:
        axes.set_ylim(bottom=defaults["min"])
    low, high = axes.get_ylim()
    every = MaxNLocator(5, integer=defaults.get("decimals") == 0).tick_values(low, high)
    ticks = [tick for tick in every if low <= tick <= high]
    texts = [shown(tick, defaults["unit"], defaults.get("decimals")) for tick in ticks]
    axes.set_yticks(ticks, texts)
    axes.tick_params(colors=TEXT, labelsize=8, length=0)
    axes.grid(axis="y", color="#2c3235")
    _time_axis(axes, span)
    _legend(axes, used)
    _inset(axes)


def _bars(axes: Axes, panel: Model, answers: Any, span: ask.Span) -> None:
    series = _series(answers)
    wide, high = axes.get_xlim()[1], axes.get_ylim()[1]
    most = max(values[-1] for _, _, values in series)
    each = high / len(series)
    for index, (name, _, values) in enumerate(series):
        y = high - (index + 1) * each
        length = values[-1] / most * (wide - 180)
        axes.add_patch(Rectangle((100, y + 4), length, each - 8, color=GOOD))
        axes.text(92, y + each / 2, name, ha="right", va="center")
        axes.text(108 + length, y + each / 2, f"{values[-1]:.0f}", va="center")


def _time_axis(axes: Axes, span: ask.Span) -> None:
    count = 6
    ticks = [span.start + span.seconds * n / count for n in range(1, count)]
    form = "%H:%M" if span.seconds <= 86400 else "%d/%m"
    texts = [f"{datetime.fromtimestamp(at, UTC):{form}}" for at in ticks]
    axes.set_xticks(ticks, texts)


def _legend(axes: Axes, names: list[tuple[str, str]]) -> None:
    handles = [Rectangle((0, 0), 1, 1, color=colour) for _, colour in names]
    axes.legend(
        handles,
        [name for name, _ in names],
        loc="upper left",
        bbox_to_anchor=(0, -20 / (axes.bbox.height - 40)),
        ncols=8,
        frameon=False,
        fontsize=7.5,
        labelcolor=TEXT,
        handlelength=1,
        columnspacing=1,
        borderpad=0,
    )


def _inset(axes: Axes) -> None:
    """Room for the axes' labels and the legend within the panel."""
    box = axes.get_position()
    wide, high = axes.figure.bbox.width, axes.figure.bbox.height
    axes.set_position(
        (box.x0 + 62 / wide, box.y0 + 40 / high, box.width - 66 / wide, box.height - 40 / high)
    )


DRAW: Mapping[str, Draw] = {
    "stat": _stat,
    "table": _table,
    "state-timeline": _timeline,
    "timeseries": _lines,
    "bargauge": _bars,
}


if __name__ == "__main__":
    main()
