"""The HTTP prober against servers over TLS."""

import asyncio
import hashlib
import shutil
import ssl
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from dolcevita.probes import Reason, curl
from waiting import free_port, until
from webserver import has, page, probe, run, sample, serving, silence


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    ca = trustme.CA()
    ca.file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(ca.file)
    return ca


def context(certificate: trustme.LeafCert, newest=ssl.TLSVersion.TLSv1_3) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    context.maximum_version = newest
    return context


def over_tls(tls, ca_file, host="localhost", answer=None, budget=5.0):
    async def scenario():
        async with serving(answer or page(), tls) as port:
            options = {"ca_file": str(ca_file)} if ca_file else {}
            return await probe(f"https://{host}:{port}/", budget, options)

    return run(scenario())


def test_a_certificate_is_measured_as_blackbox_exporter_does(ca):
    expires = datetime.now(UTC).replace(microsecond=0) + timedelta(days=12)
    leaf = ca.issue_cert("localhost", "127.0.0.1", common_name="shop", not_after=expires)
    result = over_tls(context(leaf), ca.file)
    assert result.success
    assert sample(result, "probe_http_ssl") == 1
    assert sample(result, "probe_ssl_earliest_cert_expiry") == expires.timestamp()
    assert sample(result, "probe_tls_version_info", version="TLS 1.3") == 1
    assert sample(result, "probe_http_duration_seconds", phase="tls") > 0
    certificate = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    (info,) = [s.labels for s in result.samples if s.name == "probe_ssl_last_chain_info"]
    pem = leaf.cert_chain_pems[0].bytes().decode()
    assert info["fingerprint_sha256"] == hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()
    assert info["serialnumber"] == f"{certificate.serial_number:x}".zfill(len(info["serialnumber"]))
    assert info["subjectalternative"] == "localhost"
    assert "CN=shop" in info["subject"]
    assert "trustme" in info["issuer"]


@pytest.mark.parametrize("newest", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_earliest_expiry_may_be_an_intermediates(ca, newest):
    intermediate = ca.create_child_ca()
    leaf = intermediate.issue_cert(
        "localhost", not_after=datetime.now(UTC) + timedelta(days=365_000)
    )
    result = over_tls(context(leaf, newest), ca.file)
    assert result.success
    assert fingerprints(result) == sent_by(leaf) and len(leaf.cert_chain_pems) == 2
    earliest = min(certificate.expires for certificate in result.certificates)
    assert sample(result, "probe_ssl_earliest_cert_expiry") == earliest


def fingerprints(result):
    return [certificate.sha256 for certificate in result.certificates]


def sent_by(leaf):
    ders = [ssl.PEM_cert_to_DER_cert(pem.bytes().decode()) for pem in leaf.cert_chain_pems]
    return [hashlib.sha256(der).hexdigest() for der in ders]


@given(st.binary(max_size=400) | st.binary(max_size=40).map(lambda some: some * 3000))
def test_whatever_a_server_sends_for_its_certificates_is_read_in_no_time(body):
    begin = time.monotonic()
    found = curl._from_message(b"\x0b" + len(body).to_bytes(3) + body)
    assert time.monotonic() - begin < 0.1
    assert not found.certificates and len(found.chain) <= curl.MOST_CERTIFICATES


def test_the_certificate_of_a_proxy_is_not_taken_for_the_sites(ca):
    async def scenario():
        async with serving(page(), context(ca.issue_cert("localhost"))) as proxy:
            options = {"ca_file": str(ca.file), "proxy": f"https://me:geheim@localhost:{proxy}"}
            return await probe("https://shop.invalid/", options=options)

    result = run(scenario())
    assert result.reason is Reason.CONNECT
    assert "The certificate of the proxy https://localhost" in result.detail
    assert "geheim" not in result.detail and not result.certificates
    assert not has(result, "probe_ssl_earliest_cert_expiry")
    assert not has(result, "probe_tls_version_info")


def test_through_a_proxy_the_certificates_are_the_sites(ca):
    leaf = ca.issue_cert("shop.invalid")

    async def scenario():
        async with serving(page(), context(leaf)) as there:

            async def tunnel(reader, writer):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"CONNECT shop.invalid:443")
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
                back, forth = await asyncio.open_connection("localhost", there)
                await asyncio.gather(carry(reader, forth), carry(back, writer))

            async with await asyncio.start_server(tunnel, "127.0.0.1", 0) as proxy:
                port = proxy.sockets[0].getsockname()[1]
                options = {"ca_file": str(ca.file), "proxy": f"http://127.0.0.1:{port}"}
                return await probe("https://shop.invalid/", options=options)

    result = run(scenario())
    assert result.success, result.detail
    assert fingerprints(result) == sent_by(leaf)
    assert sample(result, "probe_tls_version_info", version="TLS 1.3") == 1


