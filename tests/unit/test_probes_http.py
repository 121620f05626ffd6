"""The HTTP prober against servers over plain TCP."""

import asyncio
import gzip
import socket
import time

import pytest

from dolcevita.probes import Reason, Result
from dolcevita.probes.http_answer import MOST_BODY
from webserver import (
    blackhole,
    closed_port,
    has,
    page,
    probe,
    raw,
    routes,
    run,
    sample,
    serving,
    silence,
)


def answered(answer, path="/", budget=5.0, options=None, **expect) -> Result:
    async def scenario() -> Result:
        async with serving(answer) as port:
            return await probe(f"http://127.0.0.1:{port}{path}", budget, options, **expect)

    return run(scenario())


def test_a_page_is_fine_and_measured_as_blackbox_exporter_does():
    result = answered(page(b"hello", Last_Modified="Tue, 14 Jul 2026 19:00:00 GMT"))
    assert result.success and result.reason is None
    assert sample(result, "probe_http_status_code") == 200
    assert sample(result, "probe_http_content_length") == 5
    assert sample(result, "probe_http_uncompressed_body_length") == 5
    assert sample(result, "probe_http_version") == 1.1
    assert sample(result, "probe_http_redirects") == 0
    assert sample(result, "probe_http_ssl") == 0
    assert sample(result, "probe_ip_protocol") == 4
    assert sample(result, "probe_http_last_modified_timestamp_seconds") == 1784055600
    phases = {s.labels["phase"]: s.value for s in result.samples if "phase" in s.labels}
    assert list(phases) == ["resolve", "connect", "tls", "processing", "transfer"]
    assert phases["tls"] == 0
    assert all(phases[name] > 0 for name in ("resolve", "connect", "processing"))
    assert sum(phases.values()) <= result.duration


def test_the_address_hash_is_the_one_of_blackbox_exporter():
    # FNV-1a of the bytes 7f 00 00 01, computed by hand from the definition.
    number = 2166136261
    for byte in (127, 0, 0, 1):
        number = ((number ^ byte) * 16777619) & 0xFFFFFFFF
    assert sample(answered(page()), "probe_ip_addr_hash") == number


def test_processing_is_the_servers_time_and_transfer_the_bodys():
    async def slow(request, writer):
        await asyncio.sleep(0.2)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na")
        await asyncio.sleep(0.3)
        writer.write(b"b")

    result = answered(slow)
    assert 0.19 < sample(result, "probe_http_duration_seconds", phase="processing") < 0.29
    assert 0.29 < sample(result, "probe_http_duration_seconds", phase="transfer") < 0.4


@pytest.mark.parametrize("status", [200, 204, 299])
def test_any_2xx_is_fine_by_default(status):
    assert answered(page(b"", status=status)).success


@pytest.mark.parametrize("status", [304, 404, 500, 503])
def test_another_status_fails_with_both_named(status):
    result = answered(page(status=status))
    assert result.reason is Reason.STATUS
    assert f"answers with {status}, expected 2xx" in result.detail
    assert sample(result, "probe_http_status_code") == status


def test_a_status_that_is_listed_is_fine_and_2xx_is_not():
    assert answered(page(status=401), status=[401, 403]).success
    assert answered(page(status=200), status=[401, 403]).detail.endswith(
        "answers with 200, expected 401 or 403."
    )


