"""The TLS prober against good servers and every kind of bad certificate."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp
from pydantic import ValidationError

from dolcevita.probes import Reason, Result
from dolcevita.probes.tls import KIND, Expect
from peers import attempt, mute, says, seconds, self_signed, server_context, talking
from waiting import free_port, until
from webserver import blackhole, closed_port, has, run, sample


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    ca = trustme.CA()
    ca.file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(ca.file)
    return ca


def shaken(ca, tls, host="127.0.0.1", budget=5.0, talk=mute, options=None, **expect) -> Result:
    """A handshake with a server on 127.0.0.1 that is called localhost."""
    trust = {"ca_file": str(ca.file), "server_name": "localhost"} | (options or {})

    async def scenario():
        async with talking(talk, tls, host=host) as port:
            at = f"[{host}]" if ":" in host else host
            return await attempt(KIND, f"tls://{at}:{port}", trust, budget, **expect)

    return run(scenario())


def test_every_certificate_of_the_chain_is_measured(ca):
    intermediate = ca.create_child_ca()
    expires = datetime.now(UTC) + timedelta(days=40)
    result = shaken(ca, server_context(intermediate.issue_cert("localhost", not_after=expires)))
    assert result.success, result.detail
    name = "probe_tls_certificate_expiry_timestamp_seconds"
    assert sample(result, name, position="0", server_name="localhost") == seconds(expires)
    assert sample(result, name, position="1") > seconds(expires)
    assert sample(result, "probe_ssl_earliest_cert_expiry") == seconds(expires)
    last = sample(result, "probe_ssl_last_chain_expiry_timestamp_seconds")
    assert last == seconds(expires)
    assert sample(result, "probe_tls_version_info", version="TLS 1.3") == 1
    assert has(result, "probe_tls_cipher_info")
    assert sample(result, "probe_tls_duration_seconds", phase="tls") > 0
    assert sample(result, "probe_ip_protocol") == 4


def test_the_chain_up_to_the_root_expires_with_its_first(tmp_path):
    key = ec.generate_private_key(ec.SECP256R1())
    authority = Authority(key, datetime.now(UTC) + timedelta(days=3))
    authority.file = tmp_path / "ca.pem"
    authority.file.write_bytes(authority.pem)
    tls = authority.context(tmp_path, authority.issue(days=30))
    result = shaken(authority, tls)
    assert result.success, result.detail
    expires = seconds(authority.expires)
    assert sample(result, "probe_ssl_last_chain_expiry_timestamp_seconds") == expires
    assert sample(result, "probe_ssl_earliest_cert_expiry") > expires


def test_ipv6(ca):
    result = shaken(ca, server_context(ca.issue_cert("localhost")), host="::1")
    assert result.success, result.detail
    assert sample(result, "probe_ip_protocol") == 6


def test_an_expired_certificate_is_named_and_still_measured(ca):
    expires = datetime.now(UTC) - timedelta(days=1)
    leaf = ca.issue_cert("localhost", common_name="shop", not_after=expires)
    result = shaken(ca, server_context(leaf))
    assert result.reason is Reason.CERTIFICATE
    assert "of localhost has expired: CN=shop" in result.detail
    assert f"was valid until {expires:%Y-%m-%d %H:%M} UTC" in result.detail
    assert sample(result, "probe_ssl_earliest_cert_expiry") == seconds(expires)
    assert not has(result, "probe_ssl_last_chain_expiry_timestamp_seconds")


def test_an_expired_intermediate_is_named(tmp_path):
    root = Authority(ec.generate_private_key(ec.SECP256R1()))
    root.file = tmp_path / "root.pem"
    root.file.write_bytes(root.pem)
    middle = Authority(
        ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC) - timedelta(days=2), root
    )
    result = shaken(root, middle.context(tmp_path, middle.issue(), middle))
    assert result.reason is Reason.CERTIFICATE
    assert "has expired: CN=Authority 2" in result.detail


def test_a_certificate_for_another_name(ca):
    result = shaken(ca, server_context(ca.issue_cert("www.example.com")))
    assert result.reason is Reason.CERTIFICATE
    assert result.detail == "The certificate of localhost is for another name."


def test_a_certificate_for_another_address(ca):
    async def scenario():
        async with talking(mute, server_context(ca.issue_cert("localhost"))) as port:
            return await attempt(KIND, f"tls://127.0.0.1:{port}", {"ca_file": str(ca.file)})

    result = run(scenario())
    assert result.reason is Reason.CERTIFICATE
    assert result.detail == "The certificate of 127.0.0.1 is for another address."


def test_a_certificate_of_a_ca_that_nobody_trusts(ca):
    result = shaken(ca, server_context(trustme.CA().issue_cert("localhost")))
    assert result.reason is Reason.CERTIFICATE
    assert "is signed by an unknown CA" in result.detail


def test_a_chain_that_is_not_sent_whole(ca):
    leaf = ca.create_child_ca().issue_cert("localhost")
    alone = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with leaf.cert_chain_pems[0].tempfile() as pem, leaf.private_key_pem.tempfile() as key:
        alone.load_cert_chain(pem, key)
    result = shaken(ca, alone)
    assert result.reason is Reason.CERTIFICATE
    assert "the server does not send the whole chain" in result.detail


def test_a_self_signed_certificate(ca, tmp_path):
    result = shaken(ca, self_signed(tmp_path))
    assert result.reason is Reason.CERTIFICATE
    assert "is self-signed and not trusted" in result.detail


def test_a_certificate_that_expires_soon_fails_where_that_is_expected(ca):
    tls = server_context(
        ca.issue_cert("localhost", not_after=datetime.now(UTC) + timedelta(days=6))
    )
    assert shaken(ca, tls, valid_for="5d").success
    result = shaken(ca, tls, valid_for="7d")
    assert result.reason is Reason.CERTIFICATE
    assert "expected 7d or more from now" in result.detail


def test_the_issuer_can_be_expected(ca):
    tls = server_context(ca.issue_cert("localhost"))
    assert shaken(ca, tls, issuer="trustme").success
    result = shaken(ca, tls, issuer="Let's Encrypt")
    assert result.reason is Reason.CERTIFICATE
    assert "expected 'Let's Encrypt'" in result.detail


def by_name(ca, **expiries: timedelta) -> ssl.SSLContext:
    """A server with a certificate for each name, and that of localhost for all others."""
    contexts = {
        name.replace("_", "."): server_context(
            ca.issue_cert(name.replace("_", "."), not_after=datetime.now(UTC) + left)
        )
        for name, left in expiries.items()
    }
    default = server_context(ca.issue_cert("localhost"))

    def choose(connection, name, context):
        connection.context = contexts.get(name, default)

    default.sni_callback = choose
    return default


def test_other_names_are_asked_for_by_name(ca):
    tls = by_name(ca, www_example_com=timedelta(days=20), example_com=timedelta(days=30))
    result = shaken(ca, tls, names=["www.example.com", "example.com"])
    assert result.success, result.detail
    name = "probe_tls_certificate_expiry_timestamp_seconds"
    first = sample(result, name, server_name="www.example.com", position="0")
    assert sample(result, name, server_name="example.com", position="0") - first > 9 * 86400
    assert shaken(ca, tls, names="www.example.com", valid_for="25d").reason is Reason.CERTIFICATE


def test_a_name_that_the_server_has_no_certificate_for(ca):
    result = shaken(ca, by_name(ca), names=["www.example.com"])
    assert result.reason is Reason.CERTIFICATE
    assert result.detail == "The certificate of www.example.com is for another name."


def test_versions_that_are_accepted_and_refused(ca):
    tls = server_context(ca.issue_cert("localhost"), oldest=ssl.TLSVersion.TLSv1_2)
    versions = {"accepts": ["TLS 1.2", "TLS 1.3"], "refuses": ["TLS 1.0", "TLS 1.1"]}
    result = shaken(ca, tls, **versions)
    assert result.success, result.detail
    name = "probe_tls_version_accepted"
    accepted = [sample(result, name, version=f"TLS 1.{minor}") for minor in range(4)]
    assert accepted == [0, 0, 1, 1]


def test_an_old_version_that_should_be_refused(ca):
    tls = server_context(ca.issue_cert("localhost"), oldest=ssl.TLSVersion.TLSv1)
    result = shaken(ca, tls, refuses="TLS 1.0")
    assert result.reason is Reason.TLS
    assert result.detail == "localhost speaks TLS 1.0, which it should refuse."


def test_a_version_that_the_server_does_not_speak(ca):
    tls = server_context(ca.issue_cert("localhost"), newest=ssl.TLSVersion.TLSv1_2)
    result = shaken(ca, tls, accepts="TLS 1.3")
    assert result.reason is Reason.TLS
    assert result.detail == "localhost does not speak TLS 1.3."
    assert shaken(ca, tls, options={"min_version": "TLS 1.3"}).reason is Reason.TLS


def test_an_unknown_version_is_refused():
    with pytest.raises(ValidationError, match=r"TLS 1\.3"):
        Expect(refuses=["SSL 3"])


def test_a_port_that_refuses_and_one_that_does_not_answer(ca):
    with closed_port() as port:
        assert run(attempt(KIND, f"tls://127.0.0.1:{port}")).reason is Reason.CONNECT
    with blackhole() as port:
        result = run(attempt(KIND, f"tls://127.0.0.1:{port}", budget=0.8))
    assert result.reason is Reason.CONNECT
    assert result.duration < 0.6


def test_a_name_that_does_not_exist():
    assert run(attempt(KIND, "tls://nowhere.invalid")).reason is Reason.DNS


def test_a_server_that_speaks_no_tls(ca):
    result = shaken(ca, None, talk=says("220 ready"))
    assert result.reason is Reason.TLS
    assert result.phases[-1].name == "tls" and not result.phases[-1].finished


def test_a_server_that_hangs_up_at_the_handshake(ca):
    result = shaken(ca, None, talk=says())
    assert result.reason is Reason.TLS
    assert "the server closed the connection" in result.detail


def test_a_handshake_that_stalls_leaves_time_for_a_second_attempt(ca):
    result = shaken(ca, None, budget=0.8)
    assert result.reason is Reason.TIMEOUT
    assert result.duration < 0.6


def test_a_second_handshake_that_stalls_ends_in_time(ca):
    tls = server_context(ca.issue_cert("localhost"))

    async def scenario():
        first = True

        async def once(reader, writer):
            nonlocal first
            if first:
                first = False
                await writer.start_tls(tls)
            await mute(reader, writer)

        async with talking(once) as port:
            options = {"ca_file": str(ca.file), "server_name": "localhost"}
            url = f"tls://127.0.0.1:{port}"
            return await attempt(KIND, url, options, 0.8, accepts="TLS 1.2")

    result = run(scenario())
    assert result.reason is Reason.TIMEOUT
    assert result.duration < 1.0


class Authority:
    """A CA whose certificates may demand stapling, and which signs OCSP responses."""

    count = 0

    def __init__(self, key, expires=None, parent=None):
        Authority.count += 1
        self.key = key
        self.expires = expires or datetime.now(UTC) + timedelta(days=90)
        depth = 2 if parent else 1
        self.name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"Authority {depth}")])
        usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
        self.certificate = self._sign(
            parent or self,
            self.name,
            key.public_key(),
            self.expires,
            [(x509.BasicConstraints(True, None), True), (usage, True)],
        )
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    @staticmethod
    def _sign(issuer, name, public, expires, extensions):
        builder = (
            x509.CertificateBuilder(issuer.name, name, public, x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=9))
            .not_valid_after(expires)
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(issuer.key, hashes.SHA256())

    def issue(self, days=60, must_staple=False):
        """(certificate, key) for localhost."""
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = [(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)]
        if must_staple:
            extensions.append((x509.TLSFeature([x509.TLSFeatureType.status_request]), False))
        expires = datetime.now(UTC) + timedelta(days=days)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        return self._sign(self, name, key.public_key(), expires, extensions), key

    @staticmethod
    def write(folder, leaf, *more):
        """The files of the certificate with `more` behind it, and of its key."""
        certificate, key = leaf
        chain = [certificate, *(one.certificate for one in more)]
        (folder / "chain.pem").write_bytes(
            b"".join(one.public_bytes(serialization.Encoding.PEM) for one in chain)
        )
        (folder / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return folder / "chain.pem", folder / "key.pem"

    def context(self, folder, leaf, *more):
        """For a server with this certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.write(folder, leaf, *more))
        return context

    def response(self, leaf, status=ocsp.OCSPCertStatus.GOOD, age=timedelta(hours=1)):
        """What its OCSP responder says of the certificate, in DER form."""
        now = datetime.now(UTC)
        revoked = now - timedelta(days=1) if status is ocsp.OCSPCertStatus.REVOKED else None
        return (
            ocsp.OCSPResponseBuilder()
            .add_response(
                cert=leaf[0],
                issuer=self.certificate,
                algorithm=hashes.SHA1(),
                cert_status=status,
                this_update=now - age,
                next_update=now - age + timedelta(days=2),
                revocation_time=revoked,
                revocation_reason=None,
            )
            .responder_id(ocsp.OCSPResponderEncoding.HASH, self.certificate)
            .sign(self.key, hashes.SHA256())
            .public_bytes(serialization.Encoding.DER)
        )


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    authority = Authority(ec.generate_private_key(ec.SECP256R1()))
    authority.file = tmp_path_factory.mktemp("authority") / "ca.pem"
    authority.file.write_bytes(authority.pem)
    return authority


