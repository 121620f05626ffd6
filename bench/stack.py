"""An exporter with its Prometheus, both kinds side by side: CPU per 1,000 sites and minute."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests
import yaml

from bench import exporters, targets
from bench.exporters import Exporter
from bench.processes import Process, running
from binaries import version_ends
from waiting import free_port, until

EVERY = 30


@dataclass(frozen=True)
class Spent:
    """CPU seconds per 1,000 sites and minute."""

    exporter: float
    prometheus: float

    @property
    def both(self) -> float:
        return self.exporter + self.prometheus


def compared(folder: Path, count: int, seconds: float) -> tuple[Spent, Spent]:
    """What blackbox_exporter and we use in the same minutes, half of the sites over HTTPS.

    Each Prometheus scrapes the sites every 30 s, and the exporter's own metrics as each is
    usually set up: every 15 s theirs, every 5 s ours, which include what sites.yml says.
    Neither evaluates rules.
    """
    with targets.serving(folder) as served, ExitStack() as stack:
        sites = {
            **exporters.names(served, "http", count // 2),
            **exporters.names(served, "https", count // 2),
        }
        theirs = stack.enter_context(exporters.blackbox(folder, served, sites, ()))
        ours = stack.enter_context(exporters.ours(folder / "ours", served, sites, (), f"{EVERY}s"))
        pairs = [
            (theirs, stack.enter_context(_prometheus(folder / "theirs", _per_site(theirs, sites)))),
            (ours, stack.enter_context(_prometheus(folder / "batches", _in_batches(ours)))),
        ]
        for _, (_, url) in pairs:
            _until_all_up(url, count)
        processes = [(pair[0].process, pair[1][0]) for pair in pairs]
        before = [_used(*pair) for pair in processes]
        begin = time.monotonic()
        time.sleep(seconds)
        share = (time.monotonic() - begin) / 60 * count / 1000
        after = [_used(*pair) for pair in processes]
        theirs_spent, ours_spent = (
            Spent((then[0] - first[0]) / share, (then[1] - first[1]) / share)
            for first, then in zip(before, after, strict=True)
        )
        return theirs_spent, ours_spent


def _used(exporter: Process, prometheus: Process) -> tuple[float, float]:
    return exporter.cpu(), prometheus.cpu()


def _per_site(exporter: Exporter, sites: dict[str, str]) -> list[dict[str, object]]:
    address = exporter.url.removeprefix("http://")
    targets_ = [{"targets": [url], "labels": {"site": name}} for name, url in sites.items()]
    return [
        {
            "job_name": "sites",
            "metrics_path": "/probe",
            "params": {"module": ["http_2xx"]},
            "static_configs": targets_,
            "relabel_configs": [
                {"source_labels": ["__address__"], "target_label": "__param_target"},
                {"source_labels": ["__param_target"], "target_label": "instance"},
                {"target_label": "__address__", "replacement": address},
            ],
        },
        {
            "job_name": "exporter",
            "scrape_interval": "15s",
            "static_configs": [{"targets": [address]}],
        },
    ]


def _in_batches(exporter: Exporter) -> list[dict[str, object]]:
    address = exporter.url.removeprefix("http://")
    return [
        {
            "job_name": "sites",
            "honor_labels": True,
            "metrics_path": "/probe",
            "http_sd_configs": [{"url": f"{exporter.url}/sd", "refresh_interval": "5s"}],
        },
        {
            "job_name": "exporter",
            "honor_labels": True,
            "scrape_interval": "5s",
            "scrape_timeout": "4s",
            "static_configs": [{"targets": [address]}],
        },
    ]


@contextmanager
def _prometheus(folder: Path, jobs: list[dict[str, object]]) -> Iterator[tuple[Process, str]]:
    folder.mkdir()
    config = {"global": {"scrape_interval": f"{EVERY}s"}, "scrape_configs": jobs}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    url = f"http://127.0.0.1:{free_port()}"
    command = (
        version_ends()["newest"].prometheus,
        f"--config.file={folder}/prometheus.yml",
        f"--storage.tsdb.path={folder}/data",
        f"--web.listen-address={url.removeprefix('http://')}",
    )
    with running(command, f"{url}/-/ready", folder / "log") as process:
        yield process, url


def _until_all_up(url: str, count: int) -> None:
    def up() -> bool:
        query = {"query": "count(probe_success == 1)"}
        answer = requests.get(f"{url}/api/v1/query", params=query, timeout=10).json()
        found = answer["data"]["result"]
        return bool(found) and float(found[0]["value"][1]) >= count

    until(up, f"{count} sites up at {url}", within=3 * EVERY)
