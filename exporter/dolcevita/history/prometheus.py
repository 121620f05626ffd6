"""The two calls of Prometheus' HTTP API that history takes ("HTTP API", its documentation)."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp

from dolcevita.config import UserError


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

    async def _ask(self, path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
        where = f"Prometheus on {self.url}"
        timeout = aiohttp.ClientTimeout(total=self.seconds)
        try:
            async with self.session.post(
                self.url.rstrip("/") + path, data=query, timeout=timeout
            ) as answer:
                body = await answer.read()
            # Megabytes for hundreds of sites: beside the event loop, which has scrapes to serve.
            data = await asyncio.to_thread(json.loads, body)
            if data["status"] != "success":
                raise NoAnswer(f"{where} refuses a query: {data['error']}")
            found: list[dict[str, Any]] = data["data"]["result"]
        except TimeoutError:
            raise NoAnswer(f"{where} has not answered within {self.seconds:.0f} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise NoAnswer(f"{where} does not answer: {error}") from None
        except (ValueError, KeyError, TypeError):
            raise NoAnswer(f"{where} answers, but not as a Prometheus does") from None
        return found


def quoted(text: str) -> str:
    """A label's value as PromQL writes it."""
    return json.dumps(text, ensure_ascii=False)


def _point(pair: list[Any]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
