"""CEL over a page of JSON: what it finds, and what a page cannot do with it."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from dolcevita.probes import Reason, Result, Target, cel, http
from dolcevita.probes.http_answer import MOST_KEPT
from dolcevita.probes.http_options import Expect, Options
from waiting import until
from webserver import has, page, probe, run, sample, serving

JSON = page(b'{"status": "ok", "queue": 3, "jobs": [{"name": "mail", "up": true}]}')


def answered(answer, options=None, **expect):
    async def scenario():
        try:
            async with serving(answer) as port:
                return await probe(f"http://127.0.0.1:{port}/", options=options, **expect)
        finally:
            await cel.close()

    return run(scenario())


def test_a_page_of_which_the_expressions_are_true():
    result = answered(
        JSON, cel=["body.queue < 10", "body.jobs.exists(job, job.name == 'mail' && job.up)"]
    )
    assert result.success
    assert sample(result, "probe_failed_due_to_cel") == 0


@pytest.mark.parametrize(
    ("expression", "given"),
    [
        ("body.queue > 10", "false"),
        ("body.queues > 10", 'NOT_FOUND: Key not found in map : "queues"'),
        ("body.queue", "3.0"),
        ("body.status\n  == 'down'", "false"),
    ],
)
def test_the_first_that_is_not_true_is_told(expression, given):
    result = answered(JSON, cel=["body.status == 'ok'", expression, "false"])
    assert result.reason is Reason.CONTENT
    told = " ".join(expression.split())
    assert result.detail == f"For the page '{told}' gives {given}, expected true."
    assert sample(result, "probe_failed_due_to_cel") == 1
    assert sample(result, "probe_failed_due_to_regex") == 0


def test_without_an_expression_there_is_no_such_metric():
    assert not has(answered(JSON), "probe_failed_due_to_cel")


@pytest.mark.parametrize("body", [b"<html>", b"", b"[" * 100_000, b'{"n": NaN}', b'{"n": 1e999}'])
def test_a_page_that_is_no_json(body):
    result = answered(page(body), cel="true")
    assert result.reason is Reason.CONTENT
    assert result.detail.startswith("The page is no JSON: ")


def test_a_page_longer_than_is_read_is_told_and_a_limit_raises_it():
    rows = [{"name": "x" * 20, "tags": ["a", "b"], "up": True}] * 40_000
    long = page(json.dumps({"rows": rows}).encode())
    expression = "size(body.rows) == 40000 && body.rows[39999].up"
    assert f"longer than the {MOST_KEPT:,} bytes" in answered(long, cel=expression).detail
    assert answered(long, {"body_limit": "5MB"}, cel=expression).success


@pytest.mark.parametrize(
    ("expression", "document"),
    [
        ("body.l.exists(x, body.l.exists(y, x != y))", {"l": [0] * 9000}),
        ("body.l.all(x, x in body.l)", {"l": list(range(9999))}),
        ("body.l.map(x, body.s + 'y').size() == 0", {"l": [0] * 9000, "s": "x" * 900_000}),
    ],
    ids=["rounds", "computing", "memory"],
)
def test_a_page_made_for_an_expression_to_run_forever_ends_soon_and_holds_up_nobody(
    expression, document
):
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - before)

    async def scenario() -> Result:
        watching = asyncio.create_task(watch())
        try:
            async with serving(page(json.dumps(document).encode())) as port:
                target = Target(f"http://127.0.0.1:{port}/", Options(), Expect(cel=expression))
                return await http.probe(target, 20.0)
        finally:
            watching.cancel()
            await cel.close()

    begin = cel_children_cpu()
    result = run(scenario())
    assert result.reason is Reason.CONTENT
    assert "takes too much time or memory" in result.detail
    assert cel_children_cpu() - begin < 3
    assert longest < 2


def cel_children_cpu() -> float:
    """Seconds of processes that ended, theirs as well."""
    times = os.times()
    return times.children_user + times.children_system


def test_a_process_that_was_killed_is_started_again():
    async def scenario() -> None:
        try:
            assert await cel.wrong(["body == 1"], b"1") is None
            (evaluator,) = cel._running
            evaluator.process.kill()
            evaluator.process.wait()
            assert await cel.wrong(["body == 1"], b"2") == ("body == 1", "false")
        finally:
            await cel.close()

    run(scenario())


ALONE = """
import asyncio, sys, time
from dolcevita import cli
from dolcevita.probes import cel
assert "cel_expr_python" not in sys.modules and not cel._running
asyncio.run(cel.wrong(["body"], b"true"))
print(cel._running[0].process.pid, flush=True)
time.sleep(60)
"""


def test_nothing_runs_without_an_expression_and_nothing_is_left_behind():
    with subprocess.Popen([sys.executable, "-c", ALONE], stdout=subprocess.PIPE) as exporter:
        assert exporter.stdout
        evaluator = Path(f"/proc/{int(exporter.stdout.readline())}")
        assert evaluator.exists()
        exporter.send_signal(signal.SIGKILL)
        until(lambda: not _lives(evaluator), "the process ends with the exporter")


def _lives(process: Path) -> bool:
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("body.a +", "which is no CEL: 1:9: Syntax error: mismatched input '<EOF>'"),
        ("answer.a == 1", "which is no CEL: 1:7: undeclared reference to 'answer.a'"),
        ("size(body)", "which gives int: expected true or false"),
        ("'ok'", "which gives string: expected true or false"),
    ],
)
def test_an_expression_that_makes_no_sense_is_refused(expression, words):
    with pytest.raises(ValidationError) as error:
        Expect.model_validate({"cel": expression})
    assert words in str(error.value)
