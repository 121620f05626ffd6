"""Apprise messages: said as elsewhere, delivered or reported, and never twice."""

import asyncio
import json
import logging
import subprocess
import threading
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from alertmanagers import ROOT, Receiver, programs, receiving
from dolcevita.alerting.receivers import Role, apprise_channels
from dolcevita.config import Channel, Config, ConfigError, Provider
from dolcevita.config.people import PeopleReader
from dolcevita.courier import notify
from dolcevita.courier.notify import Deliveries, NotDelivered, UnknownChannel
from waiting import until

MESSAGES = ROOT / "alertmanager/templates"
TIMES = {"startsAt": "2027-07-14T18:31:00.123456789Z", "endsAt": "2027-07-14T19:43:30.5Z"}
SITE = {"severity": "critical", "site": "shop", "owner": "marie", "provider": "infogerance"}
BEGAN = {"began": "14/07 20:31", "began_provider": "14/07 20:31"}


def alert(name: str, status: str, annotations: Mapping[str, str], **labels: str) -> dict[str, Any]:
    return {
        "status": status,
        "labels": {"alertname": name, **labels},
        "annotations": dict(annotations),
        **TIMES,
    }


PAGE = alert("SiteDown", "firing", {**BEGAN, "runbook_url": "https://r"}, **SITE, reason="timeout")
LINKED = {**BEGAN, "runbook_url": "https://r", "evidence_url": "http://127.0.0.1:9714/site/shop"}
FAR = {**LINKED, "evidence_url": f"https://{'far' * 30}/"}
OTHERS = [
    alert("SiteDown", "resolved", {"lasted": "1d 2h"}, **SITE, reason="dns"),
    alert("SiteDown", "resolved", {}, **SITE, reason="gremlins"),
    alert("ServerDown", "firing", BEGAN, severity="critical", host="srv1", provider="infogerance"),
    alert("ServerDown", "resolved", {"lasted": "5m"}, severity="critical", host="srv1"),
    alert("UplinkDown", "firing", {"summary": "The uplink is lost"}, severity="critical"),
    alert("UplinkDown", "resolved", {"summary": "The uplink is lost"}, severity="critical"),
    alert("SiteSlow", "firing", {"summary": "shop is slow"}, **{**SITE, "severity": "warning"}),
    alert("Homemade", "firing", {}, severity="info", site="shop"),
    alert("SiteDown", "firing", LINKED, **SITE, reason="timeout"),
    alert("ServerDown", "firing", FAR, severity="critical", host="srv1"),
]
RESOLVED = alert("IncidentResolved", "firing", {**BEGAN, "lasted": "12m"}, **SITE, reason="tls")
MORE = alert("IncidentResolved", "firing", {"lasted": "1d 2h"}, **{**SITE, "site": "blog"})


def people(folder: Path, receiver: Receiver) -> Config:
    path = folder / "people.yml"
    path.write_text(
        "providers:\n"
        "  - name: infogerance\n"
        "    notify:\n"
        f"      - apprise: json://127.0.0.1:{receiver.port}/provider-secret\n"
        "      - {apprise_file: url}\n"
        "owners: [{name: marie, notify: []}]\n"
    )
    (folder / "url").write_text(f"json://127.0.0.1:{receiver.port}/file-secret\n")
    owners, providers = PeopleReader(path, date(2027, 7, 1)).read()
    return Config((), owners, providers)


def deliver(
    config: Config, name: str, *alerts: Mapping[str, Any], registry: CollectorRegistry | None = None
) -> None:
    deliveries = Deliveries(MESSAGES, registry or CollectorRegistry())
    try:
        asyncio.run(deliveries.deliver(config, name, alerts, "group"))
    finally:
        deliveries.close()


