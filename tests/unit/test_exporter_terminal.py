"""What `dolcevita probe` prints."""

from datetime import UTC, datetime

from rich.console import Console

from dolcevita.exporter.terminal import render
from dolcevita.probes import Phase, Reason, Result
from dolcevita.probes.certificate import Certificate
from webserver import page, probe, run, serving

NOW = datetime(2026, 7, 14, 20, 0, tzinfo=UTC)


def shown(result: Result) -> str:
    console = Console(width=110, record=True, file=None)
    with console.capture() as capture:
        console.print(render("shop", "https://shop.example/", result, NOW))
    return capture.get()


def certificate(subject: str, expires: datetime) -> Certificate:
    names = ("shop.example", "www.shop.example")
    return Certificate(subject, "CN = Some CA", names, "01", expires.timestamp(), "ab")


def test_a_real_probe_shows_its_phases_answer_and_verdict():
    async def scenario():
        async with serving(page()) as port:
            return await probe(f"http://127.0.0.1:{port}/")

    text = shown(run(scenario()))
    for word in ("shop", "resolve", "connect", "processing", "transfer", "HTTP/1.1 200", "FINE"):
        assert word in text


def test_the_certificate_is_shown_with_the_days_left():
    chain = (
        certificate("CN = shop.example", datetime(2026, 8, 1, tzinfo=UTC)),
        certificate("CN = Some CA", datetime(2026, 7, 20, tzinfo=UTC)),
    )
    text = shown(Result(True, "Fine.", certificates=chain))
    assert "CN = shop.example, for shop.example, www.shop.example" in text
    assert "2026-08-01 00:00 UTC, 17 days left" in text
    assert "2026-07-20 00:00 UTC, 5 days left: CN = Some CA" in text


def test_a_failure_shows_reason_sentence_and_where_it_ended():
    phases = (Phase("resolve", 0, 0.1), Phase("connect", 0.1, 4.9, finished=False))
    result = Result(
        False, "It does not answer.", Reason.CONNECT, duration=10.0, attempts=2, phases=phases
    )
    text = shown(result)
    assert "FAILED (connect)  It does not answer.  [10.000 s, 2 attempts]" in text
    assert "4900.0 ms" in text


def test_words_of_a_server_are_not_taken_for_markup():
    text = shown(Result(True, "[red]x[/red] [/]", facts={"answer": "[bold]y"}))
    assert "[red]x[/red] [/]" in text
    assert "[bold]y" in text
