"""Who is told of each alert of the rules: the compiled routes, as amtool reads them."""

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from catalogue import ALERTS, ROOT, Kind
from dolcevita.alerting.compile import compile, write
from dolcevita.config import Config
from dolcevita.config.people import PeopleReader
from dolcevita.stack.packages import Programs

PEOPLE = """\
providers:
  - {name: hosting, notify: [{webhook: "http://127.0.0.1:9/"}]}
  - {name: second, notify: [{webhook: "http://127.0.0.1:9/"}]}
owners:
  - {name: default, notify: [{email: a@example.com}]}
  - {name: all, notify: [{email: b@example.com}], overdue_after: 4h,
     hears: [resolved, down, overdue, warnings, report]}
"""
TO_NOBODY = {
    "AlertmanagerStandby",
    "IncidentResolved",
    "PrometheusReady",
    "ProviderOverdue",
    "ReportReady",
    "SiteRemoved",
    "Watchdog",
}
"""To no provider, that is: signals, and what is for owners."""


def receivers(programs: Programs, config: Path, kind: Kind, owner: str) -> set[str]:
    provider = "second" if kind.name.endswith("Escalated") else "hosting"
    labels = {"alertname": kind.name, "severity": kind.severity}
    labels |= dict.fromkeys(kind.about, "x")
    if kind.about or kind.name == "ReportReady":
        labels |= {"owner": owner, "provider": provider}
    pairs = [f"{name}={json.dumps(value)}" for name, value in labels.items()]
    run = subprocess.run(
        [programs.amtool, "config", "routes", "test", f"--config.file={config}", *pairs],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(run.stdout.strip().split(","))


def expected(kind: Kind, owner: str) -> set[str]:
    found = set()
    if kind.name not in TO_NOBODY:
        found.add("provider/second" if kind.name.endswith("Escalated") else "provider/hosting")
    hears = {"IncidentResolved"}
    if owner == "all":
        hears |= {"SiteDown", "ServerDown", "ProviderOverdue", "ReportReady"}
    warned = owner == "all" and kind.severity == "warning" and "site" in kind.about
    if kind.name in hears or warned:
        found.add(f"owner/{owner}")
    return found


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "people.yml").write_text(PEOPLE)
    owners, providers = PeopleReader(tmp_path / "people.yml", datetime.now(UTC).date()).read()
    base = ROOT / "alertmanager/alertmanager.yml"
    people = Config((), owners, providers)
    text = compile(people, base, base.parent / "templates", "http://127.0.0.1:9", datetime.now(UTC))
    path = tmp_path / "compiled.yml"
    write(path, text)
    return path


@pytest.mark.parametrize("owner", ["default", "all"])
def test_owner_hears_good_news_and_what_they_asked_for_and_the_provider_the_rest(
    programs: Programs, config: Path, owner: str
) -> None:
    def wrong(kind: Kind) -> Iterator[str]:
        told = receivers(programs, config, kind, owner) - {"nobody", "watchdog"}
        if told != expected(kind, owner):
            yield f"{kind} reaches {sorted(told)}, not {sorted(expected(kind, owner))}"

    with ThreadPoolExecutor(4) as pool:
        assert [
            text for texts in pool.map(lambda kind: list(wrong(kind)), ALERTS) for text in texts
        ] == []
