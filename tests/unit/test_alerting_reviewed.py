"""The reviewed messages are what is sent: by Alertmanager at both ends, and by the courier."""

import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

import messages
from alertmanagers import programs
from dolcevita.alerting.receivers import Role
from dolcevita.config import Provider
from dolcevita.courier import sms
from dolcevita.courier.notify import Deliveries
from dolcevita.probes import Reason
from messages import FOLDER, LANGUAGES, ROLES
from services import OTHERS, SMS

READ_AGAIN = "read what changed, then run .venv/bin/python tests/unit/messages.py"

EVERYONE = pytest.mark.parametrize(
    ("language", "role"), [(language, role) for language in LANGUAGES for role in ROLES]
)


@pytest.fixture(params=["oldest", "newest"])
def amtool(request: pytest.FixtureRequest) -> Path:
    return programs(request.param).amtool


@EVERYONE
def test_messages_are_those_that_were_read(amtool: Path, language: str, role: str) -> None:
    reviewed = (FOLDER / f"{role}.{language}.txt").read_text()
    assert messages.told(amtool, language, role) == reviewed, READ_AGAIN


@EVERYONE
def test_pages_of_mail_are_those_that_were_read(amtool: Path, language: str, role: str) -> None:
    found = {
        f"{role}.{language}.{name}.html": messages.page(amtool, language, role, case)
        for name, case in messages.pages(role)
    }
    reviewed = {path.name: path.read_text() for path in FOLDER.glob(f"{role}.{language}.*.html")}
    assert found == reviewed, READ_AGAIN


@EVERYONE
def test_every_sms_is_one_sms(language: str, role: str) -> None:
    amtool = programs("newest").amtool
    for case in messages.cases(role):
        [text] = messages.rendered(amtool, language, role, ["sms"], case.alerts)
        assert 0 < len(text) <= sms.LONGEST, case.name
        assert set(text) <= sms.GSM_7, case.name
        assert text == text.strip()


@EVERYONE
def test_sms_of_long_names_and_many_incidents_is_still_one(language: str, role: Role) -> None:
    amtool = programs("newest").amtool
    long = {"site": "s" * 120, "host": "h" * 120, "owner": "o" * 120, "provider": "p" * 120}
    for case in messages.cases(role):
        labels = long if role == "owner" else {key: long[key] for key in ("site", "host")}
        alerts = [
            {
                **alert,
                "labels": {k: labels.get(k, v) for k, v in alert["labels"].items()},
                "annotations": {
                    k: v.replace(messages.SITE["site"], long["site"]) if k == "summary" else v
                    for k, v in alert["annotations"].items()
                },
            }
            for alert in case.alerts * 3
        ]
        for several in (alerts[:1], alerts):
            [text] = messages.rendered(amtool, language, role, ["sms"], several)
            assert len(text) <= sms.LONGEST, (case.name, text)


@EVERYONE
def test_courier_says_the_same(language: str, role: Role) -> None:
    amtool = programs("newest").amtool
    person = Provider("x", language, "UTC", ())
    deliveries = Deliveries(messages.TEMPLATES, CollectorRegistry())
    for case in messages.cases(role):
        for alerts in (case.alerts, case.alerts * 2):
            text, short = messages.rendered(amtool, language, role, ["text", "sms"], alerts)
            assert deliveries.render(person, role, alerts) == text, case.name
            assert deliveries.render(person, role, alerts, short=True) == short, case.name


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_has_words(language: str) -> None:
    amtool = programs("newest").amtool
    for reason in (*Reason, "unknown"):
        name = f'{{{{ template "dolcevita.{language}.reason" "{reason}" }}}}'
        assert _text(amtool, name) not in ("", str(reason))


def test_french_reads_french_of_every_alert() -> None:
    """The summary of a rule is English: that a French text holds it means it has no words."""
    amtool = programs("newest").amtool
    for case in messages.cases("provider"):
        [text] = messages.rendered(amtool, "fr", "provider", ["text"], case.alerts)
        summary = case.alerts[0]["annotations"].get("summary", "")
        assert summary not in text, case.name


@pytest.mark.parametrize(
    ("days", "says"),
    [
        ("6.9", "expire dans 6,9 jours"),
        ("2.0", "expire dans 2,0 jours"),
        ("1.9", "expire dans 1,9 jour"),
        ("0.3", "expire dans 0,3 jour"),
        ("-0.0", "a expiré"),
        ("-3.2", "a expiré"),
    ],
)
def test_french_counts_days_as_french_does(days: str, says: str) -> None:
    case = next(c for c in messages.cases("provider") if c.name == "DomainExpiring info firing")
    [alert] = case.alerts
    alerts = [{**alert, "annotations": {"days": days}}]
    [text] = messages.rendered(programs("newest").amtool, "fr", "provider", ["text"], alerts)
    assert text == f"INFO nom de domaine de {messages.SITE['site']} : {says}"
    deliveries = Deliveries(messages.TEMPLATES, CollectorRegistry())
    assert deliveries.render(Provider("x", "fr", "UTC", ()), "provider", alerts) == text


@pytest.mark.parametrize("language", LANGUAGES)
def test_dead_link_is_no_link(language: str) -> None:
    amtool = programs("newest").amtool
    case = next(
        case for case in messages.cases("provider") if case.name == "SiteDown critical firing"
    )
    assert 'href="docs/' not in messages.page(amtool, language, "provider", case)
    [alert] = case.alerts
    words = {**alert["annotations"], "runbook_url": "https://example.com/r"}
    [html] = messages.rendered(
        amtool, language, "provider", ["html"], [{**alert, "annotations": words}]
    )
    assert '<a href="https://example.com/r">' in html


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.html")), ids=lambda path: path.stem)
def test_page_closes_what_it_opens(path: Path) -> None:
    tags = _Tags()
    tags.feed(path.read_text())
    assert not tags.open


@pytest.mark.parametrize("url", SMS)
def test_service_that_sends_sms_gets_one(url: str) -> None:
    assert sms.is_sms(url)


@pytest.mark.parametrize("url", [*OTHERS, "json://127.0.0.1/", "nonsense://x"])
def test_service_that_sends_something_else_gets_the_whole_text(url: str) -> None:
    assert not sms.is_sms(url)


def test_letters_that_an_sms_cannot_hold_become_like_ones() -> None:
    text = "Forêt, façade, cœur, à bientôt… « l\u2019été » [x] \u4e2d"
    assert sms.fitted(text) == 'Foret, facade, coeur, à bientot... " l\'été " (x) ?'
    assert len(sms.fitted("é" * 500)) == sms.LONGEST


def _text(amtool: Path, template: str) -> str:
    done = subprocess.run(
        [amtool, "template", "render", f"--template.glob={messages.TEMPLATES}/*.tmpl",
         f"--template.text={template}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout
