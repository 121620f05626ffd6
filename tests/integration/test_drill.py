"""`dolcevita drill` on a live stack: it passes on a healthy one, else names the broken link."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

from dolcevita.drill.follow import LEASE
from dolcevita.drill.links import Link
from dolcevita.stack.packages import Programs, version_of
from hosts import Host
from inbox import Inbox, Message, inbox
from running import Stack
from scene import START_DELAY
from waiting import free_port, until

DOLCEVITA = Path(sys.executable).with_name("dolcevita")
SITES = ("shop", "spoken", "hushed", "summery", "leaky", "astray")
PAST = {"name": "last-summer", "time_intervals": [{"years": ["2020"], "months": ["july"]}]}

OF_DRILLS = {
    *("site_drill", "site_drill_passed_timestamp_seconds", "site_drill_due_timestamp_seconds"),
    *("drill:passed:timestamp_seconds", "drill:due:timestamp_seconds", "drill:age:seconds"),
    *("ALERTS", "ALERTS_FOR_STATE"),
}
"""The series that a drill makes."""

BUSY = 60.0
"""Seconds that a command may take to start, and a step to happen, among many other tests."""


@dataclass
class Drilled:
    """A stack with a site for each thing that may be wrong, and what people got."""

    stack: Stack
    inbox: Inbox
    amtool: Path
    """Beside Alertmanager; in a container there is none."""
    says_muted: bool
    """Whether its Alertmanager says which time interval holds an alert back, as newer ones do."""

    def command(self, site: str, *options: str) -> list[str]:
        stack = self.stack
        return [
            *(str(DOLCEVITA), "drill", site, "--patience", "15s"),
            *("--sites", str(stack.sites), "--people", str(stack.people)),
            *("--exporter", stack.exporter_url, "--prometheus", stack.prometheus_url),
            *("--alertmanager", stack.alertmanager_url, *options),
        ]

    def environment(self, amtool: bool = True) -> dict[str, str]:
        folders = [str(self.amtool.parent)] if amtool else []
        return {**os.environ, "PATH": os.pathsep.join([*folders, os.environ["PATH"]])}

    def run(
        self, site: str, *options: str, amtool: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(site, *options),
            capture_output=True,
            text=True,
            check=False,
            timeout=3 * BUSY,
            env=self.environment(amtool),
            cwd=self.stack.folder,
        )

    def start(self, site: str) -> subprocess.Popen[bytes]:
        """A drill that has just reached Prometheus."""
        process = subprocess.Popen(
            self.command(site), env=self.environment(), stdout=subprocess.DEVNULL
        )
        until(lambda: self.stack.query("site_drill"), "a drill", BUSY)
        return process

    def fails(self, site: str, link: Link, *words: str, amtool: bool = True) -> None:
        """A drill breaks at this link, and its one line at the end has these words."""
        done = self.run(site, amtool=amtool)
        assert done.returncode == link, f"{done.stdout}{done.stderr}"
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("Do not go yet: ")
        for word in words:
            assert word in done.stderr
        self.over()

    def over(self) -> None:
        """Wait until nothing of a drill is left."""
        until(lambda: not self.stack.query('site_drill or ALERTS{drill="true"}'), "the end", BUSY)

    def series(self, site: str) -> set[tuple[str, ...]]:
        """The name and the labels' names of every series of a site."""
        url = f"{self.stack.prometheus_url}/api/v1/series"
        answer = requests.get(url, params={"match[]": f'{{site="{site}"}}'}, timeout=30)
        return {(one["__name__"], *sorted(one)) for one in answer.json()["data"]}

    def told_of_shop(self) -> list[Any]:
        """What the status page and the month's report say of how it fares."""
        status = requests.get(f"{self.stack.exporter_url}/status.json", timeout=30).json()
        report = subprocess.run(
            [
                *(str(DOLCEVITA), "report", "--format", "json"),
                *("--month", f"{datetime.now(UTC):%Y-%m}"),
                *("--sites", str(self.stack.sites), "--people", str(self.stack.people)),
                *("--prometheus", self.stack.prometheus_url),
            ],
            capture_output=True,
            text=True,
            check=True,
            timeout=BUSY,
        )
        month = json.loads(report.stdout)
        [state] = [site["state"] for site in status["sites"] if site["name"] == "shop"]
        [shop] = [site for site in month["sites"] if site["name"] == "shop"]
        counted = [shop["incidents"], shop["down_seconds"], month["incidents"]]
        return [state, status["incidents"], *counted]

    def drills(self, who: str) -> list[Message]:
        return [message for message in self.inbox.to(who) if "true" in message.of("drill")]

    def prometheus_config(self) -> dict[str, Any]:
        config: dict[str, Any] = yaml.safe_load(
            (self.stack.folder / "data/prometheus.yml").read_text()
        )
        return config

    def trusted(self) -> None:
        """Wait until the courier takes Prometheus for silent no more: it does on a busy machine."""
        url = f"{self.stack.alertmanager_url}/api/v2/alerts"
        known = {"filter": 'alertname="PrometheusSilent"', "active": "true"}
        until(lambda: requests.get(url, params=known, timeout=10).json() == [], "trust", 150)

    @contextmanager
    def prometheus_without(self, key: str) -> Iterator[None]:
        """Prometheus runs on a file that lacks this."""
        config = self.prometheus_config()
        if key in config:
            del config[key]
        else:
            config["scrape_configs"] = [c for c in config["scrape_configs"] if c["job_name"] != key]
        with self.prometheus_on(config):
            yield

    @contextmanager
    def prometheus_on(self, config: Mapping[str, Any]) -> Iterator[None]:
        """Prometheus runs on this file."""
        path = self.stack.folder / "data/prometheus.yml"
        before = path.read_text()
        try:
            self._load(path, yaml.safe_dump(config))
            yield
        finally:
            self._load(path, before)
            # The site's state is known again, and whom to tell.
            until(lambda: self.stack.query('site:info{site="shop"}'), "the rules", 30)
            until(self._discovered, "Alertmanager found", 30)
            self.trusted()

    def _discovered(self) -> list[object]:
        """The Alertmanagers that Prometheus tells: after a reload none for seconds."""
        answer = requests.get(f"{self.stack.prometheus_url}/api/v1/alertmanagers", timeout=10)
        found: list[object] = answer.json()["data"]["activeAlertmanagers"]
        return found

    def _load(self, path: Path, text: str) -> None:
        path.write_text(text)
        requests.post(f"{self.stack.prometheus_url}/-/reload", timeout=30).raise_for_status()


