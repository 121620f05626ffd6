"""How the HTTP prober asks: methods, bodies, secrets, proxies, versions of IP, limits."""

import asyncio
import base64
import gzip
import json
import ssl
import time

import pytest
import trustme
from pydantic import ValidationError

from dolcevita.probes import Reason, resolve
from dolcevita.probes.http_options import Options
from peers import server_context, talking
from webserver import (
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


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    ca = trustme.CA()
    ca.folder = tmp_path_factory.mktemp("ca")
    ca.file = ca.folder / "ca.pem"
    ca.cert_pem.write_to_path(ca.file)
    return ca


class Heard:
    """A web server that remembers what it was asked."""

    def __init__(self, answer=None):
        self.requests: list[str] = []
        self.bodies: list[bytes] = []
        self.answer = answer or page(b"fine")

    async def __call__(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.decode().split("\r\n"):
            if line.lower().startswith("content-length:"):
                length = int(line.split(":")[1])
        self.bodies.append(await reader.readexactly(length))
        self.requests.append(head.decode())
        await self.answer(head, writer)


def heard(options, path="/", answer=None, **expect):
    """The result and the server's memory."""
    server = Heard(answer)

    async def scenario():
        async with talking(server) as port:
            return await probe(f"http://127.0.0.1:{port}{path}", options=options, **expect)

    return run(scenario()), server


def header(request, name):
    return [
        line.partition(":")[2].strip()
        for line in request.split("\r\n")
        if line.lower().startswith(f"{name.lower()}:")
    ]


def test_a_method_a_body_and_headers():
    result, server = heard(
        {"method": "PUT", "body": "hello", "headers": {"X-Test": "1", "User-Agent": "me"}}
    )
    assert result.success
    (request,) = server.requests
    assert request.startswith("PUT / ")
    assert server.bodies == [b"hello"]
    assert header(request, "x-test") == ["1"] and header(request, "user-agent") == ["me"]
    assert not header(request, "content-type"), "nobody said that it is a form"


def test_head_expects_no_body():
    result, server = heard({"method": "HEAD"}, answer=raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n"
    ))  # fmt: skip
    assert result.success
    assert server.requests[0].startswith("HEAD ")


def test_a_header_can_be_left_out():
    _, server = heard({"headers": {"User-Agent": None, "Accept": None}})
    assert not header(server.requests[0], "user-agent")
    assert not header(server.requests[0], "accept")


def test_what_is_in_files_is_read_for_each_probe(tmp_path):
    (tmp_path / "body").write_text('{"a": 1}\n')
    (tmp_path / "key").write_text("one\n")
    options = {
        "method": "POST",
        "body_file": tmp_path / "body",
        "header_files": {"X-Api-Key": tmp_path / "key"},
        "headers": {"Content-Type": "application/json"},
    }
    _, server = heard(options)
    assert server.bodies == [b'{"a": 1}']
    assert header(server.requests[0], "x-api-key") == ["one"]
    assert header(server.requests[0], "content-type") == ["application/json"]
    (tmp_path / "key").write_text("two\n")
    _, server = heard(options)
    assert header(server.requests[0], "x-api-key") == ["two"]


def test_a_file_that_is_missing_is_named():
    result, _ = heard({"body_file": "/does/not/exist"})
    assert result.reason is Reason.LOCAL
    assert "/does/not/exist cannot be read" in result.detail
    assert sample(result, "probe_http_status_code") == 0


@pytest.mark.parametrize("in_files", [False, True])
def test_basic_authentication(tmp_path, in_files):
    (tmp_path / "password").write_text("geh:eim\n")
    secret = {"password_file": tmp_path / "password"} if in_files else {"password": "geh:eim"}
    _, server = heard({"basic_auth": {"username": "marie", **secret}})
    (value,) = header(server.requests[0], "authorization")
    assert base64.b64decode(value.removeprefix("Basic ")) == b"marie:geh:eim"


def test_a_bearer_token_and_other_schemes(tmp_path):
    (tmp_path / "token").write_text("geheim\n")
    _, server = heard({"authorization": {"credentials_file": tmp_path / "token"}})
    assert header(server.requests[0], "authorization") == ["Bearer geheim"]
    _, server = heard({"authorization": {"type": "Token", "credentials": "geheim"}})
    assert header(server.requests[0], "authorization") == ["Token geheim"]


def test_no_secret_goes_to_another_host_or_from_https_to_http():
    elsewhere = Heard()

    async def scenario():
        async with talking(elsewhere, host="127.0.0.2") as other:
            to = page(status=302, Location=f"http://127.0.0.2:{other}/")
            async with serving(to) as port:
                return await probe(
                    f"http://127.0.0.1:{port}/",
                    options={
                        "basic_auth": {"username": "marie", "password": "geheim"},
                        "headers": {"X-Api-Key": "geheim"},
                    },
                )

    assert run(scenario()).success
    assert not header(elsewhere.requests[0], "authorization")
    assert not header(elsewhere.requests[0], "x-api-key")


def oauth(token_answer, probes=1, **client):
    """Probe a site that takes the token `granted`; gives results and the token server."""
    tokens = Heard(token_answer)

    async def answer(request, writer):
        status = 200 if b"authorization: bearer granted" in request.lower() else 401
        await page(status=status)(request, writer)

    async def scenario():
        async with talking(tokens) as token_port, serving(answer) as port:
            options = {
                "oauth2": {
                    "client_id": "me",
                    "client_secret": "geheim",
                    "token_url": f"http://127.0.0.1:{token_port}/token",
                    **client,
                }
            }
            return [
                await probe(f"http://127.0.0.1:{port}/", options=options) for _ in range(probes)
            ]

    return run(scenario()), tokens


def granted(token="granted", **more):
    return page(json.dumps({"access_token": token, **more}).encode())


def test_a_token_for_client_credentials_is_asked_for_once():
    results, tokens = oauth(
        granted(expires_in=3600), 3, scopes=["read", "write"], endpoint_params={"audience": "shop"}
    )
    assert all(result.success for result in results)
    assert len(tokens.requests) == 1
    (basic,) = header(tokens.requests[0], "authorization")
    assert base64.b64decode(basic.removeprefix("Basic ")) == b"me:geheim"
    assert b"grant_type=client_credentials" in tokens.bodies[0]
    assert b"scope=read+write" in tokens.bodies[0] and b"audience=shop" in tokens.bodies[0]


def test_a_token_that_has_run_out_or_is_refused_is_asked_for_anew():
    _, tokens = oauth(granted(expires_in=1), 2)
    assert len(tokens.requests) == 2
    results, tokens = oauth(granted("revoked", expires_in=3600), 2)
    assert [result.reason for result in results] == [Reason.STATUS] * 2
    assert len(tokens.requests) == 2


def test_a_token_server_that_takes_the_secret_in_the_form_only():
    async def picky(request, writer):
        if b"authorization: basic" in request.lower():
            await page(b'{"error": "invalid_client"}', status=401)(request, writer)
        else:
            await granted(expires_in=60)(request, writer)

    results, tokens = oauth(picky)
    assert results[0].success
    assert b"client_id=me&client_secret=geheim" in tokens.bodies[1]


@pytest.mark.parametrize(
    ("answer", "reason", "words"),
    [
        (page(status=403), Reason.STATUS, "it answers with 403"),
        (page(b"no json"), Reason.CONTENT, "its answer holds none"),
        (page(b'{"access_token": 7}'), Reason.CONTENT, "its answer holds none"),
        (page(b'{"access_token": "a\\r\\nX: b"}'), Reason.CONTENT, "its answer holds none"),
        (raw(b"nonsense\r\n\r\n"), Reason.PROTOCOL, "No token from"),
    ],
)
def test_why_there_is_no_token_is_told_without_the_secret(answer, reason, words):
    (result,), _ = oauth(answer)
    assert result.reason is reason
    assert words in result.detail
    assert "geheim" not in result.detail


def over_tls(context, port_options, url_host="localhost", **expect):
    async def scenario():
        async with serving(page(), context) as port:
            return await probe(f"https://{url_host}:{port}/", options=port_options, **expect)

    return run(scenario())


def test_a_client_certificate(ca):
    context = server_context(ca.issue_cert("localhost"), newest=ssl.TLSVersion.TLSv1_2)
    context.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(context)
    client = ca.issue_cert("client")
    cert, key = ca.folder / "client.pem", ca.folder / "client.key"
    client.cert_chain_pems[0].write_to_path(cert)
    client.private_key_pem.write_to_path(key)
    fine = over_tls(context, {"ca_file": ca.file, "cert_file": cert, "key_file": key})
    assert fine.success, fine.detail
    assert over_tls(context, {"ca_file": ca.file}).reason is Reason.TLS
    missing = over_tls(context, {"ca_file": ca.file, "cert_file": "/none", "key_file": "/none"})
    assert missing.reason is Reason.LOCAL
    assert "The certificate /none or its key cannot be used" in missing.detail


def test_any_certificate_where_that_is_wanted_and_no_chain_is_told(ca):
    context = server_context(trustme.CA().issue_cert("elsewhere.example"))
    assert over_tls(context, {"ca_file": ca.file}).reason is Reason.CERTIFICATE
    result = over_tls(context, {"insecure": True})
    assert result.success
    assert has(result, "probe_ssl_earliest_cert_expiry")
    assert not has(result, "probe_ssl_last_chain_expiry_timestamp_seconds")


def test_the_chain_up_to_the_trusted_ca_is_measured(ca):
    result = over_tls(server_context(ca.issue_cert("localhost")), {"ca_file": ca.file})
    expiry = sample(result, "probe_ssl_last_chain_expiry_timestamp_seconds")
    assert expiry == min(certificate.expires for certificate in result.certificates)


def test_another_name_for_tls(ca):
    context = server_context(ca.issue_cert("shop.example"))
    assert over_tls(context, {"ca_file": ca.file}).reason is Reason.CERTIFICATE
    assert over_tls(context, {"ca_file": ca.file, "server_name": "shop.example"}).success


def test_the_host_header_is_the_name_for_tls_and_relative_redirects_stay(ca):
    hosts = []

    async def answer(request, writer):
        hosts.append(header(request.decode(), "host"))
        to_next = request.startswith(b"GET / ")
        await (page(status=302, Location="/next") if to_next else page())(request, writer)

    async def scenario():
        context = server_context(ca.issue_cert("shop.example"))
        async with serving(answer, context) as port:
            options = {"ca_file": ca.file, "headers": {"Host": "shop.example"}}
            return await probe(f"https://localhost:{port}/", options=options), port

    result, port = run(scenario())
    assert result.success, result.detail
    assert hosts == [["shop.example"], ["shop.example"]]
    assert result.facts["redirects"].endswith(f"https://localhost:{port}/next")


def test_a_proxy_with_its_own_headers():
    result, server = heard({})
    assert result.success

    async def scenario():
        async with talking(server) as port:
            options = {
                "proxy": f"http://me:geheim@127.0.0.1:{port}",
                "proxy_headers": {"X-Proxy": "1"},
                "headers": {"X-Site": "1"},
            }
            return await probe("http://shop.invalid/x", options=options)

    result = run(scenario())
    assert result.success, result.detail
    request = server.requests[-1]
    assert request.startswith("GET http://shop.invalid/x ")
    assert header(request, "proxy-authorization")
    assert header(request, "x-proxy") == ["1"]


def test_hosts_that_need_no_proxy():
    async def scenario():
        with closed_port() as closed:
            async with serving(page()) as port:
                options = {"proxy": f"http://127.0.0.1:{closed}", "no_proxy": "127.0.0.0/8"}
                url = f"http://127.0.0.1:{port}/"
                return (
                    await probe(url, options=options),
                    await probe(url, options={"proxy": f"http://127.0.0.1:{closed}"}),
                )

    without, with_proxy = run(scenario())
    assert without.success
    assert with_proxy.reason is Reason.CONNECT
    assert "The proxy http://127.0.0.1" in with_proxy.detail


def test_the_proxy_of_the_environment(monkeypatch):
    async def scenario():
        async with serving(page(b"by proxy")) as port:
            monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
            monkeypatch.setenv("no_proxy", "direct.invalid")
            options = {"proxy_from_environment": True}
            return (
                await probe("http://shop.invalid/", options=options, contains="by proxy"),
                await probe("http://direct.invalid/", options=options),
                await probe("http://shop.invalid/"),
            )

    by_proxy, direct, unasked = run(scenario())
    assert by_proxy.success
    assert direct.reason is Reason.DNS and unasked.reason is Reason.DNS


def test_a_proxy_that_refuses_to_connect_is_told():
    async def scenario():
        async with serving(page(status=403)) as port:
            options = {"proxy": f"http://me:geheim@127.0.0.1:{port}"}
            return await probe("https://shop.invalid/", options=options)

    result = run(scenario())
    assert result.reason is Reason.CONNECT
    assert "The proxy answers with 403" in result.detail
    assert "geheim" not in result.detail


def test_each_version_of_ip_alone():
    async def scenario():
        async with serving(page(), host="::1") as port:
            six = await probe(f"http://[::1]:{port}/", options={"ip_version": 6})
            four = await probe(f"http://[::1]:{port}/", options={"ip_version": 4})
            back = {"ip_version": 4, "ip_fallback": True}
            return six, four, await probe(f"http://[::1]:{port}/", options=back)

    six, four, back = run(scenario())
    assert six.success and sample(six, "probe_ip_protocol") == 6
    assert four.reason is Reason.DNS and "has no IPv4 address" in four.detail
    assert back.success


def test_both_versions_of_ip_one_after_the_other(monkeypatch):
    async def look_up(host, within):
        return ["::1", "127.0.0.1"]

    monkeypatch.setattr(resolve, "_look_up_beside", look_up)

    async def scenario(both):
        async with serving(page()) as port:
            url = f"http://shop.example:{port}/"
            if not both:
                return await probe(url, options={"ip_version": "both"})
            server = await asyncio.start_server(_fine, "::1", port)
            async with server:
                return await probe(url, options={"ip_version": "both"})

    async def _fine(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        await page()(b"", writer)
        writer.close()

    half, whole = run(scenario(False)), run(scenario(True))
    assert whole.success
    assert sample(whole, "probe_ip_success", ip_protocol="4") == 1
    assert sample(whole, "probe_ip_success", ip_protocol="6") == 1
    assert whole.facts["address"] == "127.0.0.1, ::1"
    assert not half.success and half.reason is Reason.CONNECT
    assert sample(half, "probe_ip_success", ip_protocol="4") == 1
    assert sample(half, "probe_ip_success", ip_protocol="6") == 0


def test_both_versions_share_the_time():
    async def scenario():
        async with serving(silence) as port:
            return await probe(f"http://127.0.0.1:{port}/", 1.0, {"ip_version": "both"})

    begin = time.monotonic()
    assert not run(scenario()).success
    assert time.monotonic() - begin < 1.3


def test_from_an_address_of_this_machine():
    peers = []

    async def answer(request, writer):
        peers.append(writer.get_extra_info("peername")[0])
        await page()(request, writer)

    async def scenario():
        async with serving(answer) as port:
            url = f"http://127.0.0.1:{port}/"
            options = {"source_ip_address": "127.0.0.3"}
            return await probe(url, options=options), await probe(
                url, options={"source_ip_address": "192.0.2.1"}
            )

    fine, foreign = run(scenario())
    assert fine.success and peers == ["127.0.0.3"]
    assert foreign.reason is Reason.CONNECT


def test_a_page_that_is_too_long_fails_and_is_not_read_on():
    async def scenario(limit):
        async with serving(page(b"x" * 2000)) as port:
            return await probe(f"http://127.0.0.1:{port}/", options={"body_limit": limit})

    assert run(scenario("2kB")).success
    result = run(scenario(1999))
    assert result.reason is Reason.CONTENT
    assert "longer than 1,999 bytes" in result.detail
    assert sample(result, "probe_http_uncompressed_body_length") == 1999


def test_the_compression_that_is_asked_for():
    def answer(encoding):
        return page(gzip.compress(b"fine"), Content_Encoding=encoding)

    result, server = heard({"compression": "gzip"}, answer=answer("gzip"), contains="fine")
    assert result.success
    assert header(server.requests[0], "accept-encoding") == ["gzip"]
    result, _ = heard({"compression": "br"}, answer=answer("gzip"))
    assert result.reason is Reason.CONTENT
    assert "is gzip, expected br" in result.detail
    result, server = heard({"compression": "identity"})
    assert result.success and not header(server.requests[0], "accept-encoding")


@pytest.mark.parametrize(
    ("limit", "reason"), [(0, Reason.STATUS), (2, Reason.STATUS), (3, None), (None, None)]
)
def test_so_many_redirects_are_followed(limit, reason):
    hops = {f"/{n}": page(status=302, Location=f"/{n + 1}") for n in range(3)}
    answer = routes({**hops, "/3": page()})

    async def scenario():
        async with serving(answer) as port:
            return await probe(f"http://127.0.0.1:{port}/0", options={"redirects": limit})

    assert run(scenario()).reason is reason


@pytest.mark.parametrize(
    ("status", "method", "body"),
    [(301, "GET", b""), (302, "GET", b""), (303, "GET", b""), (307, "POST", b"x"),
     (308, "POST", b"x")],
)  # fmt: skip
def test_a_redirect_keeps_the_method_where_it_must(status, method, body):
    async def answer(request, writer):
        there = b" /there " in request
        await (page() if there else page(status=status, Location="/there"))(request, writer)

    result, server = heard({"method": "POST", "body": "x"}, answer=answer)
    assert result.success
    assert server.requests[-1].startswith(f"{method} /there")
    assert server.bodies[-1] == body


def test_phases_are_summed_over_redirects():
    async def slow(request, writer):
        await asyncio.sleep(0.15)
        to_next = b" / " in request
        await (page(status=302, Location="/next") if to_next else page())(request, writer)

    async def scenario():
        async with serving(slow) as port:
            return await probe(f"http://127.0.0.1:{port}/")

    assert sample(run(scenario()), "probe_http_duration_seconds", phase="processing") > 0.29


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"body": "a", "body_file": "b"}, "only one of body and body_file"),
        ({"authorization": {}, "basic_auth": {"username": "a"}}, "only one of basic_auth"),
        ({"proxy": "socks5://a"}, "expected the URL of a proxy"),
        ({"headers": {"X": "a\r\nY: b"}}, "expected text on one line"),
        ({"headers": {"X Y": "a"}}, "expected letters"),
        ({"method": "GET /"}, "expected letters"),
        ({"body_limit": "many"}, "expected a size"),
        ({"http_version": 4}, "'1.1', '2' or '3'"),
        ({"oauth2": {"client_id": "a", "token_url": "b"}}, "one of client_secret"),
        ({"source_ip_address": "localhost"}, "expected an IP address"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, words):
    with pytest.raises(ValidationError, match=words):
        Options.model_validate(options)


@pytest.mark.parametrize("name", ["Add to cart", "", "a/b", "a:b:c"])
def test_a_name_for_tls_that_is_none_is_refused(name):
    with pytest.raises(ValidationError, match="expected a host name"):
        Options.model_validate({"server_name": name})
