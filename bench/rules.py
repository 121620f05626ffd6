"""What the rules cost with very many sites, one by one; nobody is probed.

python -m bench.rules --sites 10000 --failing 20

Seconds of an evaluation, the median of some: a group's, and those of its dearest rules.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import requests
import yaml

from bench import crowd, targets
from bench.processes import Process
from binaries import version_ends
from dolcevita.stack.packages import Programs
from running import REPOSITORY, Stack
from waiting import free_port, until

DEAREST = 0.01
"""Seconds from which on a rule is told."""

Spent = dict[str, dict[str, list[float]]]
"""Seconds of evaluations, by group and rule; the group itself is the rule ''."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=10_000)
    parser.add_argument("--failing", type=int, default=0, help="as many of them, on their hosts")
    parser.add_argument("--every", type=int, default=30, help="seconds")
    parser.add_argument("--minutes", type=float, default=2)
    parser.add_argument("--end", choices=("oldest", "newest"), default="newest", help="Prometheus")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        programs = version_ends()[wanted.end]
        with _stack(Path(scratch), programs, wanted.sites, wanted.failing, wanted.every) as stack:
            spent, cores = measured(stack, wanted.sites, wanted.every, wanted.minutes * 60)
    print(told(spent))
    print(f"\nPrometheus: {cores:.2f} cores, load average {os.getloadavg()[0]:.1f}")


@contextmanager
def _stack(
    folder: Path, programs: Programs, count: int, failing: int, every: int
) -> Iterator[Stack]:
    with targets.serving(folder) as served:
        os.environ["SSL_CERT_FILE"] = str(served.ca_file)
        nowhere = f"http://127.0.0.1:{free_port()}"
        origins = (served.http, served.https)
        sites = crowd.sites(count, lambda n: nowhere if n < failing else origins[n % 2])
        people = crowd.people(count, lambda name: nowhere)
        defaults = {"every": f"{every}s", "timeout": "10s"}
        text = yaml.safe_dump({"defaults": defaults, "sites": sites})
        stack = Stack(folder / "stack", programs, text, yaml.safe_dump(people), quick=False)
        exporter = stack.components["exporter"]
        arguments = exporter.command[exporter.command.index("serve") :]
        stack.components["exporter"] = replace(
            exporter,
            command=(sys.executable, "-m", "bench.unprobed", *arguments),
            environment={**exporter.environment, "PYTHONPATH": str(REPOSITORY)},
        )
        try:
            yield stack
        finally:
            stack.stop()


def measured(stack: Stack, sites: int, every: int, seconds: float) -> tuple[Spent, float]:
    """What the evaluations of so many seconds took, and the cores that Prometheus had."""
    stack.start("exporter", "prometheus")
    until(lambda: _results(stack) >= sites, f"{sites} results", within=8 * every)
    time.sleep(every)
    process = Process(stack.processes["prometheus"])
    begin, used = time.time(), process.cpu()
    spent: Spent = defaultdict(lambda: defaultdict(list))
    last: dict[str, str] = {}
    while time.time() < begin + seconds:
        answer = requests.get(f"{stack.prometheus_url}/api/v1/rules", timeout=10).json()
        for group in answer["data"]["groups"]:
            name = f"{Path(group['file']).name} {group['name']} ({group['interval']:g} s)"
            if last.get(name) == group["lastEvaluation"] or group["evaluationTime"] == 0:
                continue
            last[name] = group["lastEvaluation"]
            spent[name][""].append(group["evaluationTime"])
            for number, rule in enumerate(group["rules"]):
                labels = " ".join(rule.get("labels", {}).values())
                spent[name][f"{number} {rule['name']} {labels}"].append(rule["evaluationTime"])
        time.sleep(1)
    return spent, (process.cpu() - used) / (time.time() - begin)


def _results(stack: Stack) -> float:
    return max((float(one["value"][1]) for one in stack.query("count(probe_success)")), default=0)


def told(spent: Spent) -> str:
    """As Markdown."""
    lines = ["| rules | least | usual | longest |", "| --- | --- | --- | --- |"]
    for group, rules in sorted(spent.items(), key=lambda item: -median(item[1][""])):
        lines.append(_row(f"**{group}**", rules[""]))
        dear = {name: took for name, took in rules.items() if name and median(took) >= DEAREST}
        lines += [_row(name, dear[name]) for name in sorted(dear, key=lambda n: -median(dear[n]))]
    return "\n".join(lines)


def _row(name: str, took: Sequence[float]) -> str:
    return f"| {name} | {min(took):.3f} s | {median(took):.3f} s | {max(took):.3f} s |"


if __name__ == "__main__":
    main()
