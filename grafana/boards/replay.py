"""A real Prometheus over the made-up past."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from boards import history

PATIENCE = 60
"""Seconds for Prometheus to start."""


def backfill(promtool: Path, folder: Path, sites: int, days: int, end: int) -> Path:
    """The past as Prometheus's blocks, in a folder under `folder`."""
    source, blocks = folder / "history.om", folder / "blocks"
    history.write(source, sites, days, end)
    # promtool reads all of its input once for each block: a few large ones.
    options = ("--max-block-duration=720h", "--quiet")
    run = subprocess.run(
        [promtool, "tsdb", "create-blocks-from", *options, "openmetrics", source, blocks],
        capture_output=True,
        text=True,
        check=False,
    )
    source.unlink()
    if run.returncode:
        raise RuntimeError(f"promtool cannot backfill: {run.stderr}")
    return blocks


@contextmanager
def prometheus(program: Path, folder: Path, blocks: Path) -> Iterator[str]:
    """The URL of a Prometheus that has `blocks` and scrapes nothing; it stops at the end.

    It writes into `folder` and `blocks`.
    """
    config, log = folder / "prometheus.yml", folder / "prometheus.log"
    config.write_text("")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={config}",
                f"--storage.tsdb.path={blocks}",
                "--storage.tsdb.retention.time=20y",
                f"--web.listen-address={url.removeprefix('http://')}",
            ],
            stderr=errors,
        )
        try:
            _wait(url, process, log)
            yield url
        finally:
            process.terminate()
            process.wait()


def _wait(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if requests.get(f"{url}/-/ready", timeout=5).ok:
                return
        except requests.ConnectionError:
            pass
        time.sleep(0.1)
    raise RuntimeError(f"Prometheus does not start: {log.read_text()[-2000:]}")
