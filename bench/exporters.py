"""The two exporters, each on one core, and where to scrape a site or a batch of them."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import requests

from bench.processes import Process, running
from bench.targets import Targets
from binaries import debian_package
from waiting import free_port

TIMEOUT = "10s"

BLACKBOX_CONFIG = """
modules:
  http_2xx: {prober: http, http: {preferred_ip_protocol: ip4}}
"""

PEOPLE = """
providers: [{name: provider, notify: [{webhook: "http://127.0.0.1:9/"}]}]
owners: [{name: owner, notify: [{webhook: "http://127.0.0.1:9/"}]}]
"""


@dataclass(frozen=True)
class Scrape:
    """A URL to scrape and how many sites are probed by it."""

    url: str
    probes: int


@dataclass(frozen=True)
class Exporter:
    """An exporter that runs; `sites` has a scrape a site, `batches` those that cover all sites."""

    process: Process
    url: str
    sites: Sequence[Scrape]
    batches: Sequence[Scrape] = ()


def names(targets: Targets, scheme: str, count: int) -> dict[str, str]:
    """Names of sites and their URLs."""
    origin = {"http": targets.http, "https": targets.https}[scheme]
    return {f"{scheme}-{number}": f"{origin}/{number}" for number in range(count)}


@contextmanager
def blackbox(
    folder: Path, targets: Targets, sites: dict[str, str], cores: Sequence[int]
) -> Iterator[Exporter]:
    """blackbox_exporter of Debian's newest suite."""
    program = debian_package("sid", "prometheus-blackbox-exporter")
    config = folder / "blackbox.yml"
    config.write_text(BLACKBOX_CONFIG)
    address = f"127.0.0.1:{free_port()}"
    command = (
        program / "bin/prometheus-blackbox-exporter",
        f"--config.file={config}",
        f"--web.listen-address={address}",
    )
    environment = {"SSL_CERT_FILE": str(targets.ca_file)}
    log = folder / "blackbox.log"
    with running(command, f"http://{address}/-/healthy", log, cores, environment) as process:
        scrapes = [
            Scrape(f"http://{address}/probe?module=http_2xx&target={quote(url, safe='')}", 1)
            for url in sites.values()
        ]
        yield Exporter(process, f"http://{address}", scrapes)


def files(folder: Path, sites: dict[str, str], every: str = "30s") -> tuple[Path, Path]:
    """sites.yml with these names and URLs, and a people.yml, both in `folder`."""
    paths = folder / "sites.yml", folder / "people.yml"
    lines = [f"defaults: {{every: {every}, timeout: {TIMEOUT}}}", "sites:"]
    lines += [f"  - {{name: {name}, url: '{url}'}}" for name, url in sites.items()]
    paths[0].write_text("\n".join(lines))
    paths[1].write_text(PEOPLE)
    return paths


@contextmanager
def ours(
    folder: Path,
    targets: Targets,
    sites: dict[str, str],
    cores: Sequence[int],
    every: str = "30s",
) -> Iterator[Exporter]:
    """`dolcevita serve` with these sites."""
    folder.mkdir(exist_ok=True)
    sites_yml, people_yml = files(folder, sites, every)
    address = f"127.0.0.1:{free_port()}"
    command = (
        Path(sys.executable).with_name("dolcevita"),
        "serve",
        *("--listen", address),
        *("--sites", sites_yml),
        *("--people", people_yml),
    )
    environment = {"SSL_CERT_FILE": str(targets.ca_file), "DOLCEVITA_DATA": str(folder)}
    log = folder / "dolcevita.log"
    with running(command, f"http://{address}/-/healthy", log, cores, environment) as process:
        singles = [Scrape(f"http://{address}/probe?site={name}", 1) for name in sites]
        yield Exporter(process, f"http://{address}", singles, _batches(f"http://{address}"))


def _batches(url: str) -> list[Scrape]:
    found = []
    for group in requests.get(f"{url}/sd", timeout=10).json():
        labels = group["labels"]
        batch = f"{url}{labels['__metrics_path__']}?batch={labels['__param_batch']}"
        text = requests.get(batch, timeout=30).text
        found.append(Scrape(batch, text.count("\nprobe_success{")))
    return found
