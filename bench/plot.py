"""The figures of the comparison as a picture."""

from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from bench.compare import BATCHES, BLACKBOX, SINGLE, Cell
from bench.stack import Spent

COLOURS = {BLACKBOX: "#8a8f98", SINGLE: "#6aa9d8", BATCHES: "#1f6fb2"}


def draw(cells: list[Cell], whole: tuple[Spent, Spent], path: Path) -> None:
    """Bars of CPU a probe, and of the whole stack."""
    figure, (probes, stack) = pyplot.subplots(1, 2, figsize=(10, 3.6), width_ratios=(2, 1))
    schemes = list(dict.fromkeys(cell.scheme for cell in cells))
    for number, name in enumerate(COLOURS):
        own = [next(c for c in cells if (c.scheme, c.name) == (s, name)) for s in schemes]
        heights = [median(cell.cpu) * 1e6 for cell in own]
        places = [place + (number - 1) * 0.27 for place in range(len(schemes))]
        bars = probes.bar(places, heights, 0.25, label=name, color=COLOURS[name])
        probes.bar_label(bars, fmt="%.0f", fontsize=8)
    probes.set_xticks(range(len(schemes)), [scheme.upper() for scheme in schemes])
    probes.set_title("CPU a probe, microseconds")
    probes.legend(fontsize=8, frameon=False)
    names = ["blackbox_exporter", "Dolce Vita"]
    exporter = [spent.exporter for spent in whole]
    stack.bar(names, exporter, 0.5, label="exporter", color=COLOURS[BATCHES])
    above = [spent.prometheus for spent in whole]
    stack.bar(names, above, 0.5, bottom=exporter, label="Prometheus", color="#e07b39")
    stack.set_title("CPU seconds per 1,000 sites and minute", fontsize=10)
    stack.legend(fontsize=8, frameon=False)
    for axes in (probes, stack):
        axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
