"""What every test may use: both ends of the supported versions of the stock parts."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from binaries import version_ends
from dolcevita.config import UserError
from dolcevita.stack.packages import Programs


@pytest.fixture(scope="session", params=["oldest", "newest"])
def programs(request: pytest.FixtureRequest) -> Programs:
    """Prometheus and Alertmanager: the oldest supported ones, then the newest packaged."""
    try:
        return version_ends()[request.param]
    except UserError as error:
        pytest.skip(str(error))
