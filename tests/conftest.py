"""What every test may use: both ends of the supported versions of the stock parts."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from binaries import version_ends
from dolcevita.config import UserError
from dolcevita.stack.packages import Programs

SHARED = {"drilled", "evening", "hot", "morning", "outages"}
"""Fixtures that take minutes: the tests on one of them stay in one worker."""


LONGEST = (
    "test_compose",
    "test_drill",
    "test_pairs",
    "test_06",
    "test_a_prometheus_that_stays_away",
    "test_evening",
    "test_default_timing",
    "test_restarts",
    "test_report_told",
    "test_browser_demo",
    "test_probes_browser",
    "absence.test",
)
"""Of files and tests that take minutes: they begin first, so that none is waited for alone."""


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    """Tell xdist which tests share a fixture, before it reads the groups; then, when pytest has put
    the tests into its own order, bring the longest to the front."""
    for item in items:
        for name in SHARED.intersection(getattr(item, "fixturenames", ())):
            end = item.callspec.params["programs"]  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.xdist_group(f"{name}-{end}"))
    yield
    items.sort(key=_turn)


def _turn(item: pytest.Item) -> int:
    """Its place among those that begin first, else behind them."""
    found = (place for place, name in enumerate(LONGEST) if name in item.nodeid)
    return next(found, len(LONGEST))


@pytest.fixture(scope="session", params=["oldest", "newest"])
def programs(request: pytest.FixtureRequest) -> Programs:
    """Prometheus and Alertmanager: the oldest supported ones, then the newest packaged."""
    return _of(request.param)


@pytest.fixture(scope="session")
def newest() -> Programs:
    """Those of the newest end alone."""
    return _of("newest")


def _of(end: str) -> Programs:
    try:
        return version_ends()[end]
    except UserError as error:
        pytest.skip(str(error))
