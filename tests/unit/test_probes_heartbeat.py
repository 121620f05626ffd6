"""Heartbeats: jobs call the exporter's /ping/TOKEN, and the metrics say when."""

import time

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from prometheus_client.parser import text_string_to_metric_families as parse

from dolcevita.config import ConfigError, load
from dolcevita.exporter.app import Exporter
from dolcevita.exporter.live import Live
from dolcevita.probes import KINDS, Expectations, Reason, Target, attempts, heartbeat
from sites import files
from webserver import has, run, sample

TestServer.__test__ = False

TOKEN = "a-token-that-no-test-shares-"


def options(token: str, **more) -> heartbeat.Options:
    return heartbeat.Options.model_validate({"period": "1h", "token": TOKEN + token, **more})


def probe(given: heartbeat.Options):
    target = Target("heartbeat://backup", given, Expectations())
    return run(attempts.probe(heartbeat.KIND, target, 5.0))


def test_nothing_is_known_before_the_first_ping():
    result = probe(options("silent"))
    assert not result.known and result.reason is None
    assert sample(result, "heartbeat_period_seconds") == 3600
    assert sample(result, "heartbeat_grace_seconds") == 300
    assert not has(result, "heartbeat_last_ping_timestamp_seconds")


def test_a_ping_is_good_for_period_and_grace_and_missed_after_them():
    given = options("brief", period="200ms", grace="200ms")
    assert heartbeat.ping([given], TOKEN + "brief")
    at = time.time()
    fine = probe(given)
    assert fine.known and fine.success
    assert sample(fine, "heartbeat_last_ping_timestamp_seconds") == pytest.approx(at, abs=0.1)
    while (result := probe(given)).success:
        assert time.time() < at + 5
    assert time.time() - at == pytest.approx(0.4, abs=0.2)
    assert result.reason is Reason.MISSED
    assert result.attempts == 1, "asking again at once tells the same"


def test_the_token_may_be_in_a_file_that_changes(tmp_path):
    file = tmp_path / "token"
    file.write_text(TOKEN + "in-a-file\n")
    given = heartbeat.Options.model_validate({"period": "1h", "token_file": str(file)})
    assert heartbeat.ping([given], TOKEN + "in-a-file")
    assert probe(given).known
    file.write_text(TOKEN + "rotated")
    assert not heartbeat.ping([given], TOKEN + "in-a-file")
    assert heartbeat.ping([given], TOKEN + "rotated")
    file.unlink()
    assert not heartbeat.ping([given], "")


def test_a_job_calls_the_exporter_and_prometheus_reads_when(tmp_path):
    sites = f"""
    sites:
    - {{name: backup, url: "heartbeat://backup", heartbeat: {{period: 1d, token: {TOKEN}http}}}}
    - {{name: cron, url: "heartbeat://", heartbeat: {{period: 1d, token: {TOKEN}other}}}}
    """

    async def scenario():
        exporter = Exporter(Live(*files(tmp_path, sites)))
        async with (
            TestServer(exporter.app()) as server,
            ClientSession(base_url=server.make_url("/")) as session,
        ):
            before = await metrics(session)
            answers = [
                (await session.request(method, f"/ping/{path}")).status
                for method, path in [
                    ("GET", f"{TOKEN}http"),
                    ("POST", f"{TOKEN}http"),
                    ("HEAD", f"{TOKEN}http"),
                    ("GET", f"{TOKEN}wrong"),
                    ("GET", f"{TOKEN}htt"),
                    ("GET", "%C3%A9"),
                    ("PUT", f"{TOKEN}http"),
                ]
            ]
            return before, answers, await metrics(session)

    async def metrics(session):
        (group,) = await (await session.get("/sd")).json()
        batch = group["labels"]["__param_batch"]
        text = await (await session.get("/probe", params={"batch": batch})).text()
        assert TOKEN not in text
        return {(s.name, s.labels["site"]): s.value for f in parse(text) for s in f.samples}

    before, answers, after = run(scenario())
    assert answers == [200, 200, 200, 404, 404, 404, 405]
    assert before["heartbeat_period_seconds", "backup"] == 86400
    assert ("probe_success", "backup") not in before
    assert after["probe_success", "backup"] == 1
    assert after["heartbeat_last_ping_timestamp_seconds", "backup"] == pytest.approx(
        time.time(), abs=5
    )
    assert ("probe_success", "cron") not in after
    assert ("heartbeat_last_ping_timestamp_seconds", "cron") not in after


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("{token: 0123456789abcdef}", "'period' is missing: add it"),
        ("{period: 1d}", "found both or neither of token and token_file"),
        ("{period: 1d, token: short}", "found 5 characters, expected a token of 16 to 128"),
        ("{period: 1d, token: has/a/slash/in/the/middle}", "found 25 characters, expected a token"),
        ("{period: 1d, token: 1234567890123456}", "token: found no text, expected a token"),
        ("{period: 1d, token_file: /does/not/exist}", "which cannot be read (No such file"),
        ("{period: 60d, token: 0123456789abcdef}", "a period and grace of 60d5m together"),
    ],
)
def test_what_does_not_load_says_why_and_shows_no_token(tmp_path, given, words):
    sites = f"sites: [{{name: backup, url: 'heartbeat://backup', heartbeat: {given}}}]"
    with pytest.raises(ConfigError) as error:
        load(*files(tmp_path, sites), KINDS)
    assert words in str(error.value)
    assert not any(token in str(error.value) for token in ("slash", "123456789", "short,"))
