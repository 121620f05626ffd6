"""Two Prometheus and three Alertmanagers as one stack, in processes: see docs/scaling.md."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import requests
import yaml

from dolcevita.courier.app import LEADS
from dolcevita.stack import native
from dolcevita.stack.packages import Programs
from dolcevita.stack.settings import Settings
from dolcevita.stack.supervisor import Component
from running import Stack, quicken
from waiting import free_port

ORDER = ("first", "second")
CLUSTER = (1, 2, 3)

MEMBERS = (
    *(f"prometheus-{order}" for order in ORDER),
    *(f"{part}-{number}" for part in ("alertmanager", "courier") for number in CLUSTER),
)
LISTEN_TO_CLUSTER = "--cluster.listen-address="


class Pair(Stack):
    """Like Stack, with prometheus-first and -second, alertmanager-1 to -3, each with a courier.

    It watches shard number `shard` of `of`.
    """

    def __init__(
        self,
        folder: Path,
        programs: Programs,
        sites: str,
        people: str,
        shard: int = 0,
        of: int = 1,
    ) -> None:
        self.shard, self.of = shard, of
        super().__init__(folder, programs, sites, people)

    def watches(self, host: str) -> bool:
        """Whether the sites of a host are in its shard."""
        return crc32(host.encode()) % self.of == self.shard

    def _components(self, programs: Programs, settings: Settings) -> dict[str, Component]:
        ports = {name: free_port() for name in MEMBERS}
        self.urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        gossip = {number: f"127.0.0.1:{free_port()}" for number in CLUSTER}
        found: dict[str, Component] = {}
        for number in CLUSTER:
            order = ORDER[(number - 1) % 2]
            parts = self._parts(
                programs,
                str(number),
                alertmanager=ports[f"alertmanager-{number}"],
                courier=ports[f"courier-{number}"],
                prometheus=ports[f"prometheus-{order}"],
            )
            found.setdefault("exporter", parts["exporter"])
            found[f"courier-{number}"] = parts["courier"]
            alone = parts["alertmanager"]
            found[f"alertmanager-{number}"] = replace(
                alone,
                command=(
                    *(flag for flag in alone.command if flag != LISTEN_TO_CLUSTER),
                    LISTEN_TO_CLUSTER + gossip[number],
                    *(f"--cluster.peer={at}" for other, at in gossip.items() if other != number),
                    "--cluster.peer-timeout=5s",
                    "--cluster.probe-interval=500ms",
                    "--cluster.probe-timeout=250ms",
                ),
            )
        addresses = {f"{name}:{_fixed(name)}": _local(port) for name, port in ports.items()}
        addresses["exporter:9714"] = _local(settings.ports["exporter"])
        for order in ORDER:
            name = f"prometheus-{order}"
            config = self._configure(order, {**addresses, "localhost:9090": _local(ports[name])})
            alone = self._parts(programs, order, prometheus=ports[name])["prometheus"]
            found[name] = replace(
                alone,
                command=(
                    *(flag for flag in alone.command if not flag.startswith("--config.file=")),
                    f"--config.file={config}",
                ),
            )
        return found

    def _parts(self, programs: Programs, name: str, **ports: int) -> dict[str, Component]:
        """The components of a machine of its own."""
        data = self.settings.data / name
        data.mkdir()
        own = replace(self.settings, data=data, ports={**self.settings.ports, **ports})
        return super()._components(programs, own)

    def _configure(self, order: str, addresses: Mapping[str, str]) -> Path:
        """first.yml or second.yml, with the addresses of this stack and without the store."""
        path = self.folder / f"prometheus/pair/{order}.yml"
        text = path.read_text()
        for name, address in addresses.items():
            text = text.replace(name, address)
        config = yaml.safe_load(text)
        del config["remote_write"]
        jobs = {job["job_name"]: job for job in config["scrape_configs"]}
        if self.of > 1:
            (discovery,) = jobs["sites"]["http_sd_configs"]
            discovery["url"] += f"?shard={self.shard}&of={self.of}"
            jobs["exporter"]["params"] = {"shard": [str(self.shard)], "of": [str(self.of)]}
        path.write_text(yaml.safe_dump(config))
        quicken(path)
        return path

    def leads(self, order: str) -> bool:
        """Whether that Prometheus leads, as it says itself; one that does not answer does not."""
        try:
            return bool(self._ask(order, LEADS))
        except requests.ConnectionError:
            return False

    def whole(self) -> bool:
        """Whether everyone is there and knows of the others: the next one may be killed."""
        try:
            seen = all(
                self._ask(order, "other:alive == 1 and timestamp(other:alive) > time() - 3")
                for order in ORDER
            )
            peers = [
                requests.get(
                    f"{self.urls[f'alertmanager-{number}']}/api/v2/status", timeout=5
                ).json()["cluster"]["peers"]
                for number in CLUSTER
            ]
        except requests.ConnectionError:
            return False
        return seen and all(len(found) == len(CLUSTER) for found in peers)

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query to the first that answers."""
        for order in ORDER:
            try:
                return self._ask(order, expression)
            except requests.ConnectionError:
                continue
        raise AssertionError("neither Prometheus answers")

    def _ask(self, order: str, expression: str) -> list[dict[str, Any]]:
        url = f"{self.urls[f'prometheus-{order}']}/api/v1/query"
        answer = requests.get(url, params={"query": expression}, timeout=10)
        answer.raise_for_status()
        return list(answer.json()["data"]["result"])


def _fixed(name: str) -> int:
    """The port that a component has in the networks of the compose file."""
    return native.COMPOSE_PORTS[name.partition("-")[0]]


def _local(port: int) -> str:
    return f"127.0.0.1:{port}"
