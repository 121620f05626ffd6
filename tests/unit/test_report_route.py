"""Who is sent the month's report, by the routes that Alertmanager really has."""

from datetime import UTC, datetime
from pathlib import Path

from dolcevita.alerting import compile as compiler
from dolcevita.alerting.routing import Compiled
from dolcevita.config import load
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
