"""A real Docker engine with stand-in images, or the reason why these tests are skipped."""

import os
import subprocess

import pytest

import images
from dolcevita.config import UserError


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which docker and its compose work, with every image but Grafana's."""
    environment = {**os.environ, **images.IMAGES}

    def works(*command: str) -> bool:
        try:
            result = subprocess.run(command, capture_output=True, env=environment, check=False)
        except FileNotFoundError:
            return False
        return result.returncode == 0

    if not works("docker", "version", "--format", "{{.Server.Version}}"):
        pytest.skip("no Docker engine answers")
    try:
        if not works("docker", "compose", "version"):
            config = tmp_path_factory.mktemp("docker")
            images.compose_plugin(config)
            environment["DOCKER_CONFIG"] = str(config)
        images.build(environment)
    except UserError as error:
        pytest.skip(str(error))
    return environment
