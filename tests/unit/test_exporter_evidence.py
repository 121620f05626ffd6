"""/site/NAME: what was seen of each failure, for whoever must fix it."""

import json
import tracemalloc
from dataclasses import replace

import pytest

from dolcevita.exporter.failures import MOST, OVERHEAD, Failures
from dolcevita.probes import Phase, Reason, Result
from dolcevita.probes.evidence import Evidence
from test_exporter_app import exporting
from webserver import page, run, serving

FAILED = Result(
    success=False,
    reason=Reason.STATUS,
    detail="https://shop.example answers with 503, expected 2xx.",
    phases=(Phase("resolve", 0.0, 0.01), Phase("connect", 0.01, 0.02, finished=False)),
    facts={"redirects": "http://a/?token=hunter22 -> http://b/"},
    evidence=Evidence(("192.0.2.1",), "192.0.2.1", "HTTP/2 503", (("server", "nginx"),), "Oh no"),
)


def other(number: int) -> Result:
    return replace(FAILED, detail=f"Failure {number}.")


# ---- Kept ------------------------------------------------------------------------------------


def test_failures_are_told_the_newest_first_with_what_was_seen():
    failures = Failures()
    failures.add("shop", FAILED, 100.0)
    failures.add("shop", other(2), 115.0)
    newest, oldest = failures.of("shop")
    assert newest["detail"] == "Failure 2."
    assert (oldest["first"], oldest["last"], oldest["times"]) == (100.0, 100.0, 1)
    assert oldest["reason"] == "status"
    assert oldest["phases"][1]["name"] == "connect" and not oldest["phases"][1]["finished"]
    assert oldest["addresses"] == ["192.0.2.1"]
    assert oldest["headers"] == [["server", "nginx"]]
    assert oldest["body"] == "Oh no"
    assert failures.of("other") == []


def test_the_same_failure_again_is_one_with_its_newest_evidence():
    failures = Failures()
    for at in (100.0, 115.0, 130.0):
        seen = FAILED.evidence._replace(body=f"at {at}")
        failures.add("shop", replace(FAILED, evidence=seen), at)
    (kept,) = failures.of("shop")
    assert (kept["first"], kept["last"], kept["times"]) == (100.0, 130.0, 3)
    assert kept["body"] == "at 130.0"


def test_the_oldest_failures_of_a_site_go():
    failures = Failures()
    for number in range(3 * MOST):
        failures.add("shop", other(number), float(number))
    details = [kept["detail"] for kept in failures.of("shop")]
    assert details == [f"Failure {number}." for number in reversed(range(2 * MOST, 3 * MOST))]


def test_all_sites_together_stay_within_their_bytes():
    failures = Failures(most_bytes=200_000)
    large = replace(FAILED, evidence=Evidence(body="x" * 2048))
    tracemalloc.start()
    for number in range(3000):
        failures.add(f"site {number}", large, float(number))
        failures.add("flapping", replace(large, detail=f"{number}"), float(number))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 100_000 < failures.bytes <= 200_000
    assert held < 500_000
    assert not failures.of("site 0") and failures.of("site 2999")
    assert len(failures.of("flapping")) == MOST


def test_one_failure_is_bounded_whatever_the_server_sends():
    vast = replace(
        FAILED,
        detail="x" * 10**6,
        phases=FAILED.phases * 10**4,
        facts={f"fact {n}": "x" * 10**5 for n in range(200)},
    )
    failures = Failures()
    failures.add("shop", vast, 1.0)
    assert failures.bytes < 80_000 + OVERHEAD


def test_facts_hold_no_secret():
    failures = Failures()
    failures.add("shop", FAILED, 1.0)
    assert failures.of("shop")[0]["facts"]["redirects"] == "http://a/?token=*** -> http://b/"


# ---- Shown -----------------------------------------------------------------------------------

BODY = b"<script>alert(1)</script> the database is down, DB_PASSWORD=hunter22"