def test_no_length_is_told_as_minus_one():
    result = answered(raw(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc"))
    assert result.success
    assert sample(result, "probe_http_content_length") == -1
    assert sample(result, "probe_http_uncompressed_body_length") == 3
    assert not has(result, "probe_http_last_modified_timestamp_seconds")


def test_text_that_must_be_there():
    assert answered(page(b"..Add to cart.."), contains="Add to cart").success
    result = answered(page(b"Sold out"), contains=["Sold", "Add to cart"])
    assert result.reason is Reason.CONTENT
    assert result.detail == "'Add to cart' is not in the page."


def test_text_that_must_not_be_there():
    assert answered(page(b"fine"), absent=["Fatal error"]).success
    result = answered(page(b"Fatal error: out of memory"), absent=["Fatal error"])
    assert result.reason is Reason.CONTENT


def test_text_is_found_across_pieces_and_far_down():
    pieces = [b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n", b"x" * 200_000 + b"Add t", b"o cart"]
    assert answered(raw(*pieces, pause=0.05), contains="Add to cart").success


@pytest.mark.parametrize(
    ("encoding", "content_type"),
    [
        ("utf-8", "text/html"),
        ("iso-8859-1", "text/html"),
        ("utf-16-le", "text/html; charset=utf-16"),
        ("koi8-r", 'text/html; charset="koi8-r"; x=y'),
        ("utf-8", "text/html; charset=no-such-thing"),
        ("utf-8", "text/html; charset=hex"),
    ],
)
def test_text_is_found_in_the_encoding_of_the_page(encoding, content_type):
    text = "Добро" if encoding == "koi8-r" else "déjà réservé"
    answer = page(f"<p>{text}</p>".encode(encoding), Content_Type=content_type)
    assert answered(answer, contains=text).success


def test_text_is_found_in_a_compressed_page():
    body = gzip.compress(b"Add to cart" * 100)
    result = answered(page(body, Content_Encoding="gzip"), contains="Add to cart")
    assert result.success
    assert sample(result, "probe_http_uncompressed_body_length") == 1100
    assert sample(result, "probe_http_content_length") == len(body)


def test_a_header_must_contain_its_text():
    answer = page(b"", Cache_Control="public, max-age=60")
    assert answered(answer, header={"cache-control": "max-age"}).success
    result = answered(answer, header={"Cache-Control": "no-store"})
    assert result.reason is Reason.CONTENT
    assert "is 'public, max-age=60', expected it to contain 'no-store'" in result.detail
    assert "is not sent" in answered(answer, header={"X-Frame-Options": "DENY"}).detail


def redirect(to: str, **headers: str):
    return page(b"moved", status=302, Location=to, **headers)


def test_redirects_are_followed_and_their_phases_added():
    async def slow(request, writer):
        await asyncio.sleep(0.15)
        await redirect("/b")(request, writer)

    async def slow_end(request, writer):
        await asyncio.sleep(0.15)
        await page(b"the end")(request, writer)

    result = answered(routes({"/a": slow, "/b": slow_end}), "/a", contains="the end")
    assert result.success
    assert sample(result, "probe_http_redirects") == 1
    assert sample(result, "probe_http_duration_seconds", phase="processing") > 0.29
    assert [phase.name for phase in result.phases].count("connect") == 2


def test_only_the_last_page_is_searched():
    answer = routes({"/a": redirect("/b"), "/b": page(b"here")})
    assert not answered(answer, "/a", contains="moved").success


def test_redirects_must_end_where_expected():
    answer = routes({"/": redirect("/b"), "/b": page()})

    async def scenario():
        async with serving(answer) as port:
            base = f"http://127.0.0.1:{port}"
            right = await probe(base, final_url=f"{base}/b")
            wrong = await probe(base, final_url=f"{base}/c")
            return right, wrong

    right, wrong = run(scenario())
    assert right.success
    assert wrong.reason is Reason.REDIRECT
    assert "The redirects end at" in wrong.detail


def test_a_redirect_that_is_expected_is_not_followed():
    answer = routes({"/": redirect("https://does.not.exist.invalid/")})
    result = answered(answer, status=[302])
    assert result.success
    assert sample(result, "probe_http_redirects") == 1
    assert sample(result, "probe_http_status_code") == 302


def test_a_circle_of_redirects_is_left_after_ten():
    result = answered(routes({"/": redirect("/")}))
    assert result.reason is Reason.REDIRECT
    assert "redirects more than 10 times" in result.detail
    assert sample(result, "probe_http_redirects") == 11


@pytest.mark.parametrize(
    "where",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/",
        "http://",
        "gopher:x",
        "http://[::1/",
        "http://a:b/",
    ],
)
def test_a_redirect_leaves_the_web_never(where):
    result = answered(redirect(where))
    assert result.reason is Reason.REDIRECT


def test_a_redirect_to_a_dead_name_is_told_as_such():
    result = answered(redirect("http://does.not.exist.invalid/"))
    assert result.reason is Reason.DNS
    assert "does.not.exist.invalid" in result.detail


def test_a_page_that_first_sets_a_cookie_is_reached():
    async def gate(request, writer):
        if b"Cookie: seen=1" in request:
            await page(b"inside")(request, writer)
        else:
            await redirect("/", Set_Cookie="seen=1; Path=/")(request, writer)

    async def scenario():
        async with serving(gate) as port:
            url = f"http://127.0.0.1:{port}/"
            return [await probe(url, contains="inside") for _ in range(2)]

    first, second = run(scenario())
    assert first.success
    assert sample(second, "probe_http_redirects") == 1, "a cookie outlived its probe"


def test_nothing_of_another_site_is_told_of_one_that_does_not_answer():
    async def rude(request, writer):
        writer.close()

    async def scenario():
        fine = page(b"hello", Last_Modified="Tue, 14 Jul 2026 19:00:00 GMT")
        async with serving(fine) as there, serving(rude) as here:
            await probe(f"http://127.0.0.1:{there}/")
            broken = await probe(f"http://127.0.0.1:{here}/")
            with closed_port() as closed:
                return broken, await probe(f"http://127.0.0.1:{closed}/")

    for result in run(scenario()):
        assert not result.success
        for name in ("status_code", "version", "content_length", "uncompressed_body_length"):
            assert sample(result, f"probe_http_{name}") == 0, name
        assert not has(result, "probe_http_last_modified_timestamp_seconds")
        assert sample(result, "probe_http_duration_seconds", phase="transfer") == 0
        assert not result.evidence.headers and not result.evidence.body


def test_own_headers_go_to_the_own_host_only():
    asked: list[bytes] = []

    async def elsewhere(request, writer):
        asked.append(request)
        await page()(request, writer)

    async def scenario():
        async with serving(elsewhere) as other:

            async def home(request, writer):
                asked.append(request)
                await redirect(f"http://localhost:{other}/")(request, writer)

            async with serving(home) as port:
                options = {"headers": {"Authorization": "Bearer secret"}}
                return await probe(f"http://127.0.0.1:{port}/", options=options)

    assert run(scenario()).success
    assert b"Bearer secret" in asked[0]
    assert b"secret" not in asked[1]


def test_every_probe_opens_a_connection_of_its_own():
    ports: list[int] = []

    async def keep_alive(request, writer):
        ports.append(writer.get_extra_info("peername")[1])
        await page(Connection="keep-alive")(request, writer)
        await writer.drain()
        await asyncio.sleep(1)

    async def scenario():
        async with serving(keep_alive) as port:
            for _ in range(3):
                assert (await probe(f"http://127.0.0.1:{port}/")).success

    run(scenario())
    assert len(set(ports)) == 3


def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    assert answered(page()).success


def test_a_path_beyond_ascii_is_sent_encoded():
    asked: list[bytes] = []

    async def answer(request, writer):
        asked.append(request.split(b" ")[1])
        await page()(request, writer)

    assert answered(answer, "/été?q=ü").success
    assert asked == [b"/%C3%A9t%C3%A9?q=%C3%BC"]


def test_an_ascii_path_is_sent_as_it_stands():
    asked: list[bytes] = []

    async def answer(request, writer):
        asked.append(request.split(b" ")[1])
        await page()(request, writer)

    assert answered(answer, "/a%2Fb?c=%20d+e&f").success
    assert asked == [b"/a%2Fb?c=%20d+e&f"]


def test_ipv6_is_told():
    async def scenario():
        async with serving(page(), host="::1") as port:
            return await probe(f"http://[::1]:{port}/")

    result = run(scenario())
    assert result.success
    assert sample(result, "probe_ip_protocol") == 6


def test_a_dead_address_of_a_name_does_not_hide_a_live_one(monkeypatch):
    def both(host, *args, **kwargs):
        assert host == b"both.example"
        stream = socket.SOCK_STREAM
        return [
            (socket.AF_INET6, stream, 6, "", ("::1", 0, 0, 0)),
            (socket.AF_INET, stream, 6, "", ("127.0.0.1", 0)),
        ]

    async def scenario():
        async with serving(page()) as port:
            monkeypatch.setattr(socket, "getaddrinfo", both)
            return await probe(f"http://both.example:{port}/")

    result = run(scenario())
    assert result.success
    assert sample(result, "probe_ip_protocol") == 4


def test_a_name_is_resolved_anew_for_every_probe(monkeypatch):
    addresses = ["127.0.0.1", "127.0.0.2"]

    def moving(host, *args, **kwargs):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (addresses.pop(0), 0))]

    async def scenario():
        async with serving(page(), host="0.0.0.0") as port:
            monkeypatch.setattr(socket, "getaddrinfo", moving)
            return [await probe(f"http://moving.example:{port}/") for _ in range(2)]

    first, second = run(scenario())
    assert (first.facts["address"], second.facts["address"]) == ("127.0.0.1", "127.0.0.2")


