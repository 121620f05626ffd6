"""What the mail and FTP probers share, against servers that misbehave in every protocol."""

import asyncio
import socket
import time
import tracemalloc
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from pydantic import ValidationError

from dolcevita.probes import Reason, Target, ftp, imap, pop3, probe, smtp
from peers import attempt, mute, says, seconds, self_signed, server_context, talking
from webserver import blackhole, closed_port, has, run, sample

KINDS = {"smtp": smtp.KIND, "imap": imap.KIND, "pop3": pop3.KIND, "ftp": ftp.KIND}
GREETINGS = {
    "smtp": "220 mail.example.com ESMTP",
    "imap": "* OK ready",
    "pop3": "+OK ready",
    "ftp": "220 files",
}
LOGIN = {"username": "marie", "password": "s3same"}

every_protocol = pytest.mark.parametrize("protocol", KINDS)


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    ca = trustme.CA()
    ca.file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(ca.file)
    return ca


def server(protocol, tls=None, offers=True, answers=None):
    """A server of the protocol that talks well; `answers` replaces what it says to a command."""
    yes = {"smtp": "250 ok", "imap": "a OK done", "pop3": "+OK", "ftp": "230 ok"}[protocol]
    commands = {
        "EHLO": "250-me\r\n250-AUTH PLAIN\r\n" + ("250 STARTTLS" if offers else "250 HELP"),
        "CAPABILITY": f"* CAPABILITY IMAP4rev1 AUTH=PLAIN{' STARTTLS' * offers}\r\na OK done",
        "CAPA": "+OK\r\nUSER\r\n" + "STLS\r\n" * offers + ".",
        "STARTTLS": {"smtp": "220 go on", "imap": "a OK go on"}.get(protocol, ""),
        "STLS": "+OK go on",
        "AUTH": "234 go on" if protocol == "ftp" and offers else "235 ok",
        "AUTHENTICATE": "+",
        "QUIT": "221 bye",
        **(answers or {}),
    }
    if protocol == "ftp" and not offers:
        commands["AUTH"] = "500 what?"
    begins_tls = {"STARTTLS", "STLS"} | ({"AUTH"} if protocol == "ftp" else set())

    async def talk(reader, writer):
        writer.write(f"{GREETINGS[protocol]}\r\n".encode())
        while line := (await reader.readline()).decode().strip():
            words = line.split()
            word = words[1] if protocol == "imap" and len(words) > 1 else words[0]
            talk.heard.append(word)
            writer.write(f"{commands.get(word, yes)}\r\n".encode())
            if word in begins_tls and tls and offers:
                await writer.drain()
                await writer.start_tls(tls)

    talk.heard = []
    return talk


def probed(protocol, talk, options=None, budget=5.0, tls=None, host="127.0.0.1", **expect):
    async def scenario():
        async with talking(talk, tls, "::1" if host == "[::1]" else "127.0.0.1") as port:
            scheme = f"{protocol}s" if tls else protocol
            url = f"{scheme}://{host}:{port}"
            return await attempt(KINDS[protocol], url, options, budget, **expect)

    return run(scenario())


@every_protocol
def test_a_greeting_is_enough_where_nothing_more_is_asked(protocol):
    talk = server(protocol, offers=False)
    result = probed(protocol, talk)
    assert result.success and result.reason is None
    assert result.detail.startswith("127.0.0.1 port ") and result.detail.endswith(" is ready.")
    assert sample(result, f"probe_{protocol}_ssl") == 0
    assert sample(result, "probe_ip_protocol") == 4
    assert sample(result, f"probe_{protocol}_duration_seconds", phase="greeting") > 0
    assert sample(result, f"probe_{protocol}_duration_seconds", phase="login") == 0
    assert {s.name for s in result.samples} <= set(KINDS[protocol].help)


@every_protocol
def test_the_prober_says_goodbye(protocol):
    talk = server(protocol)
    probed(protocol, talk)
    assert talk.heard[-1] == ("LOGOUT" if protocol == "imap" else "QUIT")


@every_protocol
def test_nobody_logs_in_who_was_not_told_to(protocol):
    talk = server(protocol)
    probed(protocol, talk)
    assert not {"AUTH", "AUTHENTICATE", "LOGIN", "USER", "PASS"} & set(talk.heard)