async def failing(tmp_path, ask, **options):
    """What `ask` gives of an exporter that has seen the site 'the shop/1' fail."""
    async with serving(page(BODY, status=503, Server="nginx")) as port:
        url = f"http://127.0.0.1:{port}/"
        sites = f"sites: [{{name: the shop/1, url: '{url}'}}, 'http://fine.example']"
        async with exporting(tmp_path, sites, **options) as (session, exporter):
            await (await session.get("/probe", params={"site": "the shop/1"})).text()
            return await ask(session, exporter)


def test_the_page_shows_it_as_text(tmp_path):
    async def ask(session, _):
        response = await session.get("/site/the%20shop%2F1", headers={"Accept": "text/html"})
        return response.status, response.content_type, response.headers, await response.text()

    status, content_type, headers, text = run(failing(tmp_path, ask))
    assert (status, content_type) == (200, "text/html")
    assert headers["Cache-Control"] == "no-store"
    assert "HTTP/1.1 503" in text and "server: nginx" in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; the database is down" in text
    assert "<script>" not in text and "hunter22" not in text
    assert "127.0.0.1" in text and "ms" in text


def test_the_page_shows_what_a_browser_showed(tmp_path):
    picture = tmp_path / "shop.png"
    picture.write_bytes(b"\x89PNG")

    async def ask(session, exporter):
        without = await session.get("/site/the%20shop%2F1?format=png")
        shown = replace(FAILED, facts={"screenshot": str(picture)})
        exporter.prober.failures.add("the shop/1", shown, 200.0)
        exporter.prober.failures.add("the shop/1", other(2), 300.0)
        response = await session.get("/site/the%20shop%2F1?format=png")
        text = await (await session.get("/site/the%20shop%2F1")).text()
        picture.unlink()
        gone = await session.get("/site/the%20shop%2F1?format=png")
        return without.status, response.content_type, await response.read(), text, gone.status

    without, content_type, read, text, gone = run(failing(tmp_path, ask))
    assert (without, gone) == (404, 404)
    assert (content_type, read) == ("image/png", b"\x89PNG")
    assert '<img src="?format=png"' in text


@pytest.mark.parametrize(
    ("query", "accept"), [("?format=json", "text/html"), ("", "application/json")]
)
def test_the_same_as_json(tmp_path, query, accept):
    async def ask(session, _):
        response = await session.get(f"/site/the%20shop%2F1{query}", headers={"Accept": accept})
        return await response.json()

    found = run(failing(tmp_path, ask))
    assert found["site"] == "the shop/1" and found["provider"] == "hosting"
    assert found["now"]["success"] is False and found["now"]["reason"] == "status"
    (failure,) = found["failures"]
    assert failure["answer"] == "HTTP/1.1 503"
    assert failure["attempts"] == 2
    assert [phase["name"] for phase in failure["phases"]][:2] == ["resolve", "connect"]
    assert "hunter22" not in json.dumps(found)


def test_a_site_that_never_failed_has_a_page_that_says_so(tmp_path):
    async def ask(session, _):
        return await (await session.get("/site/fine.example")).text()

    assert "No failure is remembered" in run(failing(tmp_path, ask))


def test_a_site_that_is_not_watched_is_not_there(tmp_path):
    async def ask(session, _):
        response = await session.get("/site/the%20shop")
        return response.status, await response.text()

    status, text = run(failing(tmp_path, ask))
    assert status == 404
    assert text == "No site is named 'the shop': did you mean 'the shop/1'?\n"


def test_the_last_result_for_the_status_page_holds_no_evidence_twice(tmp_path):
    async def ask(_, exporter):
        return exporter.prober.last["the shop/1"].result

    assert run(failing(tmp_path, ask)).evidence is None


def test_the_metrics_tell_the_address_of_each_page(tmp_path):
    async def ask(session, _):
        return await (await session.get("/metrics")).text()

    text = run(failing(tmp_path, ask, external_url="https://monitor.example.com/"))
    assert 'url="https://monitor.example.com/site/the%20shop%2F1"' in text
    assert 'url="https://monitor.example.com/site/fine.example"' in text
