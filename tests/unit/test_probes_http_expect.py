"""What the HTTP prober expects of an answer: versions, headers, texts, expressions, JSON."""

import asyncio
import random
import time

import pytest
from pydantic import ValidationError

from dolcevita.probes import Reason, Result, Target, http, pattern
from dolcevita.probes.http_answer import MOST_KEPT
from dolcevita.probes.http_options import Expect, Options
from webserver import page, probe, raw, run, sample, serving


def answered(answer, options=None, **expect):
    async def scenario():
        async with serving(answer) as port:
            return await probe(f"http://127.0.0.1:{port}/", options=options, **expect)

    return run(scenario())


def test_versions_of_http():
    assert answered(page(), http_version=1.1).success
    assert answered(page(), http_version=["1.1", 2]).success
    result = answered(page(), http_version=2)
    assert result.reason is Reason.PROTOCOL
    assert result.detail.endswith("answers with HTTP/1.1, expected HTTP/2.")


def test_tls_or_none():
    assert answered(page(), tls=False).success
    result = answered(page(), tls=True)
    assert result.reason is Reason.TLS
    assert result.detail.endswith("answers without TLS, expected with.")
    result = answered(page(), tls_version="TLS 1.3")
    assert result.detail.endswith("answers over no TLS, expected TLS 1.3.")


HEADERS = page(Server="nginx/1.22", X_Frame_Options="DENY")


@pytest.mark.parametrize(
    "header",
    [
        {"Server": "nginx"},
        {"server": {"present": True}},
        {"X-None": {"present": False}},
        {"Server": {"contains": ["ngi", "1.22"]}},
        {"X-Frame-Options": {"matches": "^(DENY|SAMEORIGIN)$"}},
        {"Server": {"not_matches": "Apache"}},
        {"X-None": {"matches": "x", "optional": True}},
    ],
)
def test_headers_that_are_as_expected(header):
    assert answered(HEADERS, header=header).success


@pytest.mark.parametrize(
    ("header", "words", "regex"),
    [
        ({"X-None": "x"}, "The header X-None is not sent.", 0),
        ({"X-None": {"present": True}}, "The header X-None is not sent.", 0),
        ({"Server": {"present": False}}, "'nginx/1.22', expected it not to be sent", 0),
        ({"Server": "Apache"}, "expected it to contain 'Apache'", 0),
        ({"Server": {"matches": r"^nginx$"}}, "expected it to match '^nginx$'", 1),
        ({"Server": {"not_matches": r"\d"}}, r"expected it not to match '\d'", 1),
        ({"Server": {"matches": "^x", "optional": True}}, "expected it to match '^x'", 1),
    ],
)
def test_headers_that_are_not(header, words, regex):
    result = answered(HEADERS, header=header)
    assert result.reason is Reason.CONTENT
    assert words in result.detail
    assert sample(result, "probe_failed_due_to_regex") == regex


def test_of_a_header_sent_twice_one_must_fit():
    twice = raw(b"HTTP/1.1 200 OK\r\nX-A: one\r\nX-A: two\r\nContent-Length: 0\r\n\r\n")
    assert answered(twice, header={"X-A": {"matches": "^one$"}}).success
    assert not answered(twice, header={"X-A": {"not_matches": "^two$"}}).success


def test_expressions_over_the_page():
    text = page(b"Order 42 of 100\nthanks")
    assert answered(text, matches=[r"Order \d+", "(?m)^thanks$"], not_matches="sorry").success
    result = answered(text, matches="Order [a-z]")
    assert result.reason is Reason.CONTENT
    assert result.detail == "The page does not match 'Order [a-z]'."
    assert sample(result, "probe_failed_due_to_regex") == 1
    assert answered(text, not_matches="thanks").detail == (
        "The page matches 'thanks' and should not."
    )


def test_expressions_see_the_characters_of_the_pages_encoding():
    latin = page("déjà".encode("latin-1"), Content_Type="text/html; charset=latin-1")
    assert answered(latin, matches="^d.j.$").success
    assert answered(page(b"\xff\xfe", Content_Type="text/html; charset=none"), matches=".").success


def test_a_page_made_for_an_expression_to_run_forever_ends_soon():
    begin = time.monotonic()
    result = answered(page(b"a" * 100_000), matches="(a+)+b")
    assert result.reason is Reason.CONTENT
    assert "does not match" in result.detail
    assert time.monotonic() - begin < 1


def test_an_expression_that_takes_seconds_is_given_up_and_holds_up_nobody(monkeypatch):
    monkeypatch.setattr(pattern, "MOST_SEARCH", 0.1)
    text = "".join(random.Random(1).choices("ab", k=100_000))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.005)
            turns += 1

    async def scenario() -> Result:
        counting = asyncio.create_task(count())
        async with serving(page(text.encode())) as port:
            target = Target(
                f"http://127.0.0.1:{port}/", Options(), Expect(matches="[ab]*a[ab]{900}c")
            )
            result = await http.probe(target, 5.0)
        counting.cancel()
        return result

    result = run(scenario())
    assert result.reason is Reason.CONTENT
    assert "take too long for the page" in result.detail
    assert turns > 3


JSON = page(b'{"status": "ok", "count": 3, "up": true, "jobs": [{"name": "a"}, {"name": "b"}]}')


@pytest.mark.parametrize(
    "paths",
    [
        "$.status",
        ["$.status", "$.jobs[?@.name == 'b']"],
        {"$.status": "ok", "$.count": 3, "$.up": True},
        {"$.jobs[*].name": "b"},
        {"$.jobs[0]": {"name": "a"}},
    ],
)
def test_json_that_is_as_expected(paths):
    assert answered(JSON, json=paths).success


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ("$.missing", "The page has nothing at $.missing."),
        ("$.jobs[?@.name == 'c']", "has nothing at"),
        ({"$.status": "down"}, "The page has 'ok' at $.status, expected 'down'."),
        ({"$.up": 1}, "has True at $.up, expected 1"),
    ],
)
def test_json_that_is_not(paths, words):
    result = answered(JSON, json=paths)
    assert result.reason is Reason.CONTENT
    assert words in result.detail


@pytest.mark.parametrize(
    "body", [b"<html>", b"", b"[" * 100_000, b"\xff\xfe\xfd", b"1" * 5000, b"NaN" * 2]
)
def test_a_page_that_is_no_json(body):
    result = answered(page(body), json="$.a")
    assert result.reason is Reason.CONTENT
    assert "The page is no JSON" in result.detail


def test_json_longer_than_is_read_is_told_and_a_limit_raises_it():
    long = page(b'{"a": "' + b"x" * MOST_KEPT + b'"}')
    assert "longer than the 1,000,000 bytes" in answered(long, json="$.a").detail
    assert answered(long, {"body_limit": "5MB"}, json="$.a").success


@pytest.mark.parametrize(
    ("expect", "words"),
    [
        ({"matches": "["}, "no regular expression"),
        ({"json": "$["}, "no JSONPath"),
        ({"json": {"nonsense[": 1}}, "no JSONPath"),
        ({"http_version": 9}, "'1.1'"),
        ({"tls_version": "1.3"}, "TLS 1.3"),
        ({"header": {"X": {"contain": "a"}}}, "Extra inputs"),
    ],
)
def test_expectations_that_make_no_sense_are_refused(expect, words):
    with pytest.raises(ValidationError, match=words):
        Expect.model_validate(expect)
