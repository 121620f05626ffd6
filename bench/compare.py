"""Both exporters on the same sites in the same run: CPU of a probe, probes a second, memory."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles

from bench import exporters, scraping, targets
from bench.exporters import Exporter, Scrape

SITES = 256
RATE = 100.0
"""Probes a second at which the time of a scrape is taken: neither has to queue."""

EXPORTER_CORE, OTHERS_CORE = 0, 1

BLACKBOX = "blackbox_exporter"
SINGLE = "Dolce Vita, a scrape a site"
BATCHES = "Dolce Vita, batches"


@dataclass
class Cell:
    """One exporter asked in one way, a value a round; CPU is in seconds a probe."""

    scheme: str
    name: str
    cpu: list[float] = field(default_factory=list)
    rate: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    memory: int = 0

    def ratio(self, to: "Cell") -> float:
        """CPU a probe, as the median of the rounds' ratios: a busy moment slows both."""
        return median(own / other for own, other in zip(self.cpu, to.cpu, strict=True))


@dataclass(frozen=True)
class _Way:
    cell: Cell
    exporter: Exporter
    scrapes: Sequence[Scrape]
    at_once: int


def compared(
    folder: Path, scheme: str, rounds: int, seconds: float, steady: bool = True
) -> list[Cell]:
    """The cells of one scheme: in each round, each way is asked for `seconds` in its turn.

    Without `steady` the time of a scrape is not taken.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [OTHERS_CORE])
    core = [EXPORTER_CORE]
    try:
        with targets.serving(folder, [OTHERS_CORE]) as served:
            sites = exporters.names(served, scheme, SITES)
            with (
                exporters.blackbox(folder, served, sites, core) as theirs,
                exporters.ours(folder / "ours", served, sites, core) as ours,
            ):
                ways = [
                    _Way(Cell(scheme, BLACKBOX), theirs, theirs.sites, 16),
                    _Way(Cell(scheme, SINGLE), ours, ours.sites, 16),
                    _Way(Cell(scheme, BATCHES), ours, ours.batches, 2),
                ]
                for way in ways:
                    scraping.fast(way.scrapes, way.at_once, 1)
                for _ in range(rounds):
                    for way in ways:
                        _round(way, seconds, steady)
                return [way.cell for way in ways]
    finally:
        os.sched_setaffinity(0, before)


def _round(way: _Way, seconds: float, steady: bool) -> None:
    process, cell = way.exporter.process, way.cell
    before = process.cpu()
    found = scraping.fast(way.scrapes, way.at_once, seconds)
    cell.cpu.append((process.cpu() - before) / found.probes)
    cell.rate.append(found.probes / found.seconds)
    cell.memory = max(cell.memory, process.memory())
    if steady:
        calm = scraping.steady(way.scrapes, RATE, seconds)
        cell.p99.append(quantiles(calm.scrapes, n=100, method="inclusive")[-1])
