"""Whatever people.yml says, Alertmanager accepts what becomes of it, or the refusal says why."""

import random
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import people
from alertmanagers import ROOT, programs
from dolcevita.alerting.compile import check, compile
from dolcevita.alerting.receivers import KINDS_SINCE, MESSAGES
from dolcevita.config import Config, ConfigError
from dolcevita.config.people import PeopleReader
from services import OTHERS, SMS

BASE = ROOT / "alertmanager/alertmanager.yml"
NOW = datetime(2027, 7, 1, 12, tzinfo=UTC)
OLDEST = "0.25"

BLOCKS: dict[str, dict[str, Any]] = {
    "discord_configs": {"webhook_url": "https://d.example.com/1"},
    "email_configs": {"to": "a@example.com"},
    "incidentio_configs": {"url": "https://i.example.com", "alert_source_token": "t"},
    "jira_configs": {"api_url": "https://j.example.com", "project": "P", "issue_type": "Bug"},
    "mattermost_configs": {"webhook_url": "https://m.example.com/1"},
    "msteams_configs": {"webhook_url": "https://m.example.com/1"},
    "msteamsv2_configs": {"webhook_url": "https://m.example.com/1"},
    "opsgenie_configs": {"api_key": "k"},
    "pagerduty_configs": {"routing_key": "k"},
    "pushover_configs": {"user_key": "u", "token": "t"},
    "rocketchat_configs": {"token": "t", "token_id": "i", "channel": "#c"},
    "slack_configs": {"api_url": "https://s.example.com/1", "channel": "#c"},
    "sns_configs": {"sigv4": {"region": "eu-west-3"}, "phone_number": "+33600000000"},
    "telegram_configs": {"bot_token": "t", "chat_id": 1},
    "victorops_configs": {"api_key": "k", "routing_key": "r"},
    "webex_configs": {
        "room_id": "r",
        "http_config": {"authorization": {"type": "Bearer", "credentials": "c"}},
    },
    "webhook_configs": {"url": "https://w.example.com/"},
    "wechat_configs": {"corp_id": "c", "api_secret": "s"},
}
"""A block of each kind that is complete."""

NAMES = st.text(
    st.characters(exclude_categories=("C", "Zl", "Zp", "Zs"), include_characters=" \"'\\{}/:"),
    min_size=1,
    max_size=30,
).filter(lambda name: name.strip() == name and name)


def config(folder: Path, data: dict[str, Any]) -> Config:
    path = folder / "people.yml"
    path.write_text(yaml.safe_dump(data, allow_unicode=True))
    reader = PeopleReader(path, NOW.date())
    owners, providers = reader.read()
    return Config((), owners, providers, (), reader.watchdog)


def judged(end: str, found: Config) -> None:
    """Compiled, and judged by the amtool of that end. Raises ConfigError with its words."""
    text = compile(found, BASE, ROOT / "alertmanager/templates", "http://127.0.0.1:9715", NOW)
    check(text, programs(end).amtool, found, BASE)


def person(role: str, name: str, channel: dict[str, Any]) -> dict[str, Any]:
    other = "owners" if role == "providers" else "providers"
    return {role: [{"name": name, "notify": [channel]}], other: [{"name": "other"}]}


def is_newer(version: str) -> bool:
    return [int(part) for part in version.split(".")] > [int(part) for part in OLDEST.split(".")]


def test_every_kind_of_receiver_has_a_block_here() -> None:
    assert set(BLOCKS) == set(KINDS_SINCE)
    assert set(MESSAGES) <= set(KINDS_SINCE)


@pytest.mark.parametrize("role", ["providers", "owners"])
@pytest.mark.parametrize("kind", sorted(KINDS_SINCE))
def test_newest_alertmanager_takes_every_kind_of_receiver(
    kind: str, role: str, tmp_path: Path
) -> None:
    judged("newest", config(tmp_path, person(role, "x", {kind: BLOCKS[kind]})))


