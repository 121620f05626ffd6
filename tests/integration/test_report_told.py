"""The month's report told by itself: once, on the first morning that reaches its owner, by mail.

The mail has the report itself, made before it is told.

The rules take the time from a clock that was set: it is the first of a month, shortly before seven.
"""

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from html import unescape
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
from aiosmtpd.controller import Controller

from dolcevita.stack.packages import Programs
from hosts import Host
from past import Lived, Outage, write
from running import Stack
from scene import START_DELAY, next_minute, sleep_until
from waiting import free_port, until

PARIS = ZoneInfo("Europe/Paris")
TOKEN = "5f1e0d9c8b7a69584736"
SHOP = "shop {{ .Labels.owner }} <b>&"
"""A name that neither a template nor a browser may take for its own."""
SETTLE = 10
"""Seconds in which a second message would have come: groups are told within fractions of one."""


class Mailbox:
    """Keeps (unix seconds, mail) of all that the SMTP server takes."""

    def __init__(self) -> None:
        self.mails: list[tuple[float, EmailMessage]] = []

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append((time.time(), mail))
        return "250 OK"

    def page_to(self, address: str) -> str:
        """The HTML of the only mail to somebody."""
        (mail,) = [mail for _, mail in self.mails if mail["To"] == address]
        body = mail.get_body(("html",))
        assert body
        return str(body.get_content())

    def to(self, address: str) -> list[tuple[float, str, str]]:
        """(unix seconds, subject, text) of what somebody was sent."""
        found = []
        for at, mail in list(self.mails):
            body = mail.get_body(("plain",))
            if mail["To"] == address and body:
                found.append((at, str(mail["Subject"]), str(body.get_content()).strip()))
        return found


def told_of(page: str) -> list[list[str]]:
    """Site, length and reason of each incident in a report."""
    found = []
    for row in re.findall(r"<tr>.*?</tr>", page):
        cells = re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)
        texts = [unescape(re.sub(r"<[^>]+>", "", cell)) for cell in cells]
        if any("erreur" in text for text in texts):
            found.append([texts[0], texts[2], texts[3]])
    return found


@dataclass(frozen=True)
class Morning:
    """A stack on the first of a month: `month` is told of, and not before `reachable`."""

    stack: Stack
    mailbox: Mailbox
    month: datetime
    seven: float
    reachable: float
    rules: Path
    text: str

    def set_clock(self, month: datetime, at: float) -> None:
        """Let it be seven in the morning after `month`, for the rules, at the unix time `at`."""
        ahead = round((_after(month) + timedelta(hours=7)).timestamp() - at)
        self.rules.write_text(self.text.replace("time()", f"(time() + {ahead})"))


def _after(month: datetime) -> datetime:
    return (month + timedelta(days=32)).replace(day=1)


@pytest.fixture(scope="module")
def morning(programs: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Morning]:
    mailbox, port = Mailbox(), free_port()
    smtp = Controller(mailbox, hostname="127.0.0.1", port=port)
    smtp.start()
    begin = time.time()
    # Seen by rules that have been loaded anew, and before that for a while not yet true.
    seven = begin + START_DELAY + 10
    reachable = next_minute(seven + 15)
    quiet = "{:%H:%M}-{:%H:%M}".format(
        *(datetime.fromtimestamp(at, PARIS) for at in (begin - 3600, reachable))
    )
    people = f"""
providers: [{{name: p, notify: [{{email: p@example.com}}]}}]
owners:
  - name: marie
    language: fr
    timezone: Europe/Paris
    hears: [report]
    quiet: {{hours: "{quiet}"}}
    notify: [{{email: marie@example.com}}]
  - {{name: paul, timezone: Europe/Paris, notify: [{{email: paul@example.com}}]}}
"""
    folder = tmp_path_factory.mktemp("report")
    host = Host(folder / "host")
    host.start()
    sites = f"sites: [{{name: '{SHOP}', url: '{host.url}/', owner: marie, every: 1s, timeout: 1s}}]"
    stack = Stack(folder / "project", programs, sites, people)
    base = stack.folder / "alertmanager/alertmanager.yml"
    base.write_text(base.read_text().replace("localhost:25", f"127.0.0.1:{port}"))
    page = f"{{owner: marie, token: {TOKEN}}}"
    (stack.folder / "status.yml").write_text(f"url: {stack.exporter_url}\npages: [{page}]\n")
    labels = {"site": SHOP, "owner": "marie", "provider": "p", "instance": f"{host.url}/"}
    lived = Lived(labels, (Outage(2, 1500, "tls"),), watched_days=5)
    seeded = write(stack.settings.data / "prometheus", [lived], programs)
    ((since, _, _),) = lived.down(seeded)
    month = datetime.fromtimestamp(since, PARIS).replace(day=1, hour=0, minute=0, second=0)
    rules = stack.folder / "prometheus/rules/report.yml"
    text = rules.read_text().replace("interval: 1m", "interval: 1s")
    told = Morning(stack, mailbox, month, seven, reachable, rules, text)
    told.set_clock(month, seven)
    try:
        stack.start()
        yield told
    finally:
        stack.stop()
        host.stop()
        smtp.stop()


