"""One person's channels as one Alertmanager receiver."""

import hashlib
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import apprise

from dolcevita.config import Channel, ConfigError, Person, Problem
from dolcevita.config.problems import nearest

# Apprise's own log lines may hold the secrets of a URL.
logging.getLogger("apprise").disabled = True

Role = Literal["provider", "owner"]

MESSAGES: Mapping[str, Mapping[str, str]] = {
    "discord_configs": {"title": "subject", "message": "text"},
    "email_configs": {"text": "text", "html": "html"},
    "jira_configs": {"summary": "subject", "description": "text"},
    "mattermost_configs": {"text": "text"},
    "msteams_configs": {"title": "subject", "text": "text"},
    "msteamsv2_configs": {"title": "subject", "text": "text"},
    "opsgenie_configs": {"message": "subject", "description": "text"},
    "pagerduty_configs": {"description": "text"},
    "pushover_configs": {"title": "subject", "message": "text"},
    "rocketchat_configs": {"title": "subject", "text": "text"},
    "slack_configs": {"title": "subject", "text": "text", "fallback": "text"},
    "sns_configs": {"subject": "subject", "message": "text"},
    "telegram_configs": {"message": "text"},
    "victorops_configs": {"entity_display_name": "subject", "state_message": "text"},
    "webex_configs": {"message": "text"},
    "wechat_configs": {"message": "text"},
}
"""Which of our templates goes into which text field of a receiver block, where none is given."""


KINDS_SINCE: Mapping[str, str] = {
    **dict.fromkeys(
        "discord_configs email_configs opsgenie_configs pagerduty_configs pushover_configs "
        "slack_configs sns_configs telegram_configs victorops_configs webex_configs "
        "webhook_configs wechat_configs".split(),
        "0.25",
    ),
    "msteams_configs": "0.26",
    "jira_configs": "0.28",
    "msteamsv2_configs": "0.28",
    "rocketchat_configs": "0.28",
    "incidentio_configs": "0.29",
    "mattermost_configs": "0.30",
}
"""The version of Alertmanager that brought each kind of receiver; 0.25 is the oldest supported."""


def receiver(person: Person, role: Role, courier_url: str) -> dict[str, Any]:
    """The receiver `role/name`, as Alertmanager's configuration has it.

    Owners are never sent "resolved": their good news is an alert of its own. Raises ConfigError
    for every channel that Apprise does not know, or whose file cannot be read.
    """
    result: dict[str, Any] = {"name": f"{role}/{person.name}"}
    refused = []
    for index, channel in enumerate(person.notify):
        try:
            kind, block = _block(person, role, index, channel, courier_url)
        except ConfigError as error:
            refused.append(error)
            continue
        block["send_resolved"] = role == "provider" and block.get("send_resolved", True)
        result.setdefault(kind, []).append(block)
    if refused:
        raise ConfigError.all(refused)
    return result


def sign_of_life(name: str, channel: Channel) -> dict[str, Any]:
    """The receiver that tells an outside watcher that alerts get through. Raises ConfigError."""
    return {
        "name": name,
        "webhook_configs": [{"url": _url_of(channel), "send_resolved": False}],
    }


def apprise_channels(person: Person, role: Role) -> Iterator[tuple[str, Channel]]:
    """The courier's name of each Apprise channel, and the channel."""
    for index, channel in enumerate(person.notify):
        if channel.kind == "apprise":
            yield _courier_name(person, role, index), channel


def text_of(channel: Channel) -> str:
    """A short form's text: as it stands, or from its file, relative to people.yml.

    Raises ConfigError when there is no such file or nothing in it.
    """
    if not channel.file:
        return str(channel.value)
    file, _, line = channel.source.rpartition(":")
    path = file_of(channel)
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "is not a text"
        message = f"{channel.kind}_file: {path}: {reason}; create it with the {channel.kind} in it"
        raise ConfigError([Problem(file, int(line), message)], [path]) from None
    if not text:
        message = f"{channel.kind}_file: {path} is empty; put the {channel.kind} into it"
        raise ConfigError([Problem(file, int(line), message)], [path])
    return text