@pytest.fixture(scope="module")
def drilled(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drilled]:
    folder = tmp_path_factory.mktemp("drill")
    with inbox() as box:
        host = Host(folder / "host")
        host.start()
        channels = {site: {"webhook": box.address(f"{site}-provider")} for site in SITES}
        channels["spoken"] = {"apprise": box.url.replace("http", "json") + "/spoken-provider"}
        channels["astray"] = {"webhook": f"http://127.0.0.1:{free_port()}/astray"}
        sites = {
            # A machine that is busy with tests may fail to probe for some seconds.
            "defaults": {"every": "1s", "timeout": "1s", "down_after": "5m"},
            "sites": [
                {"name": name, "url": f"{host.url}/{name}", "provider": f"{name}-provider"}
                for name in SITES
            ],
        }
        people = {
            "providers": [
                {"name": f"{name}-provider", "notify": [channel]}
                for name, channel in channels.items()
            ],
            # Never to be disturbed, and wants to hear of everything.
            "owners": [
                {
                    "name": "marie",
                    "language": "fr",
                    "notify": [{"webhook": box.address("marie")}],
                    "hears": ["resolved", "down", "warnings"],
                    "quiet": {"hours": ["00:00-12:00", "12:00-23:59"]},
                }
            ],
        }
        stack = Stack(folder / "stack", programs, yaml.safe_dump(sites), yaml.safe_dump(people))
        base = stack.folder / "alertmanager/alertmanager.yml"
        config = yaml.safe_load(base.read_text())
        config["time_intervals"] = [PAST]
        config["route"]["routes"].insert(
            0,
            {
                "receiver": "provider",
                "matchers": ['severity="critical"', 'site="summery"'],
                "group_wait": "1s",
                "active_time_intervals": [PAST["name"]],
            },
        )
        config["route"]["routes"].insert(
            0,
            {
                "receiver": "owner:down",
                "matchers": ['alertname="SiteDown"', 'site="leaky"'],
                "continue": True,
            },
        )
        base.write_text(yaml.safe_dump(config))
        try:
            stack.start()
            stack.seen_up(len(SITES))
            time.sleep(START_DELAY)
            version = version_of(programs.alertmanager) or (0, 0)
            yield Drilled(stack, box, programs.amtool, says_muted=version >= (0, 28))
        finally:
            stack.stop()
            host.stop()


