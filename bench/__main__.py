"""Measure both exporters side by side and write the table and the plot into docs/bench/.

    make bench

About six minutes. What else runs on the machine makes every figure larger, which is why the
ratios count: each is between measurements that follow one another.
"""

import argparse
import platform
import subprocess
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median

import pycurl

from bench import compare, plot, stack
from bench.compare import BATCHES, BLACKBOX, SINGLE, Cell
from bench.stack import Spent
from binaries import debian_package, version_ends

OUTPUT = Path(__file__).parent.parent / "docs/bench"

WANTED = {
    ("http", SINGLE): 0.45,
    ("http", BATCHES): 0.25,
    ("https", SINGLE): 0.8,
    ("https", BATCHES): 0.6,
}
"""The CPU of a probe that we want, as a part of blackbox_exporter's."""

WANTED_MEMORY = 2.0
WANTED_STACK = 0.4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2, help="of one measurement")
    parser.add_argument("--sites", type=int, default=1000, help="of the whole stack")
    parser.add_argument("--minutes", type=float, default=1.5, help="of the whole stack")
    wanted = parser.parse_args()
    cells: list[Cell] = []
    with tempfile.TemporaryDirectory() as scratch:
        for scheme in ("http", "https"):
            folder = Path(scratch) / scheme
            folder.mkdir()
            cells += compare.compared(folder, scheme, wanted.rounds, wanted.seconds)
        folder = Path(scratch) / "stack"
        folder.mkdir()
        whole = stack.compared(folder, wanted.sites, wanted.minutes * 60)
    OUTPUT.mkdir(exist_ok=True)
    text = told(cells, whole, f"--rounds {wanted.rounds} --seconds {wanted.seconds:g}")
    (OUTPUT / "probes.md").write_text(text)
    plot.draw(cells, whole, OUTPUT / "probes.png")
    print(text)


def told(cells: list[Cell], whole: tuple[Spent, Spent], arguments: str) -> str:
    """The tables as Markdown."""
    lines = [
        f"Measured {datetime.now(UTC):%Y-%m-%d} by `make bench` ({arguments}): medians, ratios to "
        "blackbox_exporter in the same round.",
        "",
        f"{_machine()}. {_versions()}.",
        "",
        "| sites | who | CPU a probe | ratio | wanted | probes a second | p99 of scrapes "
        "| memory |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    theirs = {cell.scheme: cell for cell in cells if cell.name == BLACKBOX}
    lines += [_row(cell, theirs[cell.scheme]) for cell in cells]
    blackbox, ours = whole
    lines += [
        "",
        "| CPU of the whole stack per 1,000 sites and minute | exporter | Prometheus | both "
        "| ratio | wanted |",
        "| --- | --- | --- | --- | --- | --- |",
        f"| blackbox_exporter, a scrape a site | {_seconds(blackbox)} | 1 | |",
        f"| Dolce Vita, batches | {_seconds(ours)} | {ours.both / blackbox.both:.2f} "
        f"| {WANTED_STACK} |",
    ]
    return "\n".join(lines) + "\n"


def _row(cell: Cell, theirs: Cell) -> str:
    wanted = WANTED.get((cell.scheme, cell.name))
    more = cell.memory / theirs.memory
    memory = f"{cell.memory / 2**20:.0f} MB" + (
        f" ({more:.1f} of {WANTED_MEMORY:g} times)" if cell is not theirs else ""
    )
    fields = (
        cell.scheme.upper(),
        cell.name,
        f"{median(cell.cpu) * 1e6:.0f} µs",
        f"{cell.ratio(theirs):.2f}",
        f"{wanted:g}" if wanted else "",
        f"{median(cell.rate):,.0f}",
        f"{median(cell.p99) * 1000:.1f} ms",
        memory,
    )
    return f"| {' | '.join(fields)} |"


def _seconds(spent: Spent) -> str:
    return f"{spent.exporter:.2f} s | {spent.prometheus:.2f} s | {spent.both:.2f} s"


def _machine() -> str:
    models = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return f"{len(models)} cores of {models[0]}, Linux {platform.release().partition('-')[0]}"


def _versions() -> str:
    prometheus = _first_word_after("version", version_ends()["newest"].prometheus)
    blackbox = debian_package("sid", "prometheus-blackbox-exporter")
    theirs = _first_word_after("version", blackbox / "bin/prometheus-blackbox-exporter")
    libraries = " ".join(pycurl.version.split()[1:3]).replace("/", " ")
    return (
        f"blackbox_exporter {theirs}, Prometheus {prometheus}, Dolce Vita {version('dolcevita')} "
        f"with Python {platform.python_version()} and {libraries}"
    )


def _first_word_after(word: str, program: Path) -> str:
    ran = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    return (ran.stdout + ran.stderr).partition(f"{word} ")[2].split()[0].rstrip(",")


if __name__ == "__main__":
    main()
