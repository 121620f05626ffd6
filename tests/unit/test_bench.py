"""What a probe costs, so that nobody makes it dearer unseen."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bench.regress import RECORD, WORSE

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.skipif(
    not shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin"),
    reason="no nginx on this machine to be the site",
)
def test_a_probe_costs_no_more_than_it_did():
    """CPU time, as a ratio to a plain prober in the same run; the better of two runs."""
    recorded = json.loads(RECORD.read_text())
    best = dict.fromkeys(recorded, float("inf"))
    for _ in range(2):
        found = _measured()
        best = {scheme: min(best[scheme], ratio) for scheme, ratio in found.items()}
        if all(best[scheme] <= WORSE * recorded[scheme] for scheme in recorded):
            return
    pytest.fail(
        f"CPU of a probe by a plain prober's: {best}, recorded {recorded}. Find what made it "
        "dearer; if it must be, docs/bench/README.md says how to keep the new figures."
    )


def _measured() -> dict[str, float]:
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests")])
    ran = subprocess.run(
        [sys.executable, "-m", "bench.regress"],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert ran.returncode == 0, ran.stderr
    found: dict[str, float] = json.loads(ran.stdout)
    return found
