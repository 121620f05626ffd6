"""Machines on a network of their own, and what cuts one off: Linux network namespaces."""

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

CLONE_NEWNET = 0x40000000


@dataclass(frozen=True)
class Machine:
    """A namespace with a loopback and one way to the others, at `address`."""

    namespace: str
    address: str

    @contextmanager
    def inside(self) -> Iterator[None]:
        """This thread, and what it starts, is on the machine."""
        with (
            Path("/proc/thread-self/ns/net").open() as before,
            Path("/run/netns", self.namespace).open() as there,
        ):
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(before.fileno())

    def unplug(self) -> None:
        _ip("-n", self.namespace, "link", "set", "eth0", "down")

    def plug(self) -> None:
        _ip("-n", self.namespace, "link", "set", "eth0", "up")

    def lose_way(self, *addresses: str) -> None:
        """Nothing sent to them arrives; the other machines are still reached."""
        for address in addresses:
            _ip("-n", self.namespace, "route", "add", "blackhole", address)

    def find_way(self, *addresses: str) -> None:
        for address in addresses:
            _ip("-n", self.namespace, "route", "del", "blackhole", address)


@contextmanager
def network(*names: str) -> Iterator[list[Machine]]:
    """Machines of these names on one network that nothing else is on; the first is its switch.

    Skips the test where this process may make none.
    """
    if os.geteuid() != 0 or not shutil.which("ip"):
        pytest.skip("network namespaces need root and the command ip (iproute2)")
    machines = [
        Machine(f"dolcevita-{os.getpid()}-{name}", f"10.9.0.{number}")
        for number, name in enumerate(names, start=1)
    ]
    switch, *others = (machine.namespace for machine in machines)
    with ExitStack() as made:
        for machine in machines:
            try:
                _ip("netns", "add", machine.namespace)
            except subprocess.CalledProcessError as error:
                pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
            made.callback(_ip, "netns", "del", machine.namespace)
            _ip("-n", machine.namespace, "link", "set", "lo", "up")
        _ip("-n", switch, "link", "add", "eth0", "type", "bridge")
        for number, other in enumerate(others):
            port = f"port{number}"
            peer = ("peer", "name", "eth0", "netns", other)
            _ip("-n", switch, "link", "add", port, "type", "veth", *peer)
            _ip("-n", switch, "link", "set", port, "master", "eth0", "up")
        for machine in machines:
            _ip("-n", machine.namespace, "address", "add", f"{machine.address}/24", "dev", "eth0")
            machine.plug()
        yield machines


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)


def _enter(namespace: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "setns")
