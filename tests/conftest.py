"""What every test may use: both ends of the supported versions of the stock parts."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from binaries import version_ends
from dolcevita.config import UserError
from dolcevita.stack.packages import Programs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a running stack stay in one worker."""
    for item in items:
        if "integration" in item.path.parts:
            end = getattr(item, "callspec", None)
            name = end.params.get("programs", "") if end else ""
            item.add_marker(pytest.mark.xdist_group(f"{item.path.stem}-{name}"))


@pytest.fixture(scope="session", params=["oldest", "newest"])
def programs(request: pytest.FixtureRequest) -> Programs:
    """Prometheus and Alertmanager: the oldest supported ones, then the newest packaged."""
    try:
        return version_ends()[request.param]
    except UserError as error:
        pytest.skip(str(error))