REFUSALS = {
    "smtp": ("AUTH", "535 5.7.8 no", "454 4.7.0 later"),
    "imap": ("AUTHENTICATE", "a NO [AUTHENTICATIONFAILED] no", "a NO [UNAVAILABLE] later"),
    "pop3": ("PASS", "-ERR [AUTH] no", "-ERR [SYS/TEMP] later"),
    "ftp": ("PASS", "530 no", "421 later"),
}


@every_protocol
@pytest.mark.parametrize("for_now", [False, True])
def test_a_refused_login_is_tried_again_only_where_the_server_says_later(protocol, for_now):
    word, never, later = REFUSALS[protocol]
    answers = {"USER": "331 and the password?"} if protocol == "ftp" else {}
    talk = server(protocol, offers=False, answers={**answers, word: later if for_now else never})
    kind = KINDS[protocol]

    async def scenario():
        async with talking(talk) as port:
            target = Target(
                f"{protocol}://127.0.0.1:{port}",
                kind.options(**LOGIN),
                kind.expect(starttls=False),
            )
            return await probe(kind, target, 5.0)

    result = run(scenario())
    assert result.reason is Reason.STATUS and "refuses the login" in result.detail
    assert result.attempts == talk.heard.count(word) == (2 if for_now else 1)


@every_protocol
def test_over_ipv6(protocol):
    result = probed(protocol, server(protocol), host="[::1]")
    assert result.success
    assert sample(result, "probe_ip_protocol") == 6


@every_protocol
def test_tls_from_the_begin_and_after_starttls(protocol, ca):
    expires = datetime.now(UTC) + timedelta(days=5)
    tls = server_context(ca.issue_cert("localhost", not_after=expires))
    options = {"ca_file": ca.file}
    for result in (
        probed(protocol, server(protocol), options, tls=tls, host="localhost"),
        probed(protocol, server(protocol, tls), options, host="localhost", starttls=True),
    ):
        assert result.success, result.detail
        assert result.detail.endswith("is ready, over TLS 1.3.")
        assert sample(result, f"probe_{protocol}_ssl") == 1
        assert sample(result, "probe_ssl_earliest_cert_expiry") == seconds(expires)
        assert sample(result, f"probe_{protocol}_duration_seconds", phase="tls") > 0
        assert {s.name for s in result.samples} <= set(KINDS[protocol].help)


@every_protocol
def test_starttls_that_is_not_offered(protocol):
    result = probed(protocol, server(protocol, offers=False), starttls=True)
    assert result.reason is Reason.TLS
    assert "offers no " in result.detail


@every_protocol
def test_starttls_that_is_offered_and_then_refused(protocol):
    no = {"smtp": "454 not now", "imap": "a NO not now", "pop3": "-ERR not now", "ftp": "431 no"}
    refusals = dict.fromkeys(("STARTTLS", "STLS"), no[protocol])
    if protocol == "ftp":
        refusals = {"AUTH": no["ftp"]}
    result = probed(protocol, server(protocol, answers=refusals), starttls=True)
    assert result.reason in (Reason.STATUS, Reason.TLS)
    assert not result.success


@every_protocol
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        ("expired", "has expired"),
        ("other name", "is for another name"),
        ("unknown", "is signed by an unknown CA"),
        ("self-signed", "is self-signed and not trusted"),
    ],
)
def test_a_certificate_that_is_wrong(protocol, fault, cause, ca, tmp_path):
    yesterday = datetime.now(UTC) - timedelta(days=1)
    tls = {
        "expired": lambda: server_context(ca.issue_cert("localhost", not_after=yesterday)),
        "other name": lambda: server_context(ca.issue_cert("www.example.com")),
        "unknown": lambda: server_context(trustme.CA().issue_cert("localhost")),
        "self-signed": lambda: self_signed(tmp_path),
    }[fault]()
    options = {"ca_file": ca.file}
    for result in (
        probed(protocol, server(protocol), options, tls=tls, host="localhost"),
        probed(protocol, server(protocol, tls), options, host="localhost", starttls=True),
    ):
        assert result.reason is Reason.CERTIFICATE
        assert result.detail.startswith(f"The certificate of localhost {cause}")
        assert result.phases[-1].name == "tls" and not result.phases[-1].finished