def test_a_name_that_does_not_exist():
    result = run(probe("http://does.not.exist.invalid/"))
    assert result.reason is Reason.DNS
    assert result.phases[-1].name == "resolve" and not result.phases[-1].finished
    assert sample(result, "probe_http_status_code") == 0
    assert sample(result, "probe_ip_protocol") == 0


@pytest.mark.parametrize("host", ["a" * 64 + ".example", "a..example", "x" * 300])
def test_a_name_that_cannot_exist_is_a_dns_failure(host):
    assert run(probe(f"http://{host}/")).reason is Reason.DNS


def test_a_refused_connection():
    with closed_port() as port:
        result = run(probe(f"http://127.0.0.1:{port}/"))
    assert result.reason is Reason.CONNECT
    assert result.detail == f"127.0.0.1 port {port} refuses the connection."


def test_a_host_that_drops_packets_costs_half_the_budget():
    with blackhole() as port:
        result = run(probe(f"http://127.0.0.1:{port}/", budget=1.0))
    assert result.reason is Reason.CONNECT
    assert result.detail == f"127.0.0.1 port {port} does not answer."
    assert 0.4 < result.duration < 0.7
    assert result.phases[-1].name == "connect" and not result.phases[-1].finished
    assert sample(result, "probe_http_duration_seconds", phase="connect") == 0


