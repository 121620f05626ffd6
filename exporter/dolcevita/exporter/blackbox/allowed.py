"""Which targets a caller may name, wherever a redirect or a name server leads to."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from pathlib import PurePosixPath

from dolcevita.config import UserError
from dolcevita.probes.resolve import Forbidden

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

METADATA: frozenset[Address] = frozenset(
    ip_address(text)
    for text in (
        "100.100.100.200",  # Alibaba Cloud
        "168.63.129.16",  # Azure
        "192.0.0.192",  # Oracle Cloud
        "fd00:ec2::254",  # Amazon EC2
        "fd20:ce::254",  # Google Cloud
    )
)
"""Where clouds tell a machine its secrets, beside 169.254.169.254, which is link-local."""

NAT64 = IPv6Network("64:ff9b::/96")
"""The last four bytes are an IPv4 address (RFC 6052)."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Networks, host names (`*.example.com` for all below it) and folders of unix sockets.

    `anything` is every target but link-local and metadata addresses, which are never allowed.
    """

    networks: tuple[Network, ...] = ()
    names: tuple[str, ...] = ()
    folders: tuple[PurePosixPath, ...] = ()
    anything: bool = False

    def __bool__(self) -> bool:
        return bool(self.anything or self.networks or self.names or self.folders)

    def has_name(self, host: str) -> bool:
        """Whether the host is allowed by its name."""
        host = host.lower().rstrip(".")
        return self.anything or any(
            host == name or (name.startswith("*.") and host.endswith(name[1:]))
            for name in self.names
        )

    def has_path(self, path: str) -> bool:
        """Whether the unix socket is allowed."""
        there = PurePosixPath(path)
        if ".." in there.parts:
            return False
        return self.anything or any(there.is_relative_to(folder) for folder in self.folders)

    def check(self, host: str, addresses: Sequence[str]) -> None:
        """Raises Forbidden unless all of the host's addresses may be connected to.

        Without an address, which a proxy will find, the name itself must be allowed.
        """
        found = [ip_address(text.partition("%")[0]) for text in addresses]
        for address in found:
            for meant in _meant(address):
                if meant.is_link_local or meant in METADATA:
                    detail = f"{host} is at {address}, a link-local or metadata address"
                    raise Forbidden(f"{detail}: those are never probed.")
        if self.has_name(host):
            return
        if found and all(self._has(address) for address in found):
            return
        others = [text for text in map(str, found[:3]) if text != host]
        where = f" ({', '.join(others)})" if others else ""
        raise Forbidden(f"{host}{where} is not allowed: start with --allow-target {host}.")

    def _has(self, address: Address) -> bool:
        return all(
            any(meant.version == network.version and meant in network for network in self.networks)
            for meant in _meant(address)
        )


def _meant(address: Address) -> Iterable[Address]:
    """The addresses that packets to this one go to: IPv6 has several ways to write IPv4."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped:
            return [address.ipv4_mapped]
        if address.sixtofour:
            return [address, address.sixtofour]
        if address.teredo:
            return [address, *address.teredo]
        if address in NAT64:
            return [address, IPv4Address(address.packed[-4:])]
        if address.packed[:12] == bytes(12) and int(address) > 1:
            return [address, IPv4Address(address.packed[-4:])]
    return [address]


def parse(texts: Iterable[str], anything: bool = False) -> Allowed:
    """From the command line's --allow-target. Raises UserError."""
    networks: list[Network] = []
    names: list[str] = []
    folders: list[PurePosixPath] = []
    for text in texts:
        if text.startswith("/"):
            folders.append(PurePosixPath(text))
            continue
        try:
            networks.append(ip_network(text.strip("[]")))
        except ValueError as error:
            if "host bits" in str(error):
                right = ip_network(text, strict=False)
                raise UserError(
                    f"--allow-target: found '{text}', which is an address within a network: "
                    f"write {right}, or {text.partition('/')[0]} for that address alone"
                ) from None
            if not _is_name(text):
                raise UserError(
                    f"--allow-target: found '{text}', expected a network such as 10.0.0.0/8, "
                    "a name such as www.example.com or *.example.com, or the path of a socket"
                ) from None
            names.append(text.lower().rstrip("."))
    return Allowed(tuple(networks), tuple(names), tuple(folders), anything)


def _is_name(text: str) -> bool:
    labels = text.removeprefix("*.").rstrip(".").split(".")
    return all(label.replace("-", "").replace("_", "").isalnum() for label in labels) and not (
        labels[-1].isdigit()
    )


@dataclass(slots=True)
class Guard:
    """Checks for one probe, and remembers the first refusal."""

    allowed: Allowed
    refusals: list[str] = field(default_factory=list)

    def __call__(self, host: str, addresses: Sequence[str]) -> None:
        try:
            self.allowed.check(host, addresses)
        except Forbidden as error:
            self.refusals.append(str(error))
            raise
