"""What was seen of a failure is kept for whoever must fix it, and no secret with it."""

import time
from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolcevita.probes import KINDS, Reason, evidence
from dolcevita.probes.evidence import gather, masked
from peers import attempt, says, self_signed, talking
from webserver import page, probe, run, serving


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("DB_PASSWORD=hunter22 DEBUG=1", "DB_PASSWORD=*** DEBUG=1"),
        ('{"api_key": "hunter22", "id": 7}', '{"api_key": ***, "id": 7}'),
        ("'SECRET_KEY': 'hunter22',", "'SECRET_KEY': ***,"),
        ("&#x27;token&#x27;: &#x27;hunter22&#x27;, x", "&#x27;token&#x27;: ***, x"),
        ("[db_pass] => hunter22\n[db] => shop", "[db_pass] => ***\n[db] => shop"),
        (
            '<tr><td class="e">MAIL_PASSWORD</td><td class="v">hunter22</td>',
            '<tr><td class="e">MAIL_PASSWORD</td><td class="v">***</td>',
        ),
        (
            '<input type="hidden" name="csrf_token" value="hunter22">',
            '<input type="hidden" name="csrf_token" value=***>',
        ),
        ("Authorization: Bearer hunter22hunter22", "Authorization: *** ***"),
        ("sent Basic aHVudGVyMjI=", "sent Basic ***"),
        ("postgres://shop:hunter22@db/shop is gone", "postgres://***@db/shop is gone"),
        ("got eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbg here", "got *** here"),
        ("/login?next=/&sid=hunter22&a=b", "/login?next=/&sid=***&a=b"),
        (
            "-----BEGIN RSA PRIVATE KEY-----\nMIIhunter22\n-----END RSA PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----",
        ),
    ],
)
def test_what_looks_like_a_secret_is_masked(text, told):
    assert masked(text) == told


@pytest.mark.parametrize(
    "text",
    [
        "author: Marie",
        "inside: all well",
        "The tests passed: 12",
        "Error 503: upstream connect error or disconnect/reset before headers",
        '<p class="message">Compass and passage: closed</p>',
    ],
)
def test_what_is_no_secret_stays(text):
    assert masked(text) == text


SECRET = 'p&ss "wörd"/1'


@pytest.mark.parametrize(
    "sent",
    [
        SECRET,
        "p%26ss%20%22w%C3%B6rd%22%2F1",
        "p%26ss+%22w%C3%B6rd%22%2F1",
        "p&amp;ss &quot;wörd&quot;/1",
        'p&ss \\"w\\u00f6rd\\"/1',
        "cCZzcyAid8O2cmQiLzE=",
    ],
)
def test_a_secret_that_was_sent_is_masked_in_whatever_form_it_comes_back(sent):
    body = f"You said {sent}.".encode()
    seen = gather(secrets=[SECRET], headers=[("x-you-said", sent)], body=body)
    assert seen.body == "You said ***."
    assert seen.headers == (("x-you-said", "***"),)


def test_a_secret_at_the_cut_leaves_no_part_of_itself():
    body = b"x" * (evidence.MOST_BODY - 4) + b"hunter22hunter22"
    seen = gather(secrets=["hunter22hunter22"], body=body)
    assert len(seen.body) <= evidence.MOST_BODY
    assert "hunt" not in seen.body


def test_headers_that_are_secrets_by_their_name_are_masked():
    headers = [
        ("set-cookie", "sid=hunter22; Path=/; HttpOnly"),
        ("x-auth-token", "hunter22"),
        ("www-authenticate", 'Basic realm="shop"'),
        ("access-control-allow-credentials", "true"),
    ]
    assert gather(headers=headers).headers == (
        ("set-cookie", "sid=***; Path=/; HttpOnly"),
        ("x-auth-token", "***"),
        ("www-authenticate", 'Basic realm="shop"'),
        ("access-control-allow-credentials", "true"),
    )


def test_evidence_is_bounded_and_can_be_shown():
    seen = gather(
        addresses=["192.0.2.1"] * 10_000,
        headers=[("x" * 10_000, "y" * 10_000)] * 10_000,
        body=b"\x00\xff\x1b[2J" * 100_000,
        charset="no-such-charset",
    )
    assert len(str(seen)) < 60_000
    assert seen.body.startswith(".�.[2J")


