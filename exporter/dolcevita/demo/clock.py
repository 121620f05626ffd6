"""The story's clock: it stands, walks or runs, and shows the evening of 14 July."""

import re
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta

DINNER = datetime(2027, 7, 14, 20, 13)
MORNING = datetime(2027, 7, 15, 9, 0)

SPEED = 5.0
"""Seconds of the story in a second while the server is down: what was shortened, made long."""


@dataclass(frozen=True, slots=True)
class Pace:
    """From the unix time `real` on it is `story`, and `speed` seconds pass in a second.

    It stops at `until`.
    """

    real: float
    story: datetime
    speed: float
    until: datetime

    def at(self, real: float) -> datetime:
        return min(self.story + timedelta(seconds=self.speed * (real - self.real)), self.until)


class Clock:
    """All its paces so far."""

    def __init__(self) -> None:
        self._paces = [Pace(0, DINNER, 0, DINNER)]

    @property
    def pace(self) -> Pace:
        return self._paces[-1]

    def at(self, real: float) -> datetime:
        """What it showed or shows at a unix time."""
        index = bisect_right(self._paces, real, key=lambda pace: pace.real) - 1
        return self._paces[index].at(real)

    def walk(self, real: float, until: datetime = MORNING) -> None:
        """Go on at SPEED from now on, and stop before the morning."""
        self._paces.append(Pace(real, self.at(real), SPEED, until))

    def run(self, real: float, arrival: float) -> None:
        """Go on so that it is morning at the unix time `arrival`."""
        now = self.at(real)
        speed = (MORNING - now).total_seconds() / max(arrival - real, 1.0)
        self._paces.append(Pace(real, now, speed, MORNING))

    def stand(self, real: float, story: datetime) -> None:
        """Show `story` from now on."""
        self._paces.append(Pace(real, story, 0, story))


def in_story(lasted: str) -> str:
    """A length of time as Prometheus writes it ("26s", "1m 5s"), at SPEED."""
    units = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    parts = re.findall(r"(\d+)([dhms])", lasted)
    seconds = round(SPEED * sum(int(count) * units[unit] for count, unit in parts))
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m {rest}s" if minutes else f"{rest}s"
