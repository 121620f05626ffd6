"""The whole stack with very many sites: is a scrape missed, a result old, a page late?

    make scale ARGS="--sites 10000 --every 30 --minutes 10"

The sites are an nginx on the same machine, half of them over HTTPS, so their CPU is in the
machine's as well. The configuration is the repository's own.
"""

import argparse
import json
import os
import random
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from bench import crowd, targets
from bench.processes import Pauses, Process, machine_cpu
from binaries import version_ends
from dolcevita.stack.packages import Programs
from hosts import Host
from inbox import Inbox, inbox
from running import Stack
from scene import START_DELAY
from waiting import until

VICTIMS = 6
DOWN_AFTER = 10


@dataclass(frozen=True)
class Figures:
    """What was measured; times in seconds, CPU in cores, memory in MB.

    `machine`: the CPU of everything on it, and the longest that anybody had to wait for some.
    """

    sites: int
    every: float
    seconds: float
    batches: int
    scrapes_expected: int
    scrapes_seen: int
    scrapes_failed: int
    results_failed: int
    oldest_result: float
    longest_scrape: float
    pages: Sequence[float]
    rules: dict[str, tuple[float, float]]
    rule_evaluations_missed: float
    cpu: dict[str, float]
    memory: dict[str, int]
    machine: tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sites", type=int, default=10_000)
    parser.add_argument("--every", type=int, default=30, help="seconds")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--folder", type=Path, help="keep the logs here")
    parser.add_argument("--json", type=Path, help="write the figures here")
    wanted = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    programs = version_ends()["newest"]
    with tempfile.TemporaryDirectory() as scratch:
        folder = wanted.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        figures = measure(folder, programs, wanted.sites, wanted.every, wanted.minutes * 60)
    if wanted.json:
        wanted.json.write_text(json.dumps(asdict(figures), indent=1))
    print(told(figures))


