"""Who is sent the month's report, by the routes that Alertmanager really has."""

from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry

from dolcevita.alerting import compile as compiler
from dolcevita.alerting.routing import Compiled
from dolcevita.config import load
from dolcevita.courier.notify import Deliveries
from dolcevita.probes import KINDS
from dolcevita.stack.packages import Programs

BASE = Path(__file__).parents[2] / "alertmanager/alertmanager.yml"
SITES = "sites: [{url: 'http://127.0.0.1:9/', owner: marie}]"
PEOPLE = """
providers: [{name: p, notify: [{email: p@example.com}]}]
owners:
  - name: marie
    hears: [resolved, report]
    quiet: {hours: "19:00-09:00"}
    notify: [{email: m@example.com}]
  - {name: paul, notify: [{email: p@example.com}]}
"""


def test_it_goes_to_owners_who_hear_of_it_outside_of_their_quiet_hours(
    tmp_path: Path, programs: Programs
) -> None:
    (tmp_path / "sites.yml").write_text(SITES)
    (tmp_path / "people.yml").write_text(PEOPLE)
    config = load(tmp_path / "sites.yml", tmp_path / "people.yml", KINDS)
    text = compiler.compile(config, BASE, "templates", "http://127.0.0.1:9", datetime.now(UTC))
    compiler.check(text, programs.amtool, config, BASE)
    compiled = Compiled(text, programs.amtool)

    def told(owner: str) -> dict[str, bool]:
        """Receivers by name, and whether each waits for the end of quiet hours."""
        labels = {"alertname": "ReportReady", "severity": "info", "owner": owner, "month": "202706"}
        return {route.receiver: bool(route.mute) for route in compiled.routes(labels)}

    assert told("marie") == {"owner/marie": True}
    assert told("paul") == {"nobody": False}


def test_a_new_link_is_a_new_file_and_the_file_does_not_show_it(
    tmp_path: Path, programs: Programs
) -> None:
    (tmp_path / "sites.yml").write_text(SITES)
    (tmp_path / "people.yml").write_text(PEOPLE)
    config = load(tmp_path / "sites.yml", tmp_path / "people.yml", KINDS)

    def compiled(pages: dict[str, str]) -> str:
        now = datetime.now(UTC)
        text = compiler.compile(config, BASE, "templates", "http://127.0.0.1:9", now, pages)
        compiler.check(text, programs.amtool, config, BASE)
        return text

    none, first, second = (
        compiled(pages)
        for pages in (
            {},
            {"marie": "https://status.example.com/status/marie/first"},
            {"marie": "https://status.example.com/status/marie/second"},
        )
    )
    assert compiler.LINKS in first and compiler.LINKS not in none
    assert first != second
    assert "status.example.com" not in first


def test_apprise_has_the_link_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "sites.yml").write_text(SITES)
    (tmp_path / "people.yml").write_text(PEOPLE)
    marie, _ = load(tmp_path / "sites.yml", tmp_path / "people.yml", KINDS).owners
    report = {
        "status": "firing",
        "labels": {"alertname": "ReportReady", "owner": "marie", "month": "202706"},
        "annotations": {"summary": "Report of 2027-06: 3 incidents", "month": "2027-06"},
    }
    deliveries = Deliveries(BASE.parent / "templates", CollectorRegistry())
    plain = deliveries.render(marie, "owner", [report])
    linked = deliveries.render(marie, "owner", [report], page="https://example.com/status/marie/x")
    assert plain == "Report of 2027-06: 3 incidents"
    assert linked == f"{plain}. https://example.com/status/marie/x/report/2027-06"
