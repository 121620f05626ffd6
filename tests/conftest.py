"""What every test may use: both ends of the supported versions of the stock parts."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from binaries import version_ends
from dolcevita.config import UserError
from dolcevita.stack.packages import Programs

SHARED = {"drilled", "evening", "hot", "morning", "outages"}
"""Fixtures that take minutes: the tests on one of them stay in one worker."""


LONGEST = (
    *("test_restarts", "test_default_timing", "test_evening", "test_drill", "test_pairs"),
    *("test_browser_demo", "test_report_told", "test_probes_browser"),
)
"""Files whose tests take minutes: they begin first, so that none is waited for alone."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tell xdist which tests share a fixture, before it reads the groups."""
    for item in items:
        for name in SHARED.intersection(getattr(item, "fixturenames", ())):
            end = item.callspec.params["programs"]  # type: ignore[attr-defined]
            item.add_marker(pytest.mark.xdist_group(f"{name}-{end}"))
    items.sort(key=lambda item: LONGEST.index(stem) if (stem := item.path.stem) in LONGEST else 99)


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
