"""Mail as it arrives: subject, text and HTML, in the reader's language."""

from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from alertmanagers import ROOT, Running, alert, alertmanager, programs
from dolcevita.alerting.compile import compile, write
from dolcevita.config import Config
from dolcevita.config.people import PeopleReader
from waiting import free_port, until


class Mailbox:
    """Keeps every message that the SMTP server takes."""

    def __init__(self) -> None:
        self.messages: list[EmailMessage] = []

    async def handle_DATA(self, server: object, session: object, envelope: Any) -> str:
        message = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(message, EmailMessage)
        self.messages.append(message)
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[tuple[Mailbox, int]]:
    box, port = Mailbox(), free_port()
    server = Controller(box, hostname="127.0.0.1", port=port)
    server.start()
    yield box, port
    server.stop()


@pytest.fixture(params=["oldest", "newest"])
def running(
    request: pytest.FixtureRequest, mailbox: tuple[Mailbox, int], tmp_path: Path
) -> Iterator[Running]:
    found = programs(request.param)
    people = tmp_path / "people.yml"
    people.write_text(
        "providers: [{name: infogerance, notify: [{email: oncall@example.com}]}]\n"
        "owners: [{name: marie, language: fr, notify: [{email: marie@example.com}]}]\n"
    )
    base = tmp_path / "alertmanager.yml"
    text = (ROOT / "alertmanager/alertmanager.yml").read_text()
    base.write_text(text.replace("localhost:25", f"127.0.0.1:{mailbox[1]}"))
    owners, providers = PeopleReader(people, datetime.now(UTC).date()).read()
    templates = ROOT / "alertmanager/templates"
    config, now = Config((), owners, providers), datetime.now(UTC)
    compiled = tmp_path / "compiled.yml"
    write(compiled, compile(config, base, templates, "http://127.0.0.1:9", now))
    with alertmanager(found, compiled, tmp_path) as process:
        yield process


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    content: str = body.get_content()
    return content.strip()


def test_digest_arrives_by_mail_in_the_owners_language(
    running: Running, mailbox: tuple[Mailbox, int]
) -> None:
    both = [alert("IncidentResolved", site=s, owner="marie", digest="1") for s in ("blog", "shop")]
    for incident in both:
        incident["labels"]["reason"] = "timeout"
        incident["annotations"] = {"began": "14/07 20:31", "lasted": "12m 30s"}
    running.post(*both)
    [message] = until(lambda: mailbox[0].messages, "the mail")
    assert message["To"] == "marie@example.com"
    assert message["Subject"] == "2 incidents, tous réparés"
    assert part(message, "plain").splitlines() == [
        "2 incidents, tous réparés, rien à faire :",
        "- blog, le 14/07 20:31, 12m 30s (délai dépassé)",
        "- shop, le 14/07 20:31, 12m 30s (délai dépassé)",
    ]
    assert "<li>blog, le 14/07 20:31, 12m 30s (délai dépassé)</li>" in part(message, "html")


def test_page_arrives_by_mail(running: Running, mailbox: tuple[Mailbox, int]) -> None:
    page = alert("SiteDown", site="shop", owner="marie", reason="dns")
    page["annotations"] = {"began_provider": "14/07 20:31", "runbook_url": "https://example.com/r"}
    running.post(page)
    [message] = until(lambda: mailbox[0].messages, "the mail")
    assert message["To"] == "oncall@example.com"
    assert message["Subject"] == "DOWN shop"
    expected = "DOWN shop: name not found, since 14/07 20:31. https://example.com/r"
    assert part(message, "plain") == expected
    assert '<a href="https://example.com/r">' in part(message, "html")