@contextmanager
def stapling(authority, folder, leaf, response: bytes | None) -> Iterator[str]:
    """OpenSSL's own server with this OCSP response, and its URL."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    chain, key = authority.write(folder, leaf, authority)
    port = free_port()
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", chain, "-key", key]
    command += ["-cert_chain", chain, "-quiet", "-www"]
    if response is not None:
        (folder / "response.der").write_bytes(response)
        command += ["-status_file", folder / "response.der"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    url = f"tls://127.0.0.1:{port}"
    try:
        until(
            lambda: run(attempt(KIND, url)).reason is not Reason.CONNECT,
            "a listening openssl s_server",
        )
        yield url
    finally:
        server.terminate()
        server.wait()


def asked(authority, url, **expect) -> Result:
    options = {"ca_file": str(authority.file), "server_name": "localhost"}
    return run(attempt(KIND, url, options, **expect))


def test_a_certificate_that_demands_stapling_gets_it(authority, tmp_path):
    leaf = authority.issue(must_staple=True)
    with stapling(authority, tmp_path, leaf, authority.response(leaf)) as url:
        result = asked(authority, url)
    assert result.success, result.detail
    assert sample(result, "probe_tls_ocsp_stapled") == 1


def test_a_certificate_that_demands_stapling_and_does_not_get_it(authority, tmp_path):
    leaf = authority.issue(must_staple=True)
    with stapling(authority, tmp_path, leaf, None) as url:
        result = asked(authority, url)
    assert result.reason is Reason.CERTIFICATE
    assert "of localhost demands a good OCSP response: No OCSP response received" in result.detail
    assert sample(result, "probe_tls_ocsp_stapled") == 0


def test_stapling_may_be_expected_without_a_demand(authority, tmp_path):
    leaf = authority.issue()
    with stapling(authority, tmp_path, leaf, None) as url:
        assert asked(authority, url).success
        result = asked(authority, url, ocsp=True)
    assert result.reason is Reason.CERTIFICATE
    assert "should come with a good OCSP response" in result.detail


@pytest.mark.parametrize(
    ("status", "age"),
    [
        (ocsp.OCSPCertStatus.REVOKED, timedelta(hours=1)),
        (ocsp.OCSPCertStatus.GOOD, timedelta(days=9)),
    ],
)
def test_a_bad_response_is_as_good_as_none(authority, tmp_path, status, age):
    leaf = authority.issue(must_staple=True)
    with stapling(authority, tmp_path, leaf, authority.response(leaf, status, age)) as url:
        result = asked(authority, url)
    assert result.reason is Reason.CERTIFICATE
    assert sample(result, "probe_tls_ocsp_stapled") == 0


def test_many_probes_at_once_do_not_wait_for_one_that_stalls(ca):
    tls = server_context(ca.issue_cert("localhost"))

    async def scenario():
        async with talking(mute) as bad, talking(mute, tls) as good:
            options = {"ca_file": str(ca.file), "server_name": "localhost"}
            return await asyncio.gather(
                attempt(KIND, f"tls://127.0.0.1:{bad}", options, 4.0),
                *(attempt(KIND, f"tls://127.0.0.1:{good}", options, 4.0) for _ in range(20)),
            )

    bad, *good = run(scenario())
    assert bad.reason is Reason.TIMEOUT
    assert all(result.success and result.duration < 1.5 for result in good)