@every_protocol
def test_a_certificate_is_not_looked_at_where_that_is_asked(protocol):
    tls = server_context(trustme.CA().issue_cert("localhost"))
    result = probed(protocol, server(protocol), {"insecure": True}, tls=tls, host="localhost")
    assert result.success
    assert has(result, "probe_ssl_earliest_cert_expiry")


@every_protocol
def test_a_server_that_speaks_something_else(protocol):
    result = probed(protocol, says("HTTP/1.1 400 Bad Request"))
    assert result.reason is Reason.PROTOCOL
    assert f"does not speak {protocol.upper()}: 'HTTP/1.1 400 Bad Request'" in result.detail


@every_protocol
def test_tls_with_a_server_that_speaks_in_clear_text(protocol):
    async def scenario():
        async with talking(server(protocol)) as port:
            return await attempt(KINDS[protocol], f"{protocol}s://127.0.0.1:{port}")

    assert run(scenario()).reason is Reason.TLS


@every_protocol
def test_a_server_that_refuses_to_talk(protocol):
    refusal = {
        "smtp": "554 no service here",
        "imap": "* BYE too many",
        "pop3": "-ERR too many",
        "ftp": "421 too many",
    }
    result = probed(protocol, says(refusal[protocol]))
    assert result.reason is Reason.STATUS
    assert "refuses to talk: '" in result.detail


@every_protocol
@pytest.mark.parametrize("lines", [[], ["greeting"]], ids=["at once", "after its greeting"])
def test_a_server_that_hangs_up(protocol, lines):
    talk = says(*(GREETINGS[protocol] for _ in lines))
    result = probed(protocol, talk, LOGIN, starttls=False)
    assert result.reason is Reason.PROTOCOL
    assert "port" in result.detail


@every_protocol
def test_a_greeting_that_must_have_a_text(protocol):
    text = GREETINGS[protocol].split()[-1]
    assert probed(protocol, server(protocol), greeting=text).success
    result = probed(protocol, server(protocol), greeting="Courier")
    assert result.reason is Reason.CONTENT
    assert f"{text}', expected it to contain 'Courier'" in result.detail


@every_protocol
def test_a_server_that_is_silent_is_a_timeout_in_time(protocol):
    begin = time.perf_counter()
    result = probed(protocol, mute, budget=0.5)
    assert result.reason is Reason.TIMEOUT
    assert "accepts connections but does not greet in time" in result.detail
    assert 0.45 < time.perf_counter() - begin < 0.8


@every_protocol
def test_a_server_that_is_silent_after_its_greeting(protocol):
    async def talk(reader, writer):
        writer.write(f"{GREETINGS[protocol]}\r\n".encode())
        await mute(reader, writer)

    result = probed(protocol, talk, {"insecure": True}, budget=0.5, starttls=True)
    assert result.reason is Reason.TIMEOUT
    assert "greets but does not answer in time" in result.detail


@every_protocol
def test_a_server_that_begins_no_tls(protocol):
    async def scenario():
        async with talking(mute) as port:
            return await attempt(KINDS[protocol], f"{protocol}s://127.0.0.1:{port}", budget=0.6)

    result = run(scenario())
    assert result.reason is Reason.TIMEOUT
    assert "does not begin TLS in time" in result.detail


@every_protocol
def test_a_greeting_of_one_byte_after_the_other(protocol):
    async def talk(reader, writer):
        for byte in f"{GREETINGS[protocol]}{'!' * 100}\r\n".encode():
            writer.write(bytes([byte]))
            await asyncio.sleep(0.1)

    begin = time.perf_counter()
    assert probed(protocol, talk, budget=0.5).reason is Reason.TIMEOUT
    assert time.perf_counter() - begin < 0.8


@every_protocol
@pytest.mark.parametrize("endless", [b"x" * 65_536, b"220-\r\n* OK\r\n+OK\r\n" * 4000])
def test_an_endless_answer_ends_the_probe_and_takes_no_memory(protocol, endless):
    async def talk(reader, writer):
        writer.write(f"{GREETINGS[protocol]}\r\n".encode())
        while True:
            writer.write(endless)
            await writer.drain()

    tracemalloc.start()
    try:
        result = probed(protocol, talk, LOGIN, budget=3.0, starttls=False)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert not result.success
    assert result.duration < 2
    assert peak < 5_000_000