async def carry(reader, writer):
    while piece := await reader.read(10_000):
        writer.write(piece)
    writer.close()


def test_an_older_version_of_tls_is_told(ca):
    tls = context(ca.issue_cert("localhost"), ssl.TLSVersion.TLSv1_2)
    result = over_tls(tls, ca.file)
    assert result.success
    assert sample(result, "probe_tls_version_info", version="TLS 1.2") == 1


def test_a_server_with_an_unusual_key_exchange_is_asked_again_with_all_of_them(ca):
    tls = context(ca.issue_cert("localhost"))
    tls.set_ecdh_curve("X448")
    result = over_tls(tls, ca.file)
    assert result.success
    assert sample(result, "probe_tls_version_info", version="TLS 1.3") == 1


def test_an_expired_certificate(ca):
    leaf = ca.issue_cert("localhost", not_after=datetime.now(UTC) - timedelta(days=1))
    result = over_tls(context(leaf), ca.file)
    assert result.reason is Reason.CERTIFICATE
    assert result.detail == "The certificate of localhost has expired."
    assert fingerprints(result) == sent_by(leaf)
    assert result.phases[-1].name == "tls" and not result.phases[-1].finished


def test_a_certificate_for_another_name(ca):
    result = over_tls(context(ca.issue_cert("www.example.com")), ca.file)
    assert result.reason is Reason.CERTIFICATE
    assert result.detail == "The certificate of localhost is for another name."


def test_a_certificate_for_another_address(ca):
    result = over_tls(context(ca.issue_cert("localhost")), ca.file, host="127.0.0.1")
    assert result.reason is Reason.CERTIFICATE
    assert "of 127.0.0.1 is for another name" in result.detail


def test_a_certificate_of_a_ca_that_nobody_trusts():
    leaf = trustme.CA().issue_cert("localhost")
    result = over_tls(context(leaf), None)
    assert result.reason is Reason.CERTIFICATE
    assert "is signed by an unknown CA" in result.detail


def test_a_self_signed_certificate(tmp_path):
    key, pem = tmp_path / "key.pem", tmp_path / "cert.pem"
    subprocess.run(
        [
            *"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes".split(),
            *("-keyout", key, "-out", pem, "-days", "1", "-subj", "/CN=localhost"),
        ],
        check=True,
        capture_output=True,
    )
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pem, key)
    result = over_tls(tls, None)
    assert result.reason is Reason.CERTIFICATE
    assert "is self-signed and not trusted" in result.detail


def test_a_ca_file_that_is_missing_is_named(ca, tmp_path):
    result = over_tls(context(ca.issue_cert("localhost")), tmp_path / "none.pem")
    assert result.reason is Reason.LOCAL
    assert "none.pem cannot be read" in result.detail


def test_two_cas_do_not_trust_each_others_certificates(ca, tmp_path):
    other = trustme.CA()
    other.cert_pem.write_to_path(tmp_path / "other.pem")

    async def scenario():
        async with serving(page(), context(ca.issue_cert("localhost"))) as port:
            url = f"https://localhost:{port}/"
            files = [ca.file, tmp_path / "other.pem", ca.file]
            return [await probe(url, options={"ca_file": str(file)}) for file in files]

    assert [result.success for result in run(scenario())] == [True, False, True]


