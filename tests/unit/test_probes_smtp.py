"""The SMTP prober against a Postfix and an aiosmtpd, and what only SMTP has."""

import asyncio

import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from dolcevita.probes import Reason
from dolcevita.probes.smtp import KIND
from mailservers import PASSWORD, USERNAME, dovecot, home, postfix
from peers import attempt, server_context, talking
from waiting import free_port
from webserver import has, run, sample

LOGIN = {"username": USERNAME, "password": PASSWORD}


@pytest.fixture(scope="module")
def server():
    ca = trustme.CA()
    leaf = ca.issue_cert("localhost")
    with (
        home() as folder,
        dovecot(folder / "dovecot", leaf, "imap") as logins,
        postfix(folder / "postfix", leaf, logins.auth) as ports,
    ):
        ca.cert_pem.write_to_path(folder / "ca.pem")
        yield ports, folder


def probed(server, scheme="smtp", options=None, **expect):
    ports, folder = server
    port = ports.secure if scheme == "smtps" else ports.plain
    options = {"ca_file": folder / "ca.pem", **(options or {})}
    return run(attempt(KIND, f"{scheme}://localhost:{port}", options, **expect))


def test_its_greeting(server):
    result = probed(server, greeting="Postfix")
    assert result.success
    assert result.facts["greeting"] == "mail.example.com ESMTP Postfix"
    assert not has(result, "probe_ssl_earliest_cert_expiry")


def test_its_certificate_is_seen_through_starttls(server):
    result = probed(server, starttls=True)
    assert result.success
    assert has(result, "probe_ssl_earliest_cert_expiry")
    assert sample(result, "probe_tls_version_info", version="TLS 1.3") == 1
    assert sample(result, "probe_smtp_ssl") == 1


def test_submission_is_encrypted_without_asking(server):
    assert sample(probed(server, "submission"), "probe_smtp_ssl") == 1
    assert sample(probed(server, "submission", starttls=False), "probe_smtp_ssl") == 0


@pytest.mark.parametrize("scheme", ["smtp", "submission", "smtps"])
def test_a_login_with_an_awkward_password(server, scheme):
    result = probed(server, scheme, LOGIN)
    assert result.success, result.detail
    assert result.detail.endswith("over TLS 1.3, and takes the login.")


@pytest.mark.parametrize("scheme", ["smtp", "submission", "smtps"])
def test_a_wrong_password(server, scheme):
    result = probed(server, scheme, {**LOGIN, "password": "wrong"})
    assert result.reason is Reason.STATUS
    assert "refuses the login: '535 5.7.8 Error: authentication failed" in result.detail


def test_it_sees_a_goodbye_not_a_lost_connection(server):
    probed(server, "submission", LOGIN)
    probed(server, "submission", {**LOGIN, "password": "wrong"})
    ports, _ = server
    seen = [line for line in ports.log.read_text().splitlines() if "auth=" in line]
    assert "auth=1 quit=1" in seen[-2]
    assert "auth=0/1 quit=1" in seen[-1]


def test_a_login_of_two_questions(tmp_path):
    """AUTH LOGIN, with an aiosmtpd that offers nothing else."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")

    def known(server, session, envelope, mechanism, data):
        right = (data.login, data.password) == (USERNAME.encode(), PASSWORD.encode())
        return AuthResult(success=right, handled=False)

    controller = Controller(
        object(),
        hostname="127.0.0.1",
        port=free_port(),
        tls_context=server_context(ca.issue_cert("localhost")),
        authenticator=known,
        auth_exclude_mechanism=["PLAIN"],
    )
    controller.start()
    try:
        url = f"submission://localhost:{controller.port}"
        options = {"ca_file": tmp_path / "ca.pem", **LOGIN}
        right = run(attempt(KIND, url, options))
        wrong = run(attempt(KIND, url, {**options, "password": "wrong"}))
    finally:
        controller.stop()
    assert right.success, right.detail
    assert wrong.reason is Reason.STATUS
    assert "refuses the login: '535" in wrong.detail


def told(answers, options=None, host="127.0.0.1", **expect):
    """What a server of these answers hears, and the result."""
    heard = []

    async def talk(reader, writer):
        for answer in answers:
            writer.write(answer.encode() + b"\r\n")
            heard.append((await reader.readline()).decode().strip())

    async def scenario():
        async with talking(talk, host=host.strip("[]")) as port:
            return await attempt(KIND, f"smtp://{host}:{port}", options, **expect)

    return heard, run(scenario())


def test_it_introduces_itself_with_its_address_or_the_name_it_is_given():
    assert told(["220 hi", "250 me"])[0][0] == "EHLO [127.0.0.1]"
    assert told(["220 hi", "250 me"], host="[::1]")[0][0] == "EHLO [IPv6:::1]"
    assert told(["220 hi", "250 me"], {"helo": "watch.example.com"})[0][0] == (
        "EHLO watch.example.com"
    )


def test_a_server_that_knows_no_ehlo():
    heard, result = told(["220 hi", "502 what?", "250 me"])
    assert result.success
    assert heard == ["EHLO [127.0.0.1]", "HELO [127.0.0.1]", "QUIT"]


def test_a_server_that_refuses_ehlo():
    _, result = told(["220 hi", "550 your address is blocked"])
    assert result.reason is Reason.STATUS
    assert "refuses EHLO: '550 your address is blocked'" in result.detail


def test_a_greeting_of_many_lines_and_empty_capabilities():
    _, result = told(["220-one\r\n220-\r\n220 three", "250-me\r\n250-\r\n250"], greeting="three")
    assert result.success, result.detail


def test_a_greeting_after_a_pause_is_waited_for():
    async def talk(reader, writer):
        await asyncio.sleep(0.8)
        writer.write(b"220 hi\r\n")
        await reader.readline()
        writer.write(b"250 me\r\n")

    async def scenario():
        async with talking(talk) as port:
            return await attempt(KIND, f"smtp://127.0.0.1:{port}", budget=1.2)

    result = run(scenario())
    assert result.success, "only connecting is limited to half of the time"
    assert sample(result, "probe_smtp_duration_seconds", phase="greeting") > 0.75