def test_a_server_that_never_answers():
    result = answered(silence, budget=0.4)
    assert result.reason is Reason.TIMEOUT
    assert "accepts connections but does not answer" in result.detail
    assert 0.35 < result.duration < 0.6
    assert result.phases[-1].name == "processing"


def drip(head: bytes, piece: bytes):
    return raw(head, *[piece] * 600, pause=0.01)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(drip(b"HTTP/1.1 200 OK\r\n", b"X-Drip: 1\r\n"), id="headers"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x"), id="body"),
        pytest.param(drip(b"HTTP/1.1 200 OK\r\n\r\n", b"<br>"), id="endless body"),
        pytest.param(drip(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"), id="interim answers"),
    ],
)
def test_a_slow_drip_ends_with_the_budget(answer):
    begin = time.monotonic()
    result = answered(answer, budget=0.5)
    assert result.reason is Reason.TIMEOUT
    assert time.monotonic() - begin < 1.0


def test_a_decompression_bomb_is_read_to_the_limit_only():
    bomb = gzip.compress(b"\0" * 500_000_000, 1)
    begin = time.monotonic()
    result = answered(page(bomb, Content_Encoding="gzip"), contains="never there")
    assert result.reason is Reason.CONTENT
    assert MOST_BODY <= sample(result, "probe_http_uncompressed_body_length") < MOST_BODY + 2**17
    assert time.monotonic() - begin < 3


def test_an_endless_stream_is_read_to_the_limit_and_fine():
    async def endless(request, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 100_000)
            await writer.drain()

    result = answered(endless)
    assert result.success
    assert sample(result, "probe_http_uncompressed_body_length") < MOST_BODY + 2**17


OK = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b""], id="nothing"),
        pytest.param([b"SSH-2.0-OpenSSH_9.2\r\n"], id="another protocol"),
        pytest.param([b"\x00\xff\xfe" * 1000], id="noise"),
        pytest.param([OK + b"Content-Length: 100\r\n\r\nshort"], id="cut off"),
        pytest.param([OK + b"Content-Encoding: gzip\r\n\r\nnot gzip"], id="broken gzip"),
        pytest.param([OK + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"], id="broken chunks"),
        pytest.param([OK + b"X-Huge: " + b"x" * 2_000_000 + b"\r\n\r\n"], id="huge header"),
        pytest.param([OK + b"X-Many: x\r\n" * 200_000 + b"\r\n"], id="many headers"),
        pytest.param([OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"], id="two lengths"),
    ],
)
def test_an_answer_that_breaks_the_protocol(pieces):
    result = answered(raw(*pieces))
    assert result.reason is Reason.PROTOCOL, result.detail


def test_bytes_that_are_no_text_do_no_harm():
    head = b"HTTP/1.1 200 \xff\xfe\r\nX-\xe9: \xff\xfe\r\nSet-Cookie: \xff=\xfe\r\n"
    assert answered(raw(head + b"Content-Type: text/\xff; charset=\xff\r\n\r\n\xff")).success


def test_a_location_that_is_no_text_does_no_harm():
    result = answered(raw(b"HTTP/1.1 302 Found\r\nLocation: http://\xff\xfe\x01/\r\n\r\n"))
    assert not result.success
    assert result.reason is not Reason.INTERNAL
