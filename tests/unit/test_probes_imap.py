"""The IMAP prober against a Dovecot, and what only IMAP has."""

import pytest
import trustme

from dolcevita.probes import Reason
from dolcevita.probes.imap import KIND
from mailservers import PASSWORD, USERNAME, dovecot, home
from peers import attempt, says, talking
from waiting import until
from webserver import has, run, sample

LOGIN = {"username": USERNAME, "password": PASSWORD}


@pytest.fixture(scope="module")
def server():
    ca = trustme.CA()
    with home() as folder:
        ca.cert_pem.write_to_path(folder / "ca.pem")
        with dovecot(folder / "dovecot", ca.issue_cert("localhost"), "imap") as ports:
            yield ports, folder


def probed(server, scheme="imap", options=None, **expect):
    ports, folder = server
    port = ports.secure if scheme == "imaps" else ports.plain
    options = {"ca_file": folder / "ca.pem", **(options or {})}
    return run(attempt(KIND, f"{scheme}://localhost:{port}", options, **expect))


def test_its_greeting_is_told_without_the_capabilities(server):
    result = probed(server, greeting="Dovecot")
    assert result.success
    assert result.facts["greeting"].startswith("Dovecot")


def test_its_certificate_is_seen_through_starttls(server):
    result = probed(server, starttls=True)
    assert result.success
    assert has(result, "probe_ssl_earliest_cert_expiry")
    assert sample(result, "probe_tls_version_info", version="TLS 1.3") == 1


@pytest.mark.parametrize("scheme", ["imap", "imaps"])
def test_a_login_with_an_awkward_password(server, scheme):
    result = probed(server, scheme, LOGIN)
    assert result.success, result.detail
    assert result.detail.endswith("over TLS 1.3, and takes the login.")
    assert sample(result, "probe_imap_duration_seconds", phase="login") > 0
    assert sample(result, "probe_imap_ssl") == 1


@pytest.mark.parametrize("scheme", ["imap", "imaps"])
def test_a_wrong_password(server, scheme):
    result = probed(server, scheme, {**LOGIN, "password": "wrong"})
    assert result.reason is Reason.STATUS
    assert "refuses the login: 'NO [AUTHENTICATIONFAILED]" in result.detail


def test_it_sees_a_goodbye_not_a_lost_connection(server):
    probed(server, "imaps", LOGIN)
    ports, _ = server
    until(lambda: "Logged out" in ports.log.read_text().splitlines()[-1], "the goodbye in the log")


def test_a_mailbox_that_does_not_open_after_the_login():
    async def talk(reader, writer):
        writer.write(b"* OK ready\r\n")
        await reader.readline()
        writer.write(b"* CAPABILITY IMAP4rev1\r\na OK\r\n")
        assert (await reader.readline()) == b'a LOGIN "ma\\"rie" "se\\\\same"\r\n'
        writer.write(b"a OK Logged in\r\n")
        await reader.readline()
        writer.write(b"* BYE Internal error\r\na NO Internal error\r\n")

    async def scenario():
        async with talking(talk) as port:
            options = {"username": 'ma"rie', "password": "se\\same"}
            return await attempt(KIND, f"imap://127.0.0.1:{port}", options, starttls=False)

    result = run(scenario())
    assert result.reason is Reason.STATUS
    assert "refuses to open the mailbox: 'NO Internal error'" in result.detail


def test_a_server_that_takes_no_login_that_is_known():
    lines = ["* OK ready", "* CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=GSSAPI", "a OK"]

    async def scenario():
        async with talking(says(*lines)) as port:
            return await attempt(KIND, f"imap://127.0.0.1:{port}", LOGIN, starttls=False)

    result = run(scenario())
    assert result.reason is Reason.STATUS
    assert "offers no login that this prober knows (PLAIN, LOGIN)" in result.detail