@pytest.mark.parametrize("unit", ["pass", "token-", "password=", "name=token ", "&quot;", "<td>"])
def test_no_text_takes_long_to_mask(unit):
    text = unit * (evidence.MOST_SEEN // len(unit))
    begin = time.process_time()
    masked(text)
    assert time.process_time() - begin < 0.1


@given(st.text(min_size=4, max_size=20), st.text(max_size=40), st.text(max_size=40))
def test_no_secret_comes_through(secret, before, after):
    seen = gather(secrets=[secret], body=f"{before}{secret}{after}".encode("utf-8", "replace"))
    assert secret not in seen.body or secret in evidence.MASK * 3


# ---- Of each kind ----------------------------------------------------------------------------


def test_a_failed_page_leaves_its_address_answer_headers_and_the_begin_of_its_body():
    async def scenario():
        body = b"<h1>Database is down</h1>" + b"." * 10_000
        async with serving(page(body, status=503, Retry_After="30")) as port:
            return await probe(f"http://127.0.0.1:{port}/")

    seen = run(scenario()).evidence
    assert seen.addresses == ("127.0.0.1",) and seen.address == "127.0.0.1"
    assert seen.answer == "HTTP/1.1 503"
    assert ("retry-after", "30") in seen.headers
    assert seen.body.startswith("<h1>Database is down</h1>")
    assert len(seen.body) == evidence.MOST_BODY


def test_a_success_leaves_none():
    async def scenario():
        async with serving(page()) as port:
            return await probe(f"http://127.0.0.1:{port}/")

    assert run(scenario()).evidence is None


def test_a_page_in_another_encoding_can_be_read():
    async def scenario():
        answer = page("déjà".encode("cp1252"), 500, Content_Type="text/html; charset=windows-1252")
        async with serving(answer) as port:
            return await probe(f"http://127.0.0.1:{port}/")

    assert run(scenario()).evidence.body == "déjà"


def test_what_was_sent_in_secret_is_masked_where_the_page_repeats_it(tmp_path):
    (tmp_path / "key").write_text("s3same-key\n")
    options = {
        "basic_auth": {"username": "marie", "password": "s3same-word"},
        "header_files": {"X-Custom": str(tmp_path / "key")},
        "headers": {"Cookie": "shop=s3same-cookie"},
    }

    async def echo(request, writer):
        await page(request, 500)(request, writer)

    async def scenario():
        async with serving(echo) as port:
            return await probe(f"http://127.0.0.1:{port}/", options=options)

    seen = run(scenario()).evidence
    assert "GET / HTTP/1.1" in seen.body
    assert "s3same" not in str(seen)
    assert b64encode(b"marie:s3same-word").decode() not in str(seen)


def test_a_refused_certificate_is_looked_at_closer(tmp_path):
    async def scenario():
        async with serving(page(), self_signed(tmp_path)) as port:
            return await probe(f"https://localhost:{port}/")

    result = run(scenario())
    assert result.reason is Reason.CERTIFICATE
    assert [one.subject for one in result.certificates] == ["CN=localhost"]
    assert result.duration < 2


def test_a_server_of_another_protocol_leaves_what_it_said():
    async def scenario():
        async with talking(says("554 no service, token=hunter22")) as port:
            return await attempt(KINDS["smtp"], f"smtp://127.0.0.1:{port}")

    seen = run(scenario()).evidence
    assert seen.address == "127.0.0.1"
    assert seen.body == "554 no service, token=***\n"


def test_a_dialogue_leaves_what_was_said_without_what_came_from_a_file(tmp_path):
    (tmp_path / "word").write_text("s3same-word")

    async def repeat(reader, writer):
        writer.write(b"you said " + await reader.readline())

    async def scenario():
        async with talking(repeat) as port:
            steps = [{"send_file": tmp_path / "word"}, {"expect": "welcome"}]
            url = f"tcp://127.0.0.1:{port}"
            return await attempt(KINDS["tcp"], url, {"query_response": steps})

    assert run(scenario()).evidence.body == "you said ***\n"


def test_a_websocket_that_is_refused_leaves_the_answer():
    async def scenario():
        async with serving(page(b"no entry", 403)) as port:
            return await attempt(KINDS["ws"], f"ws://127.0.0.1:{port}/")

    seen = run(scenario()).evidence
    assert seen.body.startswith("HTTP/1.1 403 Whatever\n")


def test_a_name_that_does_not_resolve_leaves_no_address():
    seen = run(probe("http://nowhere.invalid/")).evidence
    assert seen == evidence.Evidence()