def measure(folder: Path, programs: Programs, sites: int, every: int, seconds: float) -> Figures:
    """Run the stack for so long, with an outage now and then."""
    with _stack(folder, programs, sites, every) as (stack, victims, received):
        stack.start()
        until(
            lambda: _up(stack) >= sites,
            lambda: f"{sites} sites up, {_up(stack):.0f} are",
            within=4 * every,
        )
        time.sleep(START_DELAY)
        processes = {name: Process(popen) for name, popen in stack.processes.items()}
        used = {name: process.cpu() for name, process in processes.items()}
        begin, busy = time.time(), machine_cpu()
        with Pauses() as pauses:
            pages = _outages(victims, received, begin, seconds)
        passed = time.time() - begin
        cpu = {name: (p.cpu() - used[name]) / passed for name, p in processes.items()}
        memory = {name: p.memory() // 2**20 for name, p in processes.items()}
        machine = (machine_cpu() - busy) / passed, pauses.longest
        return _figures(stack, sites, every, passed, pages, cpu, memory, machine)


@contextmanager
def _stack(
    folder: Path, programs: Programs, count: int, every: int
) -> Iterator[tuple[Stack, list[Host], Inbox]]:
    victims = [Host(folder / f"victim{number}") for number in range(VICTIMS)]
    with targets.serving(folder) as served, inbox() as received:
        os.environ["SSL_CERT_FILE"] = str(served.ca_file)
        origins = (served.http, served.https)
        sites = crowd.sites(count, lambda n: origins[n % 2])
        sites += [
            {"name": f"victim{n}", "url": victim.url, "host": f"victim{n}", "owner": "owner0"}
            for n, victim in enumerate(victims)
        ]
        people = crowd.people(count, received.address)
        defaults = {"every": f"{every}s", "timeout": "10s", "down_after": f"{DOWN_AFTER}s"}
        text = yaml.safe_dump({"defaults": defaults, "sites": sites})
        stack = Stack(folder / "stack", programs, text, yaml.safe_dump(people), quick=False)
        try:
            for victim in victims:
                victim.start()
            yield stack, victims, received
        finally:
            stack.stop()
            for victim in victims:
                victim.stop()


def _outages(victims: Sequence[Host], received: Inbox, begin: float, seconds: float) -> list[float]:
    """Let one after the other fall, and take the seconds until each page."""
    dice = random.Random(14)
    pause = seconds / (len(victims) + 1)
    fell = []
    for number, victim in enumerate(victims):
        time.sleep(max(0.0, begin + (number + dice.random()) * pause - time.time()))
        victim.stop()
        fell.append(time.time())
    time.sleep(max(0.0, begin + seconds - time.time()))

    def pages(number: int) -> list[float]:
        site = f"victim{number}"
        return [message.at for message in received.to("provider") if site in message.of("site")]

    numbers = range(len(victims))
    until(lambda: all(map(pages, numbers)), lambda: f"every page\n{received.log()}", within=180)
    return [pages(number)[0] - fell[number] for number in numbers]


def _figures(
    stack: Stack,
    sites: int,
    every: int,
    seconds: float,
    pages: Sequence[float],
    cpu: dict[str, float],
    memory: dict[str, int],
    machine: tuple[float, float],
) -> Figures:
    window = f"{int(seconds)}s"
    ups = stack.query(f'count_over_time(up{{job="sites"}}[{window}])')
    groups = "prometheus_rule_group_last_duration_seconds"
    longest = _by_group(stack, f"max_over_time({groups}[{window}])")
    usual = _by_group(stack, f"avg_over_time({groups}[{window}])")
    return Figures(
        sites=sites,
        every=every,
        seconds=seconds,
        batches=len(ups),
        scrapes_expected=len(ups) * int(seconds // every),
        scrapes_seen=sum(min(int(u["value"][1]), int(seconds // every)) for u in ups),
        scrapes_failed=int(
            _one(
                stack,
                f'sum(count_over_time(up{{job="sites"}}[{window}]) '
                f'- sum_over_time(up{{job="sites"}}[{window}]))',
            )
        ),
        results_failed=int(
            _one(stack, f'count(min_over_time(probe_success{{site!~"victim.*"}}[{window}]) == 0)')
        ),
        oldest_result=_one(
            stack,
            f'max_over_time(max(time() - timestamp(probe_success{{site!~"victim.*"}}))'
            f"[{window}:5s])",
        ),
        longest_scrape=_one(
            stack, f'max(max_over_time(scrape_duration_seconds{{job="sites"}}[{window}]))'
        ),
        pages=pages,
        rules={name: (usual[name], longest[name]) for name in longest},
        rule_evaluations_missed=_one(
            stack, f"sum(increase(prometheus_rule_group_iterations_missed_total[{window}]))"
        ),
        cpu=cpu,
        memory=memory,
        machine=machine,
    )


def _up(stack: Stack) -> float:
    return _one(stack, "count(probe_success == 1)")


def _one(stack: Stack, expression: str) -> float:
    return max((float(one["value"][1]) for one in stack.query(expression)), default=0.0)


def _by_group(stack: Stack, expression: str) -> dict[str, float]:
    return {
        one["metric"]["rule_group"].rpartition("/")[2]: float(one["value"][1])
        for one in stack.query(expression)
    }


def told(figures: Figures) -> str:
    """As Markdown."""
    f = figures
    rows = [
        ("sites, batches", f"{f.sites:,}, {f.batches}"),
        ("every", f"{f.every:g} s, for {f.seconds / 60:.0f} minutes"),
        (
            "scrapes expected, seen, failed",
            f"{f.scrapes_expected:,}, {f.scrapes_seen:,}, {f.scrapes_failed:,}",
        ),
        ("sites with a failed probe that nobody caused", f"{f.results_failed:,}"),
        ("oldest result at any moment", f"{f.oldest_result:.1f} s"),
        ("longest scrape", f"{f.longest_scrape:.2f} s"),
        ("outage to page", ", ".join(f"{s:.0f} s" for s in sorted(f.pages))),
        (
            "all rules, usual and longest sum",
            f"{sum(u for u, _ in f.rules.values()):.2f} s, "
            f"{sum(m for _, m in f.rules.values()):.2f} s",
        ),
        ("rule evaluations missed", f"{f.rule_evaluations_missed:.0f}"),
        *(
            (f"{name}: cores, memory", f"{cores:.2f}, {f.memory[name]} MB")
            for name, cores in f.cpu.items()
        ),
        (
            "the whole machine: cores, longest wait for one",
            f"{f.machine[0]:.2f} of {os.cpu_count()}, {f.machine[1]:.2f} s",
        ),
    ]
    lines = ["| what | figure |", "| --- | --- |", *(f"| {a} | {b} |" for a, b in rows), ""]
    lines += ["| rules | usual | longest |", "| --- | --- | --- |"]
    lines += [
        f"| {name} | {usual:.3f} s | {longest:.3f} s |"
        for name, (usual, longest) in sorted(f.rules.items(), key=lambda item: -item[1][0])
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
