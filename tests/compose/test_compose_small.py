"""A small server: what a number of sites takes of one processor and one GiB, for an hour.

The limits are those that docs/docker.md gives for such a server. `make soak ARGS="-k small"`; SITES
and MINUTES in the environment change how many sites and for how long.
"""

import json
import os
import re
import time
from pathlib import Path

import pytest
import yaml

from engine import Engine
from hosts import Host
from inbox import Inbox, inbox
from project import ROOT, SERVICES, Project
from town import INSIDE
from waiting import until

MINUTES = float(os.environ.get("MINUTES", 60))
SITES = int(os.environ.get("SITES", 500))

LEFT = 256
"""MiB of one GiB that the system and the engine take."""

LOOK_EVERY = 15.0

pytestmark = [
    pytest.mark.soak,
    pytest.mark.timeout(MINUTES * 60 + 900),
    pytest.mark.xdist_group("compose"),
]


class Small(Project):
    """A project with the limits for a small server, all on one processor of this machine."""

    def __init__(
        self, folder: Path, engine: Engine, many: Host, one: Host, received: Inbox
    ) -> None:
        sites = [
            {"name": f"site{n}", "url": f"{many.url}/{n}", "host": f"server{n}"}
            for n in range(SITES - 1)
        ]
        sites.append({"name": "falls", "url": one.url, "host": "falls"})
        people = {
            "providers": [
                {"name": "infogerance", "notify": [{"webhook": received.address("provider")}]}
            ],
            "owners": [
                {
                    "name": "marie",
                    "timezone": "UTC",
                    "notify": [{"webhook": received.address("owner")}],
                }
            ],
        }
        texts = (
            yaml.safe_dump(document).replace(many.address, INSIDE)
            for document in ({"sites": sites}, people)
        )
        super().__init__(folder, engine.environment, *texts)
        self.limits = limits()
        self.environment |= {f"{name.upper()}_MEMORY": f"{m}m" for name, m in self.limits.items()}
        one_processor = {"services": {service: {"cpuset": "0"} for service in SERVICES}}
        (folder / "docker-compose.override.yml").write_text(yaml.safe_dump(one_processor))

    def memory(self, service: str) -> float:
        """What a container takes now, in MiB, without files that the kernel could forget."""
        words = ("stats", "--no-stream", "--format", "{{json .MemUsage}}", self.container(service))
        taken, _, _ = json.loads(self.docker(*words)).partition(" / ")
        number, unit = re.fullmatch(r"([\d.]+)(KiB|MiB|GiB)", taken).groups()  # type: ignore[union-attr]
        return float(number) * {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024}[unit]


def limits() -> dict[str, int]:
    """MiB for each container on a small server, as the documentation says."""
    guide = (ROOT / "docs/docker.md").read_text().partition("## A small server")[2]
    found = re.findall(r"^([A-Z]+)_MEMORY=(\d+)m$", guide, re.MULTILINE)
    return {name.lower(): int(size) for name, size in found}


def test_the_sites_fit_a_small_server_and_the_page_is_in_time(
    own_engine: Engine, tmp_path: Path
) -> None:
    address = own_engine.address()
    many, one = (Host(tmp_path / name, address) for name in ("many", "one"))
    (tmp_path / "small").mkdir()
    with inbox(address) as received:
        small = Small(tmp_path / "small", own_engine, many, one, received)
        assert set(small.limits) == set(SERVICES)
        assert sum(small.limits.values()) <= 1024 - LEFT
        try:
            for host in (many, one):
                host.start()
            small.start(*SERVICES)
            until(
                lambda: small.number("count(probe_success == 1)") == SITES,
                lambda: f"{SITES} sites up, {small.query('count(probe_success) by (reason)')}",
                within=180,
            )
            began = time.monotonic()
            most = dict.fromkeys(SERVICES, 0.0)
            while time.monotonic() < began + MINUTES * 60:
                time.sleep(LOOK_EVERY)
                now = {service: small.memory(service) for service in SERVICES}
                most = {service: max(most[service], now[service]) for service in SERVICES}
            _tell(small, now, most)
            assert not received.all, received.log()
            for service in SERVICES:
                (inspected,) = json.loads(small.docker("inspect", small.container(service)))
                assert inspected["RestartCount"] == 0, service
            one.stop()
            stopped = time.time()
            until(lambda: received.to("provider", "SiteDown"), received.log, within=60)
            page = received.to("provider", "SiteDown")[0]
            print(f"page {page.at - stopped:.0f} s after the outage")
            one.start()
            until(lambda: received.to("owner"), received.log, within=180)
        finally:
            small.remove()
            for host in (many, one):
                host.stop()


def _tell(small: Small, now: dict[str, float], most: dict[str, float]) -> None:
    """Print what was taken; processor time is that of the programs themselves."""
    minutes = f"{MINUTES:.0f}m"
    print(f"\n{SITES} sites for {MINUTES:.0f} minutes")
    print(f"{'container':<14}{'limit':>6}{'now':>6}{'most':>6}  MiB  processor")
    total = 0.0
    for service in SERVICES:
        spent = 100 * small.number(f'rate(process_cpu_seconds_total{{job="{service}"}}[{minutes}])')
        total += spent
        print(
            f"{service:<14}{small.limits[service]:>6}{now[service]:>6.0f}{most[service]:>6.0f}"
            f"{spent:>14.1f} %"
        )
    limit, most_now, most_of_all = (sum(x.values()) for x in (small.limits, now, most))
    print(f"{'together':<14}{limit:>6}{most_now:>6.0f}{most_of_all:>6.0f}{total:>14.1f} %")
    worst = small.number(f'max(max_over_time(scrape_duration_seconds{{job="sites"}}[{minutes}]))')
    slow = small.number(
        f"max(max_over_time(prometheus_rule_group_last_duration_seconds[{minutes}]))"
    )
    print(f"longest scrape {worst:.2f} s, longest evaluation of a group {slow:.2f} s")