def test_a_healthy_stack_passes_and_nobody_but_the_provider_is_told(drilled: Drilled) -> None:
    done = drilled.run("shop")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    assert done.stdout.splitlines()[-1].startswith("You can go: a page for shop reaches shop-prov")
    page, recovery = drilled.drills("shop-provider")
    assert (page.status, recovery.status) == ("firing", "resolved")
    assert page.of("alertname") == ["SiteDown"]
    assert page.alerts[0]["annotations"]["summary"] == "Drill: shop is not down"
    assert drilled.inbox.to("marie") == []
    for step in ("has scraped it", "SiteDown fires", "was told", "recovery", "remembers"):
        assert step in done.stdout


def test_nobody_counts_a_drill(drilled: Drilled) -> None:
    """What Grafana, reports and the status page show is made of a site's series in Prometheus;
    that none of them reads those of a drill is seen in tests/unit/test_drill_endpoints.py."""
    fine = ["fine", [], 0, 0, []]
    assert drilled.told_of_shop() == fine
    process = drilled.start("shop")
    until(lambda: drilled.stack.query('ALERTS{drill="true"}'), "the alert", BUSY)
    assert drilled.told_of_shop() == fine
    assert process.wait(3 * BUSY) == 0
    drilled.over()
    assert drilled.told_of_shop() == fine
    made = {name for name, *_ in drilled.series("shop") - drilled.series("astray")}
    assert {"site_drill", "ALERTS"} <= made <= OF_DRILLS


def test_a_drill_that_passed_is_remembered(drilled: Drilled) -> None:
    drilled.run("shop", "--every", "7d")
    drilled.over()
    # Its age and when the next one is due survive the exporter, which keeps nothing.
    drilled.stack.kill("exporter")
    drilled.stack.start("exporter")
    [age] = until(lambda: drilled.stack.query('drill:age:seconds{site="shop"}'), "the age")
    assert 0 < float(age["value"][1]) < 300
    [due] = drilled.stack.query('last_over_time(drill:due:timestamp_seconds{site="shop"}[1h])')
    assert -300 <= float(due["value"][1]) - time.time() - 7 * 86400 <= 0
    drilled.stack.seen_up(len(SITES))


def test_owner_is_told_now_in_their_language_if_asked_for(drilled: Drilled) -> None:
    before = len(drilled.inbox.to("marie"))
    done = drilled.run("shop", "--tell-owner")
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    [message] = drilled.inbox.to("marie")[before:]
    assert message.of("alertname") == ["IncidentResolved"]
    assert message.of("drill") == ["true"]
    assert done.stdout.splitlines()[-1].endswith("and marie can be told.")


def test_two_drills_do_not_run_at_the_same_time(drilled: Drilled) -> None:
    body = {"site": "shop", "audience": "provider", "seconds": BUSY}
    url = f"{drilled.stack.exporter_url}/-/drill"
    since = requests.post(url, json=body, timeout=5).json()["since"]
    done = drilled.run("spoken")
    requests.delete(f"{url}/{since}", timeout=5).raise_for_status()
    assert done.returncode == 1
    assert "A drill for shop is under way" in done.stderr
    drilled.over()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_drill_takes_its_mark_away(drilled: Drilled, number: signal.Signals) -> None:
    process = drilled.start("shop")
    process.send_signal(number)
    assert process.wait(BUSY) == 128 + number
    drilled.over()


def test_killed_drill_ends_by_itself_within_half_a_minute(drilled: Drilled) -> None:
    process = drilled.start("shop")
    process.kill()
    process.wait()
    killed = time.monotonic()
    drilled.over()
    assert time.monotonic() - killed < LEASE + 20
    until(lambda: drilled.drills("shop-provider")[-1].status == "resolved", "the recovery", BUSY)


def test_apprise_channel_is_proven_through_the_courier(drilled: Drilled) -> None:
    done = drilled.run("spoken", amtool=not drilled.says_muted)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}"
    bodies = [json.dumps(m.payload) for m in drilled.inbox.all if m.to == "spoken-provider"]
    assert "DRILL spoken: nothing is down" in bodies[-2]
    assert "DRILL OVER spoken" in bodies[-1]