@pytest.mark.parametrize("language", ["en", "fr"])
@pytest.mark.parametrize(
    ("role", "alerts"),
    [
        *(("provider", [one]) for one in (PAGE, *OTHERS)),
        ("provider", [PAGE, OTHERS[0]]),
        ("owner", [RESOLVED]),
        ("owner", [MORE]),
        ("owner", [RESOLVED, MORE]),
        ("owner", [PAGE]),
        ("owner", [OTHERS[2]]),
        ("owner", [OTHERS[6]]),
    ],
)
def test_apprise_says_what_the_other_channels_say(
    tmp_path: Path, language: str, role: Role, alerts: list[dict[str, Any]]
) -> None:
    first = alerts[0]
    shared = len(alerts) == 1
    data = {
        "status": first["status"],
        "alerts": alerts,
        "groupLabels": {},
        "commonLabels": first["labels"] if shared else {"alertname": "IncidentResolved"},
        "commonAnnotations": first["annotations"] if shared else {},
    }
    (tmp_path / "data.json").write_text(json.dumps(data))
    by_alertmanager = subprocess.run(
        [
            programs("newest").amtool,
            *("template", "render", f"--template.glob={MESSAGES}/*.tmpl"),
            f"--template.data={tmp_path}/data.json",
            f'--template.text={{{{ template "dolcevita.{language}.{role}.text" . }}}}',
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    person = Provider("x", language, "UTC", ())
    deliveries = Deliveries(MESSAGES, CollectorRegistry())
    assert deliveries.render(person, role, alerts) == by_alertmanager


def test_message_reaches_the_service(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    with receiving() as receiver:
        deliver(people(tmp_path, receiver), "provider-infogerance-0", PAGE, registry=registry)
        [message] = receiver.at("provider-secret")
    assert message["message"] == "DOWN shop: no answer in time, since 14/07 20:31. https://r"
    labels = {"channel": "provider-infogerance-0"}
    assert registry.get_sample_value("courier_notifications_total", labels) == 1
    assert not registry.get_sample_value("courier_notifications_failed_total", labels)


@pytest.mark.parametrize(
    "url",
    [
        "ntfy://127.0.0.1:{port}/topic",
        "signal://127.0.0.1:{port}/33600000000/33600000001",
    ],
)
def test_service_of_ones_own_takes_the_message_or_is_reported(tmp_path: Path, url: str) -> None:
    with receiving() as receiver:
        config = people(tmp_path, receiver)
        (tmp_path / "url").write_text(url.format(port=receiver.port))
        deliver(config, "provider-infogerance-1", PAGE)
        [(_, body)] = receiver.posts
        assert body["message"].startswith("DOWN shop: no answer in time")
        receiver.answer = lambda path: 503
        with pytest.raises(NotDelivered):
            deliver(config, "provider-infogerance-1", PAGE)


def test_url_may_come_from_a_file(tmp_path: Path) -> None:
    with receiving() as receiver:
        config = people(tmp_path, receiver)
        deliver(config, "provider-infogerance-1", PAGE)
        assert len(receiver.at("file-secret")) == 1
        (tmp_path / "url").unlink()
        with pytest.raises(ConfigError, match="apprise_file"):
            deliver(config, "provider-infogerance-1", PAGE)


@pytest.mark.parametrize("names", [("田中", "鈴木"), ("Zoé", "Zoè"), ("a b", "a-b")])
def test_message_reaches_its_own_person_whatever_letters_names_have(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    with receiving() as receiver:
        channels = [
            Channel("apprise", f"json://127.0.0.1:{receiver.port}/{n}", False, "people.yml:1")
            for n in range(2)
        ]
        providers = tuple(
            Provider(name, "en", "UTC", (channel,))
            for name, channel in zip(names, channels, strict=True)
        )
        [(channel, _)] = apprise_channels(providers[1], "provider")
        deliver(Config((), (), providers), channel, PAGE)
        assert [path for path, _ in receiver.posts] == ["/1"]


def test_unknown_channel_is_refused(tmp_path: Path) -> None:
    with receiving() as receiver, pytest.raises(UnknownChannel, match="provider-nobody-0"):
        deliver(people(tmp_path, receiver), "provider-nobody-0", PAGE)


def test_refusal_of_the_service_is_reported_without_the_url(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    registry = CollectorRegistry()
    with receiving() as receiver:
        receiver.answer = lambda path: 500
        with pytest.raises(NotDelivered) as failed:
            deliver(people(tmp_path, receiver), "provider-infogerance-0", PAGE, registry=registry)
    assert str(failed.value).startswith(f"{tmp_path}/people.yml:4: ")
    assert "secret" not in str(failed.value)
    ours = [record for record in caplog.records if record.name.startswith("dolcevita")]
    assert ours
    assert not any("secret" in record.getMessage() for record in ours)
    labels = {"channel": "provider-infogerance-0"}
    assert registry.get_sample_value("courier_notifications_failed_total", labels) == 1


def test_second_attempt_waits_for_a_slow_first_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notify, "DELIVERY_SECONDS", 0.3)
    go_on = threading.Event()

    async def scenario(config: Config) -> None:
        deliveries = Deliveries(MESSAGES, CollectorRegistry())
        name = "provider-infogerance-0"
        for _ in range(2):
            with pytest.raises(NotDelivered, match="not taken the message yet"):
                await deliveries.deliver(config, name, [PAGE], "group")
        go_on.set()
        await asyncio.to_thread(until, lambda: receiver.posts, "the first attempt")
        await deliveries.deliver(config, name, [PAGE], "group")
        deliveries.close()

    with receiving() as receiver:
        receiver.answer = lambda path: 200 if go_on.wait(10) else 500
        asyncio.run(scenario(people(tmp_path, receiver)))
        assert len(receiver.posts) == 1


def test_same_message_later_is_a_message_again(tmp_path: Path) -> None:
    async def scenario(config: Config) -> None:
        deliveries = Deliveries(MESSAGES, CollectorRegistry())
        for _ in range(2):
            await deliveries.deliver(config, "provider-infogerance-0", [PAGE], "group")
        deliveries.close()

    with receiving() as receiver:
        asyncio.run(scenario(people(tmp_path, receiver)))
        assert len(receiver.posts) == 2


def test_slow_service_holds_up_no_other(tmp_path: Path) -> None:
    go_on = threading.Event()

    async def scenario(config: Config) -> None:
        deliveries = Deliveries(MESSAGES, CollectorRegistry())
        slow = [
            asyncio.create_task(deliveries.deliver(config, "provider-infogerance-0", [PAGE], group))
            for group in range(40)
        ]
        await asyncio.to_thread(until, lambda: waiting, "the slow service is asked")
        await asyncio.wait_for(
            deliveries.deliver(config, "provider-infogerance-1", [PAGE], "group"), 3
        )
        go_on.set()
        await asyncio.gather(*slow)
        deliveries.close()

    waiting: list[str] = []

    def answer(path: str) -> int:
        if "provider" in path:
            waiting.append(path)
            go_on.wait(10)
        return 200

    with receiving() as receiver:
        receiver.answer = answer
        asyncio.run(scenario(people(tmp_path, receiver)))
        assert len(receiver.at("file-secret")) == 1
        assert len(receiver.at("provider-secret")) == 40
