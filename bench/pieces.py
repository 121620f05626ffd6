"""What grows with the number of sites, one piece at a time: CPU seconds and sizes.

python -m bench.pieces
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bench import exporters
from dolcevita.config import load
from dolcevita.exporter import batches
from dolcevita.exporter.roster import Roster
from dolcevita.probes import KINDS, PLANNED

T = TypeVar("T")


def main() -> None:
    print("| sites | reading sites.yml | `/sd` | what sites.yml says, first | each time | size |")
    print("| --- | --- | --- | --- | --- | --- |")
    for count in (10_000, 100_000):
        print(_row(count))


def _row(count: int) -> str:
    sites = {f"site-{number}": f"https://site-{number}.example.com/" for number in range(count)}
    with tempfile.TemporaryDirectory() as scratch:
        paths = exporters.files(Path(scratch), sites)
        reading, config = _spent(lambda: load(*paths, KINDS, PLANNED))
    roster = Roster(config.sites, "http://exporter:9714")
    listing, _ = _spent(lambda: batches.discovery(config.sites, "exporter:9714"))
    first, text = _spent(lambda: roster.metrics(batches.ALL))
    each, _ = _spent(lambda: roster.metrics(batches.ALL).encode())
    return (
        f"| {count:,} | {reading:.1f} s | {listing * 1000:.0f} ms | {first:.2f} s "
        f"| {each * 1000:.0f} ms | {len(text) / 2**20:.0f} MB |"
    )


def _spent(work: Callable[[], T]) -> tuple[float, T]:
    before = time.process_time()
    found = work()
    return time.process_time() - before, found


if __name__ == "__main__":
    main()