def test_a_server_that_speaks_no_tls():
    async def scenario():
        async def greet(reader, writer):
            writer.write(b"220 mail ready\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await probe(f"https://127.0.0.1:{port}/")

    result = run(scenario())
    assert result.reason is Reason.TLS
    assert "The TLS handshake with 127.0.0.1" in result.detail


def test_a_server_that_begins_no_tls_is_a_timeout():
    async def scenario():
        async def mute(reader, writer):
            await asyncio.sleep(5)

        async with await asyncio.start_server(mute, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            return await probe(f"https://127.0.0.1:{port}/", budget=0.8)

    result = run(scenario())
    assert result.reason is Reason.TIMEOUT
    assert "does not begin TLS in time" in result.detail


def test_a_server_that_is_silent_after_tls_is_a_timeout_with_its_certificate(ca):
    result = over_tls(context(ca.issue_cert("localhost")), ca.file, answer=silence, budget=0.6)
    assert result.reason is Reason.TIMEOUT
    assert has(result, "probe_ssl_earliest_cert_expiry")


def test_no_certificate_of_another_site_is_told_of_one_that_begins_no_tls(ca):
    async def scenario():
        options = {"ca_file": str(ca.file)}
        tls = context(ca.issue_cert("localhost"))
        async with serving(page(), tls) as there, serving(silence) as here:
            fine = await probe(f"https://localhost:{there}/", 5.0, options)
            return fine, await probe(f"https://localhost:{here}/", 1.0, options)

    fine, silent = run(scenario())
    assert fine.success and fine.certificates
    assert silent.reason is Reason.TIMEOUT
    assert not silent.certificates and not has(silent, "probe_ssl_earliest_cert_expiry")
    assert not has(silent, "probe_tls_version_info")


def test_credentials_are_not_sent_when_a_redirect_leaves_tls(ca):
    asked: list[bytes] = []

    async def plain(request, writer):
        asked.append(request)
        await page()(request, writer)

    async def scenario():
        async with serving(plain) as clear:
            home = page(status=302, Location=f"http://localhost:{clear}/")
            async with serving(home, context(ca.issue_cert("localhost"))) as port:
                options = {"ca_file": str(ca.file), "headers": {"Authorization": "secret"}}
                return await probe(f"https://localhost:{port}/", options=options)

    assert run(scenario()).success
    assert b"secret" not in asked[0]


@pytest.mark.skipif(not shutil.which("nginx"), reason="nginx is not installed")
def test_http_2_is_spoken_where_the_server_does(ca, tmp_path):
    port = free_port()
    leaf = ca.issue_cert("localhost")
    leaf.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    (tmp_path / "nginx.conf").write_text(
        f"""
        daemon off; pid {tmp_path}/pid; error_log stderr; worker_processes 1;
        events {{}}
        http {{
          access_log off;
          client_body_temp_path {tmp_path}; proxy_temp_path {tmp_path};
          fastcgi_temp_path {tmp_path}; uwsgi_temp_path {tmp_path}; scgi_temp_path {tmp_path};
          server {{
            listen 127.0.0.1:{port} ssl http2;
            ssl_certificate {tmp_path}/both.pem; ssl_certificate_key {tmp_path}/both.pem;
            location / {{ return 200 "hello"; }}
          }}
        }}
        """
    )
    with (tmp_path / "log").open("wb") as output:
        nginx = subprocess.Popen(
            ["nginx", "-c", tmp_path / "nginx.conf", "-p", tmp_path], stderr=output
        )
    try:
        options = {"ca_file": str(ca.file)}
        result = until(
            lambda: (r := run(probe(f"https://localhost:{port}/", options=options))).success and r,
            (tmp_path / "log").read_text(),
        )
    finally:
        nginx.terminate()
        nginx.wait()
    assert sample(result, "probe_http_version") == 2
    assert sample(result, "probe_http_uncompressed_body_length") == 5