@every_protocol
def test_a_port_that_refuses_and_one_that_answers_no_packet(protocol):
    with closed_port() as port:
        result = run(attempt(KINDS[protocol], f"{protocol}://127.0.0.1:{port}"))
    assert result.reason is Reason.CONNECT
    assert result.detail == f"127.0.0.1 port {port} refuses the connection."
    with blackhole() as port:
        result = run(attempt(KINDS[protocol], f"{protocol}://127.0.0.1:{port}", budget=1.0))
    assert result.reason is Reason.CONNECT
    assert result.duration < 0.8, "half of the budget is for a second attempt"


@every_protocol
def test_a_name_that_does_not_exist(protocol):
    result = run(attempt(KINDS[protocol], f"{protocol}://mail.invalid"))
    assert result.reason is Reason.DNS
    assert sample(result, "probe_ip_protocol") == 0


def test_answers_slipped_in_before_tls_are_noticed():
    answers = {"STARTTLS": "220 go on\r\n250 evil"}
    result = probed("smtp", server("smtp", answers=answers), {"insecure": True}, starttls=True)
    assert result.reason is Reason.PROTOCOL
    assert "says more before TLS than it was asked" in result.detail


@every_protocol
def test_a_login_is_never_sent_in_clear_text_unless_that_is_asked(protocol):
    talk = server(protocol, offers=False)
    assert probed(protocol, talk, LOGIN).reason is Reason.TLS
    assert not {"AUTHENTICATE", "LOGIN", "USER", "PASS"} & set(talk.heard)


@every_protocol
def test_a_password_that_a_server_repeats_is_not_told(protocol):
    refusal = {
        "smtp": {"AUTH": "535 no AG1hcmllAHMzc2FtZQ== s3same for marie"},
        "imap": {"AUTHENTICATE": "a NO s3same for marie"},
        "pop3": {"PASS": "-ERR s3same for marie"},
        "ftp": {"USER": "530 s3same for marie"},
    }[protocol]
    result = probed(protocol, server(protocol, answers=refusal), LOGIN, starttls=False)
    assert result.reason is Reason.STATUS
    assert "refuses the login: '" in result.detail
    for secret in ("s3same", "marie", "AG1hcmllAHMzc2FtZQ"):
        assert secret not in repr(result)


def test_a_login_from_files_and_a_file_that_is_missing(tmp_path):
    (tmp_path / "name").write_text("marie\n")
    options = {"username_file": tmp_path / "name", "password_file": tmp_path / "password"}
    result = probed("pop3", server("pop3"), options, starttls=False)
    assert result.reason is Reason.LOCAL
    assert "password cannot be read: No such file or directory" in result.detail
    (tmp_path / "password").write_text("s3same\n")
    said = []

    async def talk(reader, writer):
        writer.write(b"+OK\r\n")
        while line := await reader.readline():
            said.append(line)
            writer.write(b"+OK\r\n")

    assert probed("pop3", talk, options, starttls=False).success
    assert said == [b"USER marie\r\n", b"PASS s3same\r\n", b"QUIT\r\n"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"username": "marie"}, "half a login"),
        ({"password": "s3same"}, "half a login"),
        ({**LOGIN, "password_file": "/secret"}, "found both password and password_file"),
        ({**LOGIN, "password": 1234}, "put it in quotes"),
        ({**LOGIN, "password": "a\r\nQUIT"}, "expected one line"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_without_the_secret(options, words):
    with pytest.raises(ValidationError) as error:
        smtp.Options.model_validate(options)
    told = "\n".join(fault["msg"] for fault in error.value.errors())
    assert words in told
    assert "s3same" not in told and "1234" not in told
    assert "s3same" not in repr(smtp.Options.model_validate(LOGIN))


def test_a_server_that_resets_the_connection():
    async def talk(reader, writer):
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.write(b"220 hello\r\n")
        await reader.readline()

    assert probed("smtp", talk).reason is Reason.PROTOCOL