def file_of(channel: Channel) -> Path:
    """The file that holds a channel's text; it is relative to people.yml."""
    return Path(channel.source.rpartition(":")[0]).parent / str(channel.value)


def template(person: Person, role: Role, form: str) -> str:
    """The reference to one of the message templates, as a template text."""
    return f'{{{{ template "dolcevita.{person.language}.{role}.{form}" . }}}}'


def _block(
    person: Person, role: Role, index: int, channel: Channel, courier_url: str
) -> tuple[str, dict[str, Any]]:
    match channel.kind:
        case "webhook":
            return "webhook_configs", {"url": _url_of(channel)}
        case "apprise":
            # The Apprise URL holds the secret and stays with the courier.
            _check_apprise(channel)
            url = f"{courier_url.rstrip('/')}/notify/{_courier_name(person, role, index)}"
            return "webhook_configs", {"url": url}
        case "email":
            to = text_of(channel).replace("{{", '{{"{{"}}')
            return "email_configs", _with_messages(person, role, "email_configs", {"to": to})
        case kind:
            folder = Path(channel.source.rpartition(":")[0]).resolve().parent
            block = _absolute_files(channel.value, folder)
            if kind == "sns_configs" and "phone_number" in block and "message" not in block:
                # An SMS has no subject, and a second one costs as much as the first.
                block = block | {"message": template(person, role, "sms")}
            return kind, _with_messages(person, role, kind, block)


def _url_of(channel: Channel) -> str:
    # Newer Alertmanagers take a URL for a template: braces are written so that none sees one.
    return text_of(channel).replace("{", "%7B").replace("}", "%7D")


def _check_apprise(channel: Channel) -> None:
    """Raises ConfigError for a URL that Apprise cannot send to, without showing it."""
    url = text_of(channel)
    if apprise.Apprise.instantiate(url) is not None:
        return
    known = apprise.NotificationManager().schemas()  # type: ignore[no-untyped-call]
    scheme = url.partition("://")[0].lower()
    if scheme in known:
        message = (
            f"found a '{scheme}://' URL (not shown, it may hold a secret) that Apprise cannot "
            "use: compare it with what the Apprise documentation shows for this service"
        )
    else:
        match = nearest(scheme, known)
        hint = (
            f"did you mean '{match}://'?"
            if match
            else "expected one of the Apprise documentation, such as ntfys://ntfy.example.com/topic"
        )
        message = f"found a URL of a service that Apprise does not know: {hint}"
    file, _, line = channel.source.rpartition(":")
    key, files = ("apprise_file", [file_of(channel)]) if channel.file else ("apprise", [])
    raise ConfigError([Problem(file, int(line), f"{key}: {message}")], files)


def _courier_name(person: Person, role: Role, index: int) -> str:
    """Role, name and number, fit for a path. Names that lose letters in it keep apart by a hash."""
    name = re.sub("[^A-Za-z0-9]", "-", person.name)
    if name != person.name:
        name += f"-{hashlib.sha256(person.name.encode()).hexdigest()[:8]}"
    return f"{role}-{name}-{index}"


def _with_messages(person: Person, role: Role, kind: str, block: dict[str, Any]) -> dict[str, Any]:
    """Fill in our messages, unless the user wrote any part of the message."""
    fields = MESSAGES.get(kind, {})
    if not any(field in block for field in fields):
        block = block | {field: template(person, role, form) for field, form in fields.items()}
    if kind == "email_configs":
        headers = block.get("headers") or {}
        if not any(str(header).lower() == "subject" for header in headers):
            block["headers"] = {**headers, "Subject": template(person, role, "subject")}
    return block


def _absolute_files(value: Any, folder: Path) -> Any:
    """A `..._file` of a raw block is relative to people.yml, not to the compiled file."""
    if isinstance(value, list):
        return [_absolute_files(item, folder) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: str(folder / item)
        if key.endswith("_file") and isinstance(item, str)
        else _absolute_files(item, folder)
        for key, item in value.items()
    }
