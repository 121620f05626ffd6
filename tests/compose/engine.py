"""A Docker engine of the tests' own: what is stopped with it is nobody else's."""

import fcntl
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from binaries import CACHE
from waiting import until

DATA = CACHE / "engine"
"""Kept between runs, for its images: to make them takes longer than all tests."""

LOCK = Path(tempfile.gettempdir()) / "dolcevita-engine.lock"
"""Of the whole machine: two engines take each other's firewall rules away."""


SHARES = {
    Path("/sys/fs/cgroup/cpu/docker/cpu.shares"): "16384",
    Path("/sys/fs/cgroup/docker/cpu.weight"): "1600",
}
"""Of cgroups v1 and v2; sixteen times the default."""


class Engine:
    """A dockerd that only root can start. `environment` is what the docker command needs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.environment = {**os.environ, "DOCKER_HOST": f"unix://{folder}/docker.sock"}

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *("dockerd", "--host", self.environment["DOCKER_HOST"]),
                    *("--data-root", DATA, "--exec-root", self.folder / "run"),
                    *("--pidfile", self.folder / "pid"),
                ],
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until(self.answers, lambda: (self.folder / "log").read_text()[-2000:], within=60)

    def answers(self) -> bool:
        return answers(self.environment)

    def stop(self, number: int = signal.SIGTERM) -> None:
        """SIGTERM stops the containers, as a shutdown of the machine does."""
        if self.process:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    def address(self) -> str:
        """This machine's address on the default bridge: host.docker.internal of containers."""
        template = "{{(index .IPAM.Config 0).Gateway}}"
        return self._docker("network", "inspect", "bridge", "--format", template).strip()

    def clean(self) -> None:
        """Remove every container and network, and the volumes."""
        containers = self._docker("ps", "--all", "--quiet").split()
        if containers:
            self._docker("rm", "--force", "--volumes", *containers)
        self._docker("network", "prune", "--force")
        if volumes := self._docker("volume", "ls", "--quiet").split():
            self._docker("volume", "rm", "--force", *volumes)

    def _docker(self, *words: str) -> str:
        return subprocess.run(
            ["docker", *words], env=self.environment, capture_output=True, text=True, check=False
        ).stdout


def possible() -> str:
    """'', or why no engine can be started here."""
    if os.geteuid():
        return "only root can start a Docker engine"
    missing = [name for name in ("docker", "dockerd", "iptables") if not shutil.which(name)]
    return f"there is no {missing[0]} on this machine" if missing else ""


def answers(environment: dict[str, str]) -> bool:
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    return not subprocess.run(command, env=environment, capture_output=True, check=False).returncode


@contextmanager
def favoured() -> Iterator[None]:
    """All containers together get the share of sixteen processes of the machine's.

    To the kernel they are one, by default: a machine that is busy with other tests would starve
    them, little as they need. Before the first container there is nothing to be set.
    """
    before: dict[Path, str] = {}
    for file, share in SHARES.items():
        with suppress(OSError):
            before[file] = file.read_text()
            file.write_text(share)
    try:
        yield
    finally:
        for file, share in before.items():
            with suppress(OSError):
                file.write_text(share)


@contextmanager
def engine() -> Iterator[Engine]:
    """A running engine without containers, stopped at the end; one at a time on this machine."""
    DATA.mkdir(parents=True, exist_ok=True)
    with LOCK.open("w") as lock, tempfile.TemporaryDirectory() as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = Engine(Path(folder))
        try:
            made.start()
            made.clean()
            yield made
        finally:
            if made.process:
                made.clean()
            made.stop()
