"""Bars and sparklines as SVG paths: short, because a page has hundreds of them."""

from collections.abc import Iterable, Sequence
from itertools import groupby

HEIGHT = 20
"""Of a sparkline; a bar is twice MIDDLE high."""

MIDDLE = 5


def runs(levels: Sequence[str], level: str) -> str:
    """The path along a bar over all places that have `level`; a place is one wide."""
    steps: list[str] = []
    place = last = 0
    for key, group in groupby(levels):
        length = len(list(group))
        if key == level:
            steps.append(
                f"M{place} {MIDDLE}h{length}" if not steps else f"m{place - last} 0h{length}"
            )
            last = place + length
        place += length
    return "".join(steps)


def sparkline(values: Iterable[float | None]) -> str:
    """The path of values between 0 and their largest, one a place; gaps stay gaps."""
    values = list(values)
    highest = max((value for value in values if value is not None), default=0.0) or 1.0
    steps: list[str] = []
    before: int | None = None
    for place, value in enumerate(values):
        if value is None:
            before = None
            continue
        height = HEIGHT - round(value / highest * (HEIGHT - 1))
        if before is None:
            # A line of no length: a value between two gaps is seen by its round ends.
            steps.append(f"M{place} {height}l0 0 ")
        else:
            steps.append(f"1 {height - before} ".replace(" -", "-"))
        before = height
    return "".join(steps).replace(" M", "M").strip()
