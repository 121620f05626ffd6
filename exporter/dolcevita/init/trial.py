"""Tries once what was answered: a probe of each site, a test message through each channel."""

import smtplib
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import yaml

from dolcevita.config import Channel, Config, Person
from dolcevita.courier.notify import send
from dolcevita.words import words

SECONDS = 10.0


def message(config: Config, person: Person) -> str:
    """The text of a test, in the person's language."""
    return words(person.language)("init_test", sites=", ".join(site.name for site in config.sites))


def deliver(channel: Channel, text: str, base: Path) -> str:
    """Send a test through a channel; '' when it was taken, else why not.

    `base` is alertmanager.yml, which says where mail leaves.
    """
    try:
        match channel.kind:
            case "webhook":
                return _webhook(str(channel.value), text)
            case "email":
                return _mail(str(channel.value), text, base)
            case _:
                taken = send(str(channel.value), text)
                return "" if taken else "the service behind it does not take the message"
    except (OSError, smtplib.SMTPException, ValueError, yaml.YAMLError) as error:
        return str(error) or type(error).__name__


def _webhook(url: str, text: str) -> str:
    """In the shape that Alertmanager gives it ("webhook_config", Alertmanager configuration)."""
    labels = {"alertname": "Test", "severity": "none", "drill": "true"}
    alert = {
        "status": "firing",
        "labels": labels,
        "annotations": {"summary": text},
        "startsAt": datetime.now(UTC).isoformat(),
        "endsAt": "0001-01-01T00:00:00Z",
    }
    body = {
        "version": "4",
        "status": "firing",
        "receiver": "dolcevita/init",
        "groupLabels": labels,
        "commonLabels": labels,
        "commonAnnotations": alert["annotations"],
        "alerts": [alert],
    }
    try:
        answer = requests.post(url, json=body, timeout=SECONDS)
    except requests.RequestException:
        # Its text would show the address, which may be a secret.
        return f"{urlsplit(url).hostname} does not answer"
    return "" if answer.ok else f"it answers with status {answer.status_code}"


def _mail(to: str, text: str, base: Path) -> str:
    """Through the server that Alertmanager uses."""
    common: Mapping[str, Any] = yaml.safe_load(base.read_text()).get("global") or {}
    smarthost = str(common.get("smtp_smarthost", "localhost:25"))
    host, _, port = smarthost.rpartition(":")
    mail = EmailMessage()
    mail["From"] = str(common.get("smtp_from", "dolcevita@localhost"))
    mail["To"] = to
    mail["Subject"] = text.partition(":")[0] + ": test"
    mail.set_content(text)
    where = f"the mail server {smarthost} (smtp_smarthost of {base})"
    try:
        with _server(host, int(port)) as server:
            if common.get("smtp_require_tls", True) and port != "465":
                server.starttls(context=ssl.create_default_context())
            if user := common.get("smtp_auth_username"):
                server.login(str(user), _password(common, base))
            server.send_message(mail)
    except smtplib.SMTPException as error:
        return f"{where} refuses it: {error}"
    except OSError as error:
        return f"{where} does not answer: {error.strerror or error}"
    return ""


def _server(host: str, port: int) -> smtplib.SMTP:
    if port == 465:
        return smtplib.SMTP_SSL(host, port, timeout=SECONDS, context=ssl.create_default_context())
    return smtplib.SMTP(host, port, timeout=SECONDS)


def _password(common: Mapping[str, Any], base: Path) -> str:
    if file := common.get("smtp_auth_password_file"):
        return (base.parent / str(file)).read_text().strip()
    return str(common.get("smtp_auth_password", ""))