@pytest.mark.parametrize("site", ["shop", "spoken"], ids=["needed by all", "by this channel"])
def test_dead_courier_is_named(drilled: Drilled, site: str) -> None:
    drilled.stack.kill("courier")
    try:
        drilled.fails(site, Link.COURIER, "the courier does not answer", "start it")
    finally:
        drilled.stack.start("courier")


def test_silence_left_over_is_named(drilled: Drilled) -> None:
    now = datetime.now(UTC)
    silence = {
        "matchers": [{"name": "site", "value": "hushed", "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(days=3)).isoformat(),
        "createdBy": "pierre",
        "comment": "while I look",
    }
    url = f"{drilled.stack.alertmanager_url}/api/v2/silences"
    requests.post(url, json=silence, timeout=5).raise_for_status()
    drilled.fails("hushed", Link.HELD, "a silence by pierre", "while I look")


def test_expired_route_is_named(drilled: Drilled) -> None:
    words = ("provider/summery-provider", "last-summer")
    drilled.fails("summery", Link.HELD, *words, amtool=not drilled.says_muted)


def test_prometheus_that_scrapes_no_sites_is_named(drilled: Drilled) -> None:
    with drilled.prometheus_without("sites"):
        drilled.fails("shop", Link.SCRAPE, "Prometheus scrapes no sites")


def test_prometheus_that_evaluates_no_rules_is_named(drilled: Drilled) -> None:
    with drilled.prometheus_without("rule_files"):
        drilled.fails("shop", Link.RULES, "evaluates no rule", "rule_files")


def test_prometheus_that_evaluates_too_seldom_is_named(drilled: Drilled) -> None:
    config = drilled.prometheus_config()
    config["global"]["evaluation_interval"] = "1h"
    with drilled.prometheus_on(config):
        drilled.fails("shop", Link.RULES, "has not evaluated SiteDown", "every 1h")


def test_prometheus_that_tells_no_alertmanager_is_named(drilled: Drilled) -> None:
    with drilled.prometheus_without("alerting"):
        drilled.fails("shop", Link.ALERTMANAGER, "sends alerts to no Alertmanager")


def test_page_that_would_reach_the_owner_is_named(drilled: Drilled) -> None:
    drilled.fails("leaky", Link.OWNER, "owner/marie as well", 'drill=""')


def test_alertmanager_that_lost_its_configuration_is_named(drilled: Drilled) -> None:
    path = drilled.stack.folder / "data/alertmanager.yml"
    before = path.read_text()
    reload = f"{drilled.stack.alertmanager_url}/-/reload"
    path.write_text("route: {receiver: default}\nreceivers: [{name: default}]\n")
    requests.post(reload, timeout=30).raise_for_status()
    try:
        drilled.fails("shop", Link.ROUTE, "sends it to default, not to provider/shop-provider")
    finally:
        path.write_text(before)
        requests.post(reload, timeout=30).raise_for_status()
        drilled.trusted()


def test_stopped_exporter_is_named(drilled: Drilled) -> None:
    drilled.stack.kill("exporter")
    try:
        done = drilled.run("shop")
    finally:
        drilled.stack.start("exporter")
        drilled.stack.seen_up(len(SITES))
    assert done.returncode == Link.EXPORTER, done.stderr
    assert "the exporter on" in done.stderr


def test_stopped_prometheus_and_alertmanager_are_named_before_anybody_is_paged(
    drilled: Drilled,
) -> None:
    begin = int(time.time())
    nowhere = f"http://127.0.0.1:{free_port()}"
    for option, link in (("prometheus", Link.PROMETHEUS), ("alertmanager", Link.ALERTMANAGER)):
        done = drilled.run("shop", f"--{option}", nowhere)
        assert done.returncode == link, done.stderr
        assert nowhere in done.stderr
    # A drill of before may still be told of.
    alerts = [alert for told in drilled.inbox.all for alert in told.payload.get("alerts", ())]
    assert not [alert for alert in alerts if int(alert["labels"].get("since", 0)) >= begin]


# The last one: an Alertmanager goes on trying for minutes.
def test_wrong_webhook_is_named_with_its_line(drilled: Drilled) -> None:
    number = next(
        n
        for n, line in enumerate(drilled.stack.people.read_text().splitlines(), 1)
        if "/astray" in line
    )
    words = ("astray-provider was not told", "webhook at 127.0.0.1:", f"people.yml line {number}")
    drilled.fails("astray", Link.CHANNEL, *words)
