"""Ask Prometheus what a dashboard asks, with its variables filled in as Grafana fills them."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import requests

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400, "y": 365 * 86400}
SCRAPE_INTERVAL = 15
"""Seconds; `timeInterval` of the data source."""

POINTS = 1000
"""As many as a wide panel has pixels; Grafana asks for no more where a panel does not say so."""


@dataclass(frozen=True, slots=True)
class Question:
    """One query of a dashboard; `about` says of which panel, variable or annotation it is."""

    about: str
    expr: str
    legend: str = ""
    instant: bool = False
    label: str = ""
    interval: float = SCRAPE_INTERVAL
    points: int = POINTS
    ref: str = "A"


@dataclass(frozen=True, slots=True)
class Span:
    """The time that a dashboard shows, in unix seconds."""

    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start

    def step(self, least: float, points: int) -> float:
        """Grafana's $__interval: the time over the points, but no shorter than `least`."""
        return max(least, SCRAPE_INTERVAL, round(self.seconds / points))


def seconds(duration: str) -> float:
    """What a duration such as 5m or 30d is in seconds."""
    return float(duration[:-1]) * UNITS[duration[-1]]


def shown_by_default(model: Mapping[str, Any], end: float) -> Span:
    """The time that the dashboard opens with, when it is opened at `end`."""
    return Span(end - seconds(model["time"]["from"].removeprefix("now-")), end)


def of_panel(panel: Mapping[str, Any]) -> Iterator[Question]:
    """The queries of a panel."""
    for target in panel["targets"]:
        yield Question(
            f"panel '{panel['title']}', query {target['refId']}",
            target["expr"],
            target.get("legendFormat", ""),
            bool(target.get("instant")),
            interval=seconds(panel.get("interval", f"{SCRAPE_INTERVAL}s")),
            points=panel.get("maxDataPoints", POINTS),
            ref=target["refId"],
        )


def questions(model: Mapping[str, Any]) -> Iterator[Question]:
    """All that a dashboard asks: for its panels, its variables and its annotations."""
    for panel in model["panels"]:
        yield from of_panel(panel)
    for variable in model["templating"].get("list", ()) if "templating" in model else ():
        if variable["type"] == "query":
            call = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
            assert call, variable["query"]
            yield Question(f"variable {variable['name']}", call[1], label=call[2])
    for annotation in model["annotations"].get("list", ()) if "annotations" in model else ():
        yield Question(
            f"annotation '{annotation['name']}'",
            annotation["expr"],
            annotation["titleFormat"],
            interval=seconds(annotation["step"]),
        )


def filled(question: Question, span: Span, variables: Mapping[str, str]) -> str:
    """The query as Grafana sends it. Raises KeyError for a variable that nobody has set."""
    step = span.step(question.interval, question.points)
    known = {
        **variables,
        "__range": f"{span.seconds:.0f}s",
        "__interval": f"{step:.0f}s",
        # "$__rate_interval", Grafana documentation of the Prometheus data source.
        "__rate_interval": f"{max(step + SCRAPE_INTERVAL, 4 * SCRAPE_INTERVAL):.0f}s",
    }
    return re.sub(r"\$([a-z_]\w*)", lambda found: known[found[1]], question.expr)


def answer(
    prometheus: str, question: Question, span: Span, variables: Mapping[str, str]
) -> list[Any]:
    """Series as Prometheus's HTTP API gives them, or the values of a variable.

    Raises requests.HTTPError, with Prometheus's words, for a query that it refuses.
    """
    expr = filled(question, span, variables)
    asked: dict[str, Any] = {"start": span.start, "end": span.end}
    if question.label:
        path = f"label/{question.label}/values"
        reply = requests.get(f"{prometheus}/api/v1/{path}", {**asked, "match[]": expr}, timeout=60)
    elif question.instant:
        asked = {"query": expr, "time": span.end}
        reply = requests.post(f"{prometheus}/api/v1/query", asked, timeout=60)
    else:
        # Grafana puts points on whole steps.
        step = span.step(question.interval, question.points)
        asked = {"query": expr, "step": step}
        asked |= {"start": span.start // step * step, "end": span.end // step * step}
        reply = requests.post(f"{prometheus}/api/v1/query_range", asked, timeout=60)
    if not reply.ok:
        raise requests.HTTPError(f"{question.about}: {reply.text} for {expr}")
    data = reply.json()["data"]
    found: list[Any] = data if question.label else data["result"]
    return found
