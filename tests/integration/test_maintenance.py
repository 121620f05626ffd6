"""Maintenance, by hand and in status.yml, on a real Alertmanager."""

import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import requests

from dolcevita.stack.packages import Programs
from running import Stack
from waiting import free_port, until

PARIS = ZoneInfo("Europe/Paris")
DOLCEVITA = str(Path(sys.executable).with_name("dolcevita"))


@pytest.fixture(scope="module")
def stack(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack whose sites answer to nobody: all that matters is what is silenced."""
    url = f"http://127.0.0.1:{free_port()}/"
    sites = f"""
sites:
  - {{name: shop, url: '{url}', host: srv1, every: 1s, timeout: 1s}}
  - {{name: blog, url: '{url}', host: srv1, every: 1s, timeout: 1s}}
"""
    people = """
providers: [{name: p, notify: [{webhook: "http://127.0.0.1:9/"}]}]
owners: [{name: marie, timezone: Europe/Paris, notify: [{webhook: "http://127.0.0.1:9/"}]}]
"""
    stack = Stack(tmp_path_factory.mktemp("maintenance") / "project", programs, sites, people)
    try:
        stack.start()
        yield stack
    finally:
        stack.stop()


def maintain(stack: Stack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DOLCEVITA, "maintain", "--alertmanager", stack.alertmanager_url, *arguments],
        cwd=stack.folder,
        capture_output=True,
        text=True,
        check=False,
    )


def silenced(stack: Stack) -> dict[str, str]:
    """Comment of each silence that is not over, by what it is about."""
    found = requests.get(f"{stack.alertmanager_url}/api/v2/silences", timeout=5).json()
    return {
        entry["matchers"][0]["value"]: entry["comment"]
        for entry in found
        if entry["status"]["state"] != "expired" and entry["createdBy"].startswith("dolcevita ")
        and not entry["createdBy"].endswith("courier")
    }  # fmt: skip


def suppressed(stack: Stack) -> set[str]:
    """The sites whose SiteDown is silenced."""
    found = requests.get(
        f"{stack.alertmanager_url}/api/v2/alerts",
        params={"filter": 'alertname="SiteDown"'},
        timeout=5,
    ).json()
    return {entry["labels"]["site"] for entry in found if entry["status"]["silencedBy"]}


def site_on_page(stack: Stack, name: str) -> str:
    data = requests.get(f"{stack.exporter_url}/status.json", timeout=5).json()
    return next(str(site["state"]) for site in data["sites"] if site["name"] == name)


def test_what_is_begun_by_hand_silences_the_site_until_it_is_over(stack: Stack) -> None:
    run = maintain(stack, "shop", "--for", "2h", "--because", "new theme", "--not-counted")
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("shop: site in maintenance, ") and "Europe/Paris" in run.stdout
    assert silenced(stack) == {"shop": "new theme"}
    until(lambda: suppressed(stack) == {"shop"}, "the page of shop held back", within=60)
    until(lambda: site_on_page(stack, "shop") == "maintenance", "it on the page", within=30)
    assert site_on_page(stack, "blog") != "maintenance"
    until(
        lambda: stack.query('site_maintenance{site="shop",counted="no"} == 1'), "it in Prometheus"
    )
    over = maintain(stack, "shop", "--over")
    assert (over.returncode, over.stdout) == (0, "shop: maintenance is over\n")
    assert silenced(stack) == {}
    until(lambda: site_on_page(stack, "shop") != "maintenance", "it gone from the page", within=30)
    again = maintain(stack, "shop", "--over")
    assert again.returncode == 1 and "no maintenance is known" in again.stderr


def test_windows_of_status_yml_become_silences_and_follow_edits(stack: Stack) -> None:
    file = stack.folder / "status.yml"
    soon = datetime.now(UTC) + timedelta(hours=3)
    window = f'{{hosts: [srv1], from: "{soon:%Y-%m-%d %H:%M}", for: 2h, because: "a disk"}}'
    file.write_text(f"maintenance: [{window}]")
    until(lambda: silenced(stack) == {"srv1": "a disk"}, "the silence of the host", within=20)
    count = len(requests.get(f"{stack.alertmanager_url}/api/v2/silences", timeout=5).json())
    stack.kill("courier")
    stack.start("courier")
    time.sleep(6)  # Longer than the courier takes between two looks.
    found = requests.get(f"{stack.alertmanager_url}/api/v2/silences", timeout=5).json()
    assert len([s for s in found if s["createdBy"] != "dolcevita courier"]) <= count
    assert silenced(stack) == {"srv1": "a disk"}, "it is there once, after a restart too"
    file.write_text(f"maintenance: [{window.replace('a disk', 'two disks')}]")
    until(lambda: silenced(stack) == {"srv1": "two disks"}, "the edited one only", within=20)
    file.write_text("maintenance: [{hosts: [srv2]}]")
    time.sleep(6)
    assert silenced(stack) == {"srv1": "two disks"}, "a bad edit ends no maintenance"
    begin, end = (datetime.now(PARIS) + timedelta(minutes=n) for n in (-2, 30))
    every = f"{begin:%A} {begin:%H:%M}-{end:%H:%M}"
    file.write_text(f"maintenance: [{{sites: [blog], every: {every}, because: backup}}]")
    until(lambda: silenced(stack) == {"blog": "backup"}, "the silence of this week", within=20)
    until(lambda: site_on_page(stack, "blog") == "maintenance", "it on the page", within=20)
    file.unlink()
    until(lambda: silenced(stack) == {}, "no silence without the file", within=20)
