"""The dashboards ask only for metrics that somebody publishes."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from alertmanagers import alertmanager
from boards import ask, build, history
from dolcevita.stack.packages import Programs
from test_rules_catalogue import names_of, prometheus, published

__all__ = ["published"]

OF_A_SCRAPE = {"scrape_duration_seconds"}
"""What Prometheus itself adds to each."""

SPAN = ask.Span(0, 86400)


def patterns(node: Any) -> Iterator[str]:
    """What names of metrics must match, in a syntax tree as the API gives it: each alternative."""
    if isinstance(node, list):
        for item in node:
            yield from patterns(item)
    elif isinstance(node, dict):
        for matcher in node.get("matchers") or ():
            if matcher["name"] == "__name__":
                parts = re.fullmatch(r"([\w:]*)(?:\(([\w|]+)\))?(.*)", matcher["value"])
                assert parts
                before, choices, after = parts.groups(default="")
                yield from (f"{before}{choice}{after}" for choice in choices.split("|"))
        for key, item in node.items():
            if key != "matchers":
                yield from patterns(item)


@pytest.fixture(scope="module")
def wanted(newest: Programs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The names and patterns of metrics, each with what asks for it."""
    found: dict[str, set[str]] = {}
    with prometheus(newest, tmp_path_factory.mktemp("parser")) as url:
        for name, model in build.models("en").items():
            for question in ask.questions(model):
                query = ask.filled(question, SPAN, history.ONE_SITE)
                reply = requests.get(f"{url}/api/v1/parse_query", {"query": query}, timeout=10)
                assert reply.ok, f"{name}, {question.about}: {reply.text}"
                for pattern in patterns(reply.json()["data"]):
                    found.setdefault(pattern, set()).add(f"{name}, {question.about}")
    return found


def test_dashboards_ask_only_for_metrics_that_somebody_publishes(
    wanted: dict[str, set[str]], published: set[str], programs: Programs, tmp_path: Path
) -> None:
    config = tmp_path / "alertmanager.yml"
    config.write_text("{route: {receiver: x}, receivers: [{name: x}]}")
    with prometheus(programs, tmp_path) as url, alertmanager(programs, config, tmp_path) as other:

        def missing() -> dict[str, set[str]]:
            texts = [requests.get(f"{each}/metrics", timeout=10).text for each in (url, other.url)]
            known = published.union(OF_A_SCRAPE, *map(names_of, texts))
            return {
                pattern: by
                for pattern, by in wanted.items()
                if not any(re.fullmatch(pattern, name) for name in known)
            }

        deadline = time.monotonic() + 15
        while missing() and time.monotonic() < deadline:
            time.sleep(0.5)
        assert missing() == {}
