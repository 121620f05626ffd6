"""A real Docker engine with stand-in images, or the reason why these tests are skipped."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "integration"))

import images
from dolcevita.config import UserError
from engine import Engine, engine, favoured, possible


@pytest.fixture(scope="session")
def own_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that has every image; its environment names them."""
    if reason := possible():
        pytest.skip(reason)
    with engine() as made:
        made.environment |= images.IMAGES
        try:
            compose = ["docker", "compose", "version"]
            if subprocess.run(
                compose, capture_output=True, env=made.environment, check=False
            ).returncode:
                config = tmp_path_factory.mktemp("docker")
                images.compose_plugin(config)
                made.environment["DOCKER_CONFIG"] = str(config)
            images.build(made.environment)
        except UserError as error:
            pytest.skip(str(error))
        with favoured():
            yield made


@pytest.fixture(scope="session")
def docker(own_engine: Engine) -> dict[str, str]:
    """The environment in which docker and its compose work."""
    return own_engine.environment
