"""The FTP prober against a vsftpd, and what only FTP has."""

import pytest
import trustme

from dolcevita.probes import Reason
from dolcevita.probes.ftp import KIND
from mailservers import home, vsftpd
from peers import attempt, talking
from webserver import has, run, sample

GUEST = {"username": "anonymous", "password": "guest@example.com"}


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    ca = trustme.CA()
    ca.file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(ca.file)
    return ca


@pytest.fixture(scope="module", params=["ftp", "ftps"])
def server(request, ca):
    leaf = ca.issue_cert("localhost")
    implicit = request.param == "ftps"
    with home() as folder, vsftpd(folder / "vsftpd", leaf, implicit) as port:
        yield f"{request.param}://localhost:{port}"


def test_its_greeting(server, ca):
    result = run(attempt(KIND, server, {"ca_file": ca.file}, greeting="Files of marie"))
    assert result.success, result.detail


def test_its_certificate(server, ca):
    result = run(attempt(KIND, server, {"ca_file": ca.file}, starttls=True))
    assert result.success, result.detail
    assert has(result, "probe_ssl_earliest_cert_expiry")
    assert sample(result, "probe_ftp_ssl") == 1


def test_a_login(server, ca):
    result = run(attempt(KIND, server, {"ca_file": ca.file, **GUEST}))
    assert result.success, result.detail
    assert result.detail.endswith("over TLS 1.3, and takes the login.")
    assert sample(result, "probe_ftp_duration_seconds", phase="login") > 0


def test_a_login_that_is_refused(server, ca):
    login = {"username": "marie", "password": "wrong"}
    result = run(attempt(KIND, server, {"ca_file": ca.file, **login}))
    assert result.reason is Reason.STATUS
    assert "refuses the login: '530 This FTP server is anonymous only.'" in result.detail


def test_a_server_without_tls():
    with home() as folder, vsftpd(folder / "vsftpd", None) as port:
        url = f"ftp://localhost:{port}"
        assert run(attempt(KIND, url, GUEST, starttls=False)).success
        result = run(attempt(KIND, url, starttls=True))
    assert result.reason is Reason.TLS
    assert result.detail.endswith("offers no AUTH TLS.")


def test_a_server_that_asks_for_patience():
    async def talk(reader, writer):
        writer.write(b"120 a moment\r\n220-Welcome\r\n  to these files\r\n220 now\r\n")
        await reader.readline()
        writer.write(b"331 who?\r\n")
        await reader.readline()
        writer.write(b"332 and for whom?\r\n")

    async def scenario():
        async with talking(talk) as port:
            return await attempt(KIND, f"ftp://127.0.0.1:{port}", GUEST, starttls=False)

    result = run(scenario())
    assert result.facts["greeting"] == "Welcome   to these files now"
    assert result.reason is Reason.STATUS
    assert "refuses the login: '332 and for whom?'" in result.detail