def test_an_owner_is_told_once_a_month_and_never_in_quiet_hours(morning: Morning) -> None:
    stack, marie = morning.stack, "marie@example.com"
    sleep_until(morning.seven - 3)
    assert stack.query("owner:clock:seconds") and not stack.query("owner:report:incidents")
    until(
        lambda: morning.mailbox.to(marie), "the report", within=morning.reachable - time.time() + 60
    )
    ((at, subject, text),) = morning.mailbox.to(marie)
    assert morning.reachable <= at < morning.reachable + 60
    assert "1 incident" in subject
    link = f"{stack.exporter_url}/status/marie/{TOKEN}/report/{morning.month:%Y-%m}"
    assert text.endswith(link)
    report = requests.get(link, timeout=10)
    assert report.status_code == 200
    assert "25 min" in report.text and "erreur TLS" in report.text
    mailed = morning.mailbox.page_to(marie)
    assert mailed.count("<!doctype html>") == 1 and "<style>" in mailed
    assert f'href="{link}"' in mailed
    assert told_of(mailed) == told_of(report.text) == [[SHOP, "25 min", "erreur TLS"]]

    stack.noted("owner/marie")
    stack.kill("prometheus", "alertmanager", "courier")
    stack.start("alertmanager", "prometheus", "courier")
    following = _after(morning.month)
    until(lambda: stack.query('ALERTS{alertname="ReportReady"}'), "the report again", within=60)
    time.sleep(START_DELAY + SETTLE)
    assert len(morning.mailbox.to(marie)) == 1, "a restart tells nothing twice"

    morning.set_clock(following, time.time() - 3600)
    until(lambda: len(morning.mailbox.to(marie)) > 1, "the report of the next month", within=60)
    time.sleep(SETTLE)
    (_, (_, subject, text)) = morning.mailbox.to(marie)
    assert f"{following:%Y-%m}" in text and f"{morning.month:%Y-%m}" not in text
    assert "0 incident" in subject
    assert not morning.mailbox.to("paul@example.com"), "who did not ask for it hears nothing"


def test_only_the_message_has_the_secret_of_the_link(morning: Morning) -> None:
    stack = morning.stack
    until(lambda: stack.query('ALERTS{alertname="ReportReady"}'), "the report", within=180)
    for url in (
        f"{stack.exporter_url}/metrics",
        f"{stack.exporter_url}/sd",
        f"{stack.exporter_url}/",
        f"{stack.exporter_url}/status.json",
        f"{stack.prometheus_url}/api/v1/alerts",
        f"{stack.prometheus_url}/api/v1/rules",
        f"{stack.prometheus_url}/api/v1/label/__name__/values",
        f"{stack.alertmanager_url}/api/v2/alerts",
        f"{stack.alertmanager_url}/api/v2/status",
        f"{stack.components['courier'].health.removesuffix('/-/healthy')}/metrics",
    ):
        answer = requests.get(url, timeout=10)
        assert answer.status_code == 200, url
        assert TOKEN not in answer.text, url
    compiled = stack.settings.data / "links.tmpl"
    assert TOKEN in compiled.read_text() and compiled.stat().st_mode & 0o077 == 0
