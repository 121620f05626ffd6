"""A heartbeat through kills of the exporter and of Prometheus, on the real programs."""

import time
from pathlib import Path

import requests

from dolcevita.stack.packages import Programs
from inbox import inbox
from running import Stack
from waiting import until

TOKEN = "backup-4f0d2c8e9b1a6d37"
PERIOD = 40
SITES = f"""
defaults: {{every: 1s, timeout: 500ms, down_after: 2s, recover_after: 4s}}
sites:
- name: backup
  url: heartbeat://backup
  heartbeat: {{period: {PERIOD}s, grace: 5s, token: {TOKEN}}}
"""


def test_a_ping_is_remembered_through_kills_and_missed_when_it_is_due(
    programs: Programs, tmp_path: Path
) -> None:
    with inbox() as received:
        people = f"""
providers: [{{name: pro, notify: [{{webhook: "{received.address("pro")}"}}]}}]
owners: [{{name: marie, notify: [{{webhook: "{received.address("marie")}"}}]}}]
"""
        stack = Stack(tmp_path / "stack", programs, SITES, people)

        def verdict() -> list[str]:
            found = stack.query("min by (site) (probe_success)")
            return [sample["value"][1] for sample in found]

        try:
            stack.start()
            requests.get(f"{stack.exporter_url}/ping/{TOKEN}", timeout=5).raise_for_status()
            pinged = time.time()
            until(lambda: stack.query("heartbeat:pinged:timestamp_seconds"), "the ping")
            stack.kill("exporter")
            stack.start("exporter")
            until(
                lambda: stack.query('probe_success{job=""} == 1'),
                "the verdict of the rules",
            )
            assert not stack.query("heartbeat_last_ping_timestamp_seconds")
            stack.kill("exporter", "prometheus")
            stack.start("exporter", "prometheus")
            until(lambda: verdict() == ["1"], "the verdict after both were killed", within=25)
            until(lambda: verdict() == ["0"], "the ping is missed", within=PERIOD + 20)
            assert PERIOD + 4 < time.time() - pinged < PERIOD + 12
            (page,) = until(lambda: received.to("pro", "SiteDown", "firing"), "the page", within=60)
            assert page.of("reason") == ["missed"]
            requests.post(f"{stack.exporter_url}/ping/{TOKEN}", timeout=5).raise_for_status()
            until(lambda: received.to("marie", "IncidentResolved"), "the good news", within=60)
        finally:
            stack.stop()