@pytest.mark.parametrize("kind", sorted(KINDS_SINCE))
def test_oldest_alertmanager_takes_what_it_has_and_the_rest_says_what_it_needs(
    kind: str, tmp_path: Path
) -> None:
    found = config(tmp_path, person("owners", "x", {kind: BLOCKS[kind]}))
    if not is_newer(KINDS_SINCE[kind]):
        judged("oldest", found)
        return
    with pytest.raises(ConfigError) as refused:
        judged("oldest", found)
    [channel] = found.owners[0].notify
    assert str(refused.value) == (
        f"{channel.source}: {kind} needs Alertmanager {KINDS_SINCE[kind]} or later: "
        "update it, or choose another channel"
    )


@pytest.mark.parametrize("url", [*SMS, *OTHERS], ids=lambda url: url.partition(":")[0])
def test_service_behind_apprise_is_accepted_and_its_address_is_in_no_file(
    url: str, tmp_path: Path
) -> None:
    found = config(tmp_path, person("owners", "x", {"apprise": url}))
    text = compile(found, BASE, "templates", "http://127.0.0.1:9715", NOW)
    assert "url: http://127.0.0.1:9715/notify/owner-x-0" in text
    assert url.partition("://")[2] not in text


@pytest.mark.parametrize("end", ["oldest", "newest"])
def test_kind_that_no_alertmanager_has_is_named_with_a_hint(end: str, tmp_path: Path) -> None:
    found = config(tmp_path, person("owners", "x", {"pagerdutty_configs": {"routing_key": "k"}}))
    with pytest.raises(ConfigError) as refused:
        judged(end, found)
    assert "pagerdutty_configs is no receiver of this Alertmanager: " in str(refused.value)
    assert "did you mean 'pagerduty_configs'?" in str(refused.value)


@st.composite
def files(draw: st.DrawFn, kinds: list[str]) -> dict[str, Any]:
    """A people.yml of anything that may stand in one."""
    r = random.Random(draw(st.integers(0, 2**32)))
    channels = st.one_of(
        st.sampled_from(
            [
                {"email": "a{{b}}@example.com"},
                {"webhook": "https://w.example.com/?a={{b}}&c=%20"},
                {"apprise": "json://secret@127.0.0.1/x"},
            ]
        ),
        st.sampled_from(kinds).map(lambda kind: {kind: BLOCKS[kind]}),
    )
    names = draw(st.lists(NAMES, min_size=2, max_size=6, unique=True))
    cut = draw(st.integers(1, len(names) - 1))

    def common(name: str) -> dict[str, Any]:
        return {
            "name": name,
            "language": r.choice(("en", "fr")),
            "timezone": r.choice(people.ZONES),
            "notify": draw(st.lists(channels, max_size=3)),
        }

    providers = [common(name) for name in names[:cut]]
    for provider in providers:
        if r.random() < 0.5:
            provider["working_hours"] = people.working_hours(r, date(2027, 7, 1))
        others = [name for name in names[:cut] if name != provider["name"]]
        if others and r.random() < 0.5:
            provider["escalate"] = {"to": r.choice(others), "after": "30m"}
    owners = [
        {
            **common(name),
            "hears": draw(st.lists(st.sampled_from(
                ["resolved", "down", "overdue", "warnings", "report"]), max_size=5)),
            "quiet": people.quiet(r, date(2027, 7, 1)),
            "overdue_wakes": draw(st.booleans()),
        }
        for name in names[cut:]
    ]  # fmt: skip
    data: dict[str, Any] = {"providers": providers, "owners": owners}
    if draw(st.booleans()):
        data["watchdog"] = "https://hc.example.com/ping/1?x={{y}}"
    return data


@pytest.mark.parametrize("end", ["oldest", "newest"])
def test_alertmanager_accepts_whatever_people_yml_says(end: str) -> None:
    programs(end)  # Skips here where there is none.
    kinds = sorted(k for k, v in KINDS_SINCE.items() if end == "newest" or not is_newer(v))

    @settings(max_examples=25, deadline=None, derandomize=True)
    @given(files(kinds))
    def accepted(data: dict[str, Any]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = config(Path(folder), data)
            except ConfigError as error:
                # Chance may leave an owner no minute of the week.
                assert "found the whole week" in str(error), error
                return
            judged(end, found)

    accepted()
