"""The few calls of Prometheus' HTTP API that history takes ("HTTP API", its documentation)."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import aiohttp

from dolcevita.config import UserError

NEVER = "0001-01-01"
"""Go's way to write a time that there is not."""


class NoAnswer(UserError):
    """Prometheus does not answer, or not with what was asked for; the text says which."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its points are (unix seconds, value), oldest first."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]

    @property
    def value(self) -> float:
        """The newest value."""
        return self.points[-1][1]


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether Prometheus has evaluated each alert since it was started, the seconds from one
    evaluation to the next where they are fewest, and the labels of what is pending or firing."""

    evaluated: bool
    interval: float
    active: tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True)
class Prometheus:
    """One Prometheus at `url`. Calls take at most `seconds` and raise NoAnswer."""

    session: aiohttp.ClientSession
    url: str
    seconds: float = 20.0

    async def instant(self, expression: str, at: float | None = None) -> list[Series]:
        """The vector that `expression` is at the unix time `at`, or now."""
        query = {"query": expression} | ({} if at is None else {"time": f"{at:.3f}"})
        return [
            Series(sample["metric"], (_point(sample["value"]),))
            for sample in await self._ask("/api/v1/query", query)
        ]

    async def range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """What `expression` was at `start`, each `step` seconds later, up to `end`."""
        times = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:.3f}"}
        return [
            Series(series["metric"], tuple(map(_point, series["values"])))
            for series in await self._ask("/api/v1/query_range", {"query": expression, **times})
        ]

    async def started(self) -> datetime:
        """When its process started."""
        runtime = await self._data("GET", "/api/v1/status/runtimeinfo")
        try:
            return datetime.fromisoformat(runtime["startTime"])
        except (ValueError, KeyError, TypeError):
            raise self._odd() from None

    async def ruling(self) -> Ruling:
        """What it holds in memory of its alerts."""
        groups = await self._data("GET", "/api/v1/rules", params={"type": "alert"})
        try:
            rules = [rule for group in groups["groups"] for rule in group["rules"]]
            return Ruling(
                evaluated=not any(rule["lastEvaluation"].startswith(NEVER) for rule in rules),
                interval=min((g["interval"] for g in groups["groups"]), default=60.0),
                active=tuple(alert["labels"] for rule in rules for alert in rule["alerts"]),
            )
        except (KeyError, TypeError):
            raise self._odd() from None

    async def _ask(self, path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        data = await self._data("POST", path, data=query)
        try:
            found: list[dict[str, Any]] = data["result"]
        except (KeyError, TypeError):
            raise self._odd() from None
        return found

    async def _data(self, method: str, path: str, **more: Any) -> Any:
        timeout = aiohttp.ClientTimeout(total=self.seconds)
        try:
            async with self.session.request(
                method, self.url.rstrip("/") + path, timeout=timeout, **more
            ) as answer:
                body = await answer.read()
            # Megabytes for hundreds of sites: beside the event loop, which has scrapes to serve.
            reply = await asyncio.to_thread(json.loads, body)
            if reply["status"] != "success":
                raise NoAnswer(f"{self._name} refuses a query: {reply['error']}")
            return reply["data"]
        except TimeoutError:
            raise NoAnswer(f"{self._name} has not answered within {self.seconds:.0f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(f"{self._name} does not answer: {error}") from None
        except (ValueError, KeyError, TypeError):
            raise self._odd() from None

    def _odd(self) -> NoAnswer:
        return NoAnswer(f"{self._name} answers, but not as a Prometheus does")

    @property
    def _name(self) -> str:
        return f"Prometheus on {self.url}"


def quoted(text: str) -> str:
    """A label's value as PromQL writes it."""
    return json.dumps(text, ensure_ascii=False)


def _point(pair: list[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
