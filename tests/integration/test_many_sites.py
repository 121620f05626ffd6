"""500 sites with 90 days of history in a real Prometheus: how long a visitor waits for the page."""

import time
from collections.abc import Iterator

import pytest
import requests

from dolcevita.stack.packages import Programs
from hosts import Host
from past import Lived, Outage, write
from running import Stack
from waiting import until

pytestmark = pytest.mark.soak

SITES = 500
LIMIT = 0.3
"""Seconds from a visitor's request to the last byte of the page, on this machine."""

LARGEST = 500_000
"""Bytes of a page before it is compressed."""

UNVISITED = 50
"""Seconds in which nobody looks; what is fresh to a visitor is over by then."""

PEOPLE = """
providers: [{name: p, notify: [{webhook: "http://127.0.0.1:9/"}]}]
owners: [{name: marie, timezone: Europe/Paris, notify: [{webhook: "http://127.0.0.1:9/"}]}]
"""


@pytest.fixture(scope="module")
def stack(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("many")
    host = Host(folder / "host")
    host.start()
    entries, lived = [], []
    for n in range(SITES):
        name, url, on = f"site {n} of a customer", f"{host.url}/{n}", f"srv{n % 9}"
        entries.append(f"  - {{name: '{name}', url: '{url}', host: {on}}}\n")
        labels = {"site": name, "owner": "marie", "provider": "p", "host": on, "instance": url}
        outages = (Outage(3 + n % 80, 1500, "timeout"),)
        lived.append(Lived(labels, outages, watched_days=92, fine_days=1))
    sites = f"sites:\n{''.join(entries)}"
    stack = Stack(folder / "project", programs, sites, PEOPLE, quick=False)
    write(stack.settings.data / "prometheus", lived, programs)
    try:
        stack.start("exporter", "prometheus", "alertmanager")
        stack.seen_up(SITES)
        yield stack
    finally:
        stack.stop()
        host.stop()


def visit(stack: Stack) -> tuple[float, str]:
    """Seconds that the page took, and the page."""
    begin = time.perf_counter()
    answer = requests.get(f"{stack.exporter_url}/", timeout=10)
    took = time.perf_counter() - begin
    assert answer.status_code == 200
    return took, answer.text


def shows_history(stack: Stack) -> bool:
    return visit(stack)[1].count('class="bar"') == SITES


def test_the_page_is_small_and_no_visitor_waits_for_prometheus(stack: Stack) -> None:
    until(lambda: shows_history(stack), "90 days of every site", within=60)
    warm = [visit(stack)[0] for _ in range(5)]
    time.sleep(UNVISITED)
    first, page = visit(stack)
    assert page.count('class="bar"') == SITES and page.count('class="spark"') == SITES
    assert len(page.encode()) < LARGEST
    stack.kill("exporter")
    stack.start("exporter")
    started = [visit(stack)[0] for _ in range(5)]
    until(lambda: shows_history(stack), "90 days again after a restart", within=60)
    print(
        f"\n{SITES} sites, {len(page.encode()) // 1000} kB: "
        f"{min(warm) * 1000:.0f} ms at best and {max(warm) * 1000:.0f} ms at worst of five, "
        f"{first * 1000:.0f} ms after {UNVISITED} s without a visit, "
        f"{max(started) * 1000:.0f} ms at worst of the first five after a start"
    )
    assert min(warm) < LIMIT
    assert first < LIMIT
    assert sorted(started)[2] < LIMIT, "while history is read, most wait no longer"
