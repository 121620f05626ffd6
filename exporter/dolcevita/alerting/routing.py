"""Whom the compiled file sends an alert, when, and when it holds it back."""

import json
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import yaml

from dolcevita.alerting.compile import AMTOOL_SECONDS, write
from dolcevita.alerting.intervals import Interval, Muting
from dolcevita.config import UserError, parse_duration

DEFAULTS = {"group_wait": "30s", "group_interval": "5m", "repeat_interval": "4h"}
"""Alertmanager's own ("route", Alertmanager configuration)."""


@dataclass(frozen=True)
class Route:
    """One route of the compiled file. Times are seconds, those of its parents where it has none.

    It is muted inside of any of `mute`, and outside of all of `active` where there are some.
    """

    receiver: str
    group_wait: float
    group_interval: float
    repeat_interval: float
    mute: Mapping[str, Muting]
    active: Mapping[str, Muting]

    def muted_by(self, at: datetime) -> str:
        """The name of a time interval that holds a message back at `at`, '' for none."""
        for name, muting in self.mute.items():
            if muting.contains(at):
                return name
        if self.active and not any(muting.contains(at) for muting in self.active.values()):
            return ", ".join(self.active)
        return ""

    def free(self, at: datetime) -> datetime | None:
        """The first instant from `at` on at which it is not muted; None for not in a year."""
        instant, last = at, at + timedelta(days=366)
        while instant <= last:
            name = self.muted_by(instant)
            if not name:
                return instant
            if name in self.mute:
                after = self.mute[name].left(instant)
            else:
                found = [muting.entered(instant) for muting in self.active.values()]
                after = min((moment for moment in found if moment), default=None)
            if after is None:
                return None
            instant = after
        return None


class Compiled:
    """A compiled text, and Alertmanager's own tool to ask for its routes."""

    def __init__(self, text: str, amtool: Path) -> None:
        self.data: dict[str, Any] = yaml.safe_load(text)
        self.amtool = amtool

    @cached_property
    def mutings(self) -> dict[str, Muting]:
        """The time intervals by name. Raises UserError for a location that is not known here."""
        found = {}
        for key in ("mute_time_intervals", "time_intervals"):
            for entry in self.data.get(key) or ():
                intervals = [Interval.from_yaml(part) for part in entry["time_intervals"]]
                for interval in intervals:
                    _check_location(entry["name"], interval.location)
                found[entry["name"]] = Muting(intervals)
        return found

    def routes(self, labels: Mapping[str, str]) -> list[Route]:
        """The routes that an alert with these labels takes, as amtool says.

        amtool names only receivers, and several routes may share one. So it is asked about a
        copy of the file in which every route has a receiver of its own. Raises UserError.
        """
        routes, text = self._numbered
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "alertmanager.yml"
            write(path, text)
            command = [str(self.amtool), "config", "routes", "test", f"--config.file={path}"]
            command += [
                f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in labels.items()
            ]
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=AMTOOL_SECONDS
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                raise UserError(f"{self.amtool} does not run: {error}") from None
        if done.returncode or not re.fullmatch(r"r\d+(,r\d+)*", done.stdout.strip()):
            words = " ".join(f"{done.stdout} {done.stderr}".split())
            raise UserError(f"amtool cannot tell who gets an alert: {words}")
        return [routes[int(name[1:])] for name in done.stdout.strip().split(",")]

    def to(self, receiver: str) -> list[Route]:
        """Every route to a receiver, whatever alerts take it."""
        return [route for route in self._numbered[0] if route.receiver == receiver]

    @cached_property
    def _numbered(self) -> tuple[list[Route], str]:
        """All routes, and a file with the same tree whose receivers are their numbers."""
        routes: list[Route] = []

        def number(route: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
            times = {**above, **{key: route[key] for key in above if key in route}}
            routes.append(self._route(route, times))
            own = f"r{len(routes) - 1}"
            kept = ("match", "match_re", "matchers", "continue")
            return {
                "receiver": own,
                **{key: route[key] for key in kept if key in route},
                "routes": [number(child, times) for child in route.get("routes") or ()],
            }

        tree = number(self.data["route"], {"receiver": "", **DEFAULTS})
        receivers = [{"name": f"r{n}"} for n in range(len(routes))]
        return routes, yaml.safe_dump({"route": tree, "receivers": receivers}, sort_keys=False)

    def _route(self, route: Mapping[str, Any], times: Mapping[str, Any]) -> Route:
        def named(key: str) -> dict[str, Muting]:
            return {name: self.mutings[name] for name in route.get(key) or ()}

        wait, interval, repeat = (_seconds(times[key]) for key in DEFAULTS)
        return Route(
            receiver=times["receiver"],
            group_wait=wait,
            group_interval=interval,
            repeat_interval=repeat,
            mute=named("mute_time_intervals"),
            active=named("active_time_intervals"),
        )


def _seconds(text: Any) -> float:
    """Prometheus' durations: people.yml has neither 0s nor years."""
    if re.fullmatch(r"0(ms|[smhdwy])?", str(text)):
        return 0.0
    return parse_duration(re.sub(r"(\d+)y", lambda years: f"{365 * int(years[1])}d", str(text)))


def _check_location(name: str, location: str) -> None:
    try:
        ZoneInfo(location)
    except (ZoneInfoNotFoundError, ValueError):
        raise UserError(
            f"the time interval '{name}' has the location '{location}', which is no name of a "
            "time zone: write for example Europe/Paris"
        ) from None
