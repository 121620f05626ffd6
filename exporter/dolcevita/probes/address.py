"""The metrics of a name's address, the same for every prober that resolves one."""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import ip_address

from dolcevita.probes.result import Sample

HELP: Mapping[str, str] = {
    "probe_dns_lookup_time_seconds": "Time to resolve the site's name",
    "probe_ip_addr_hash": "A number that changes when the address does",
    "probe_ip_protocol": "4 or 6, the version of IP that was used, 0 before an address was",
}


def samples(lookup_seconds: float, address: str) -> list[Sample]:
    """For a lookup that took so long and the address in use, '' for none."""
    version, number = _version_and_hash(address)
    return [
        Sample("probe_dns_lookup_time_seconds", lookup_seconds),
        Sample("probe_ip_addr_hash", number),
        Sample("probe_ip_protocol", version),
    ]


@lru_cache(maxsize=4096)
def _version_and_hash(address: str) -> tuple[int, int]:
    if not address:
        return 0, 0
    ip = ip_address(address)
    # FNV-1a, 32 bits ("FNV Hash", Landon Curt Noll), which blackbox_exporter has here.
    number = 0x811C9DC5
    for byte in ip.packed:
        number = (number ^ byte) * 0x01000193 % 2**32
    return ip.version, number
