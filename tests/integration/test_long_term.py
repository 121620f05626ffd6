"""The store for years: VictoriaMetrics gets what Prometheus has, and answers the dashboards."""

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from binaries import debian_package, version_ends
from boards import ask, build, history
from dolcevita.config import UserError
from waiting import free_port, until

pytestmark = pytest.mark.xdist_group("store")

SITES, DAYS, END = 20, 8, 1786000000
WEEK = ask.Span(END - 7 * 86400, END)
RULE = {
    "record": "incident:opened:timestamp_seconds",
    "labels": {"site": "shop", "since": "1"},
    "expr": "vector(1)",
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an empty VictoriaMetrics with the flags of docs/scaling.md."""
    try:
        package = debian_package("sid", "victoria-metrics")
    except UserError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("store")
    url = f"http://127.0.0.1:{(port := free_port())}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                package / "usr/bin/victoria-metrics",
                f"-storageDataPath={folder / 'data'}",
                f"-httpListenAddr=127.0.0.1:{port}",
                "-retentionPeriod=10y",
                "-dedup.minScrapeInterval=1s",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: _ok(f"{url}/health"), "VictoriaMetrics is well", within=60)
        yield url
    finally:
        process.kill()
        process.wait()


def _ok(url: str) -> bool:
    with suppress(requests.ConnectionError):
        return requests.get(url, timeout=5).ok
    return False


def found(store: str, query: str) -> list[dict[str, Any]]:
    answer = requests.get(f"{store}/api/v1/query", params={"query": query}, timeout=10)
    answer.raise_for_status()
    return list(answer.json()["data"]["result"])


def test_what_two_prometheus_write_arrives_once(store: str, tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(
        yaml.safe_dump({"groups": [{"name": "x", "interval": "1s", "rules": [RULE]}]})
    )
    (tmp_path / "prometheus.yml").write_text(
        yaml.safe_dump(
            {
                "rule_files": ["rules.yml"],
                "remote_write": [{"url": f"{store}/api/v1/write"}],
            }
        )
    )
    program = version_ends()["newest"].prometheus
    processes = [
        subprocess.Popen(
            [
                program,
                f"--config.file={tmp_path / 'prometheus.yml'}",
                f"--storage.tsdb.path={tmp_path / order}",
                f"--web.listen-address=127.0.0.1:{free_port()}",
            ],
            stderr=subprocess.DEVNULL,
        )
        for order in ("first", "second")
    ]
    try:
        until(lambda: found(store, "incident:opened:timestamp_seconds"), "it arrives", within=60)
        until(
            lambda: len(found(store, "count_over_time(incident:opened:timestamp_seconds[1m]) > 5")),
            "more of it arrives",
            within=60,
        )
        assert len(found(store, "incident:opened:timestamp_seconds")) == 1
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def past(store: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The store with a made-up past of some sites."""
    source = tmp_path_factory.mktemp("past") / "history.om"
    history.write(source, SITES, DAYS, END)
    with source.open() as lines:
        in_milliseconds = (_in_milliseconds(line).encode() for line in lines if line[0] != "#")
        answer = requests.post(
            f"{store}/api/v1/import/prometheus", data=in_milliseconds, timeout=120
        )
    answer.raise_for_status()
    # What has just come may not be found yet.
    requests.get(f"{store}/internal/force_flush", timeout=60).raise_for_status()
    until(lambda: found(store, f"count(site:info @ {END - 60})"), "the past is there", within=60)
    return store


def _in_milliseconds(line: str) -> str:
    """OpenMetrics has seconds where Prometheus' text format has milliseconds."""
    sample, _, at = line.rpartition(" ")
    return f"{sample} {float(at) * 1000:.0f}\n"


@pytest.mark.parametrize("name", build.BOARDS)
def test_dashboards_are_answered(past: str, name: str) -> None:
    choices = history.ONE_SITE if name == "site" else history.ALL_SITES
    questions = list(ask.questions(build.models("en")[name]))
    answered = [q.about for q in questions if ask.answer(past, q, WEEK, choices)]
    assert len(answered) >= 0.6 * len(questions)
