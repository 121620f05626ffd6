"""The TCP prober against servers that talk well, badly or not at all."""

import asyncio
import shutil
import socket
import subprocess
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme
from pydantic import ValidationError

from dolcevita.probes import Reason, Result
from dolcevita.probes.tcp import KIND, Options
from peers import (
    attempt,
    mute,
    says,
    seconds,
    self_signed,
    server_context,
    talking,
    upgrading,
)
from waiting import free_port, until
from webserver import blackhole, closed_port, has, run, sample

STARTTLS = [
    {"expect": "^220 "},
    {"send": "EHLO prober\r"},
    {"expect": "^250 STARTTLS"},
    {"send": "STARTTLS\r"},
    {"expect": "^220 "},
    {"starttls": True},
    {"send": "EHLO prober\r"},
    {"expect": "^250 welcome"},
]


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    ca = trustme.CA()
    ca.file = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(ca.file)
    return ca


def talked(talk, steps=(), budget=5.0, tls=None, host="127.0.0.1", options=None, **expect):
    async def scenario() -> Result:
        async with talking(talk, tls) as port:
            url = f"tcp://{host}:{port}"
            return await attempt(
                KIND, url, {"query_response": list(steps), **(options or {})}, budget, **expect
            )

    return run(scenario())


def test_a_port_that_accepts_is_fine_and_measured():
    result = talked(mute)
    assert result.success and result.reason is None
    assert sample(result, "probe_ip_protocol") == 4
    assert sample(result, "probe_failed_due_to_regex") == 0
    assert sample(result, "probe_failed_due_to_bytes") == 0
    assert sample(result, "probe_tcp_duration_seconds", phase="connect") > 0
    assert sample(result, "probe_tcp_duration_seconds", phase="tls") == 0
    assert not has(result, "probe_expect_info")


def test_ipv6():
    async def scenario():
        async with talking(says("SSH-2.0-test"), host="::1") as port:
            return await attempt(KIND, f"tcp://[::1]:{port}", banner="^SSH-2")

    result = run(scenario())
    assert result.success
    assert sample(result, "probe_ip_protocol") == 6


def test_an_address_of_the_other_version_is_taken_only_as_a_fallback():
    assert talked(says("hello"), options={"ip_version": 6}).reason is Reason.DNS
    assert talked(says("hello"), options={"ip_version": 6, "ip_fallback": True}).success


def test_the_source_address_can_be_chosen():
    async def tell(reader, writer):
        writer.write(writer.get_extra_info("peername")[0].encode() + b"\n")

    assert talked(
        tell, options={"source_ip_address": "127.0.0.9"}, banner=r"^127\.0\.0\.9$"
    ).success


def test_a_name_that_does_not_exist():
    result = run(attempt(KIND, "tcp://nowhere.invalid:25"))
    assert result.reason is Reason.DNS
    assert "nowhere.invalid" in result.detail
    assert not result.phases[-1].finished


def test_a_port_that_refuses():
    with closed_port() as port:
        result = run(attempt(KIND, f"tcp://127.0.0.1:{port}"))
    assert result.reason is Reason.CONNECT
    assert result.detail == f"127.0.0.1 port {port} refuses the connection."
    assert sample(result, "probe_ip_protocol") == 4
    assert not has(result, "probe_failed_due_to_regex")


def test_a_host_that_does_not_answer_leaves_time_for_a_second_attempt():
    with blackhole() as port:
        begin = time.monotonic()
        result = run(attempt(KIND, f"tcp://127.0.0.1:{port}", budget=1.0))
    assert result.reason is Reason.CONNECT
    assert result.detail == f"127.0.0.1 port {port} does not answer."
    assert time.monotonic() - begin < 0.8


def test_a_url_without_a_port_says_what_to_write():
    result = run(attempt(KIND, "tcp://127.0.0.1"))
    assert result.reason is Reason.PROTOCOL
    assert "names no port" in result.detail


def test_a_dialogue_reads_on_until_a_line_matches_and_sends_what_it_found():
    async def echo(reader, writer):
        writer.write(b"first\r\n220 mail-7 ESMTP\r\n")
        writer.write(b"heard " + await reader.readline())

    steps = [
        {
            "expect": r"^220 (?P<host>\S+)",
            "labels": [{"name": "mail_host", "value": "<${host}>"}],
            "send": "hello $1, ${1}! $$5",
        },
        {"expect": r"^heard hello mail-7, mail-7! \$5$"},
    ]
    result = talked(echo, steps)
    assert result.success, result.detail
    assert sample(result, "probe_expect_info", mail_host="<mail-7>") == 1


def test_labels_of_all_steps_are_one_series():
    steps = [
        {"expect": "(one)", "labels": [{"name": "a", "value": "$1"}]},
        {"expect": "(two)", "labels": [{"name": "b", "value": "$1$nobody"}]},
    ]
    assert sample(talked(says("one", "two"), steps), "probe_expect_info", a="one", b="two") == 1


def test_another_line_than_expected_is_told():
    result = talked(says("554 go away"), banner="^220 ")
    assert result.reason is Reason.CONTENT
    assert "sends '554 go away', expected a line that matches '^220 '" in result.detail
    assert sample(result, "probe_failed_due_to_regex") == 1


def test_another_line_from_a_server_that_stays_is_told_too():
    async def stubborn(reader, writer):
        writer.write(b"421 too busy\r\n")
        await mute(reader, writer)

    result = talked(stubborn, budget=0.4, banner="^220 ")
    assert result.reason is Reason.CONTENT
    assert "421 too busy" in result.detail


def test_exact_bytes():
    steps = [{"send": "PING", "expect_bytes": "RFB 003"}, {"expect": r"^\.008"}]
    result = talked(says("RFB 003.008"), steps)
    assert result.success
    assert sample(result, "probe_failed_due_to_bytes") == 0


def test_other_bytes_than_expected_are_told():
    result = talked(says("HTTP/1.1 400"), [{"expect_bytes": "RFB"}])
    assert result.reason is Reason.CONTENT
    assert "sends 'HTT', expected 'RFB'" in result.detail
    assert sample(result, "probe_failed_due_to_bytes") == 1


@pytest.mark.parametrize("step", [{"expect": "^220"}, {"expect_bytes": "RFB"}])
def test_a_server_that_hangs_up_without_a_word(step):
    result = talked(says(), [step])
    assert result.reason is Reason.PROTOCOL
    assert "closed the connection before it sent" in result.detail


def test_a_server_that_resets_the_connection():
    async def reset(reader, writer):
        linger = b"\x01\0\0\0\0\0\0\0"
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    result = talked(reset, [{"expect": "^220"}])
    assert result.reason is Reason.PROTOCOL


def test_silence_is_a_timeout():
    begin = time.monotonic()
    result = talked(mute, budget=0.5, banner="^220")
    assert result.reason is Reason.TIMEOUT
    assert "does not send a line that matches '^220' in time" in result.detail
    assert time.monotonic() - begin < 0.8


def test_a_byte_now_and_then_is_a_timeout():
    async def drip(reader, writer):
        while True:
            writer.write(b"2")
            await writer.drain()
            await asyncio.sleep(0.05)

    result = talked(drip, budget=0.5, banner="^220")
    assert result.reason is Reason.TIMEOUT
    assert result.duration < 0.7


def test_a_server_that_takes_nothing_is_a_timeout():
    async def deaf(reader, writer):
        await asyncio.sleep(30)

    result = talked(deaf, [{"send": "x" * 20_000_000}], budget=0.6)
    assert result.reason is Reason.TIMEOUT
    assert "does not take what is sent in time" in result.detail


def test_lines_without_end_end_in_time_and_leave_others_alone():
    def flood(listener: socket.socket) -> None:
        with suppress(OSError):
            connection = listener.accept()[0]
            while True:
                connection.sendall(b"no\n" * 20_000)

    async def scenario(port: int) -> list[Result]:
        async with talking(says("220 fine")) as good:
            return await asyncio.gather(
                attempt(KIND, f"tcp://127.0.0.1:{port}", budget=1.0, banner="^220"),
                attempt(KIND, f"tcp://127.0.0.1:{good}", budget=1.0, banner="^220"),
            )

    # From a thread, so that it goes on whatever the event loop does.
    with socket.create_server(("127.0.0.1", 0)) as listener:
        flooding = threading.Thread(target=flood, args=(listener,))
        flooding.start()
        bad, good = run(scenario(listener.getsockname()[1]))
        flooding.join()
    assert bad.reason is Reason.CONTENT
    assert bad.duration < 1.3
    assert good.success


def test_a_line_that_is_made_for_an_expression_takes_it_no_time():
    begin = time.monotonic()
    result = talked(says("a" * 60), banner="^(a+)+b$")
    assert result.reason is Reason.CONTENT
    assert "expected a line that matches" in result.detail
    assert time.monotonic() - begin < 2


def test_a_line_without_end_takes_little_memory():
    async def endless(reader, writer):
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    tracemalloc.start()
    result = talked(endless, banner="^220")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.reason is Reason.PROTOCOL
    assert "a line of more than 65,536 bytes" in result.detail
    assert peak < 5_000_000


def test_starttls_within_the_dialogue(ca):
    expires = datetime.now(UTC) + timedelta(days=9)
    leaf = ca.issue_cert("localhost", not_after=expires)
    options = {"ca_file": str(ca.file), "ip_version": 4}
    result = talked(upgrading(server_context(leaf)), STARTTLS, host="localhost", options=options)
    assert result.success, result.detail
    assert sample(result, "probe_ssl_earliest_cert_expiry") == seconds(expires)
    assert sample(result, "probe_tls_version_info", version="TLS 1.3") == 1
    assert [phase.name for phase in result.phases] == [
        *("resolve", "connect", "dialogue", "tls", "dialogue")
    ]


def test_starttls_with_an_expired_certificate(ca):
    leaf = ca.issue_cert("localhost", not_after=datetime.now(UTC) - timedelta(days=1))
    options = {"ca_file": str(ca.file), "ip_version": 4}
    result = talked(upgrading(server_context(leaf)), STARTTLS, host="localhost", options=options)
    assert result.reason is Reason.CERTIFICATE
    assert result.detail == "The certificate of localhost has expired."


def test_words_before_tls_do_not_count_as_said_within_it(ca):
    context = server_context(ca.issue_cert("localhost"))

    async def injecting(reader, writer):
        writer.write(b"220 go on\r\n250 forged\r\n")
        await writer.drain()
        await writer.start_tls(context)
        await mute(reader, writer)

    steps = [{"expect": "^220", "starttls": True}, {"expect": "^250"}]
    options = {"ca_file": str(ca.file), "server_name": "localhost"}
    result = talked(injecting, steps, budget=1.0, options=options)
    assert result.reason is Reason.TIMEOUT
    assert "does not send a line that matches '^250' in time" in result.detail


def test_tls_from_the_beginning(ca):
    options = {"tls": True, "ca_file": str(ca.file), "server_name": "localhost"}
    tls = server_context(ca.issue_cert("localhost"))
    result = talked(says("* OK ready"), tls=tls, options=options, banner=r"^\* OK")
    assert result.success, result.detail
    assert result.certificates[0].names == ("localhost",)


def test_a_server_that_speaks_no_tls():
    result = talked(says("220 ready"), options={"tls": True})
    assert result.reason is Reason.TLS
    assert "wrong version number" in result.detail


def test_a_server_that_begins_no_tls_leaves_time_for_a_second_attempt():
    result = talked(mute, options={"tls": True}, budget=0.8)
    assert result.reason is Reason.TIMEOUT
    assert "does not begin TLS in time" in result.detail
    assert result.duration < 0.6


def test_a_self_signed_certificate_and_that_it_may_be_accepted(tmp_path):
    tls = self_signed(tmp_path)
    result = talked(says("hi"), tls=tls, options={"tls": True}, banner="hi")
    assert result.reason is Reason.CERTIFICATE
    assert "is self-signed and not trusted" in result.detail
    result = talked(says("hi"), tls=tls, options={"tls": True, "insecure": True}, banner="hi")
    assert result.success
    assert has(result, "probe_ssl_earliest_cert_expiry")
    assert not has(result, "probe_ssl_last_chain_expiry_timestamp_seconds")


def test_a_certificate_file_that_changes_is_read_again(ca, tmp_path):
    file = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(file)
    options = {"tls": True, "ca_file": str(file), "server_name": "localhost"}
    tls = server_context(ca.issue_cert("localhost"))
    assert talked(says("hi"), tls=tls, options=options).reason is Reason.CERTIFICATE
    ca.cert_pem.write_to_path(file)
    assert talked(says("hi"), tls=tls, options=options).success


@pytest.mark.parametrize("option", ["ca_file", "cert_file"])
def test_a_file_that_is_missing_is_named(option, tmp_path):
    result = talked(says("hi"), options={"tls": True, option: str(tmp_path / "none.pem")})
    assert result.reason is Reason.LOCAL
    assert "none.pem cannot be read" in result.detail


def test_a_secret_is_sent_and_never_told(tmp_path):
    (tmp_path / "secret").write_text("LOGIN marie hunter2\n")

    async def parrot(reader, writer):
        writer.write(b"NO " + await reader.readline())

    steps = [{"send_file": str(tmp_path / "secret")}, {"expect": "^(NO .*)$"}]
    steps[1]["labels"] = [{"name": "answer", "value": "$1"}]
    assert sample(talked(parrot, steps), "probe_expect_info", answer="NO ***") == 1
    result = talked(parrot, [steps[0], {"expect": "^OK"}])
    assert result.reason is Reason.CONTENT
    assert "NO ***" in result.detail and "hunter2" not in repr(result)


def test_a_file_to_send_that_is_missing_is_named(tmp_path):
    result = talked(mute, [{"send_file": str(tmp_path / "none")}])
    assert result.reason is Reason.LOCAL
    assert "none cannot be read: No such file" in result.detail


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"expect": "("}], "no regular expression"),
        ([{"expect": "a", "expect_bytes": "b"}], "not both"),
        ([{"labels": [{"name": "a", "value": "b"}]}], "expected 'expect' beside 'labels'"),
        ([{"expect": "a", "labels": [{"name": "owner", "value": "b"}]}], "stack itself"),
        ([{"expect": "a", "labels": [{"name": "a b", "value": "b"}]}], "letters, digits"),
        ([{"exepct": "a"}], "exepct"),
    ],
)
def test_a_dialogue_that_cannot_be_held_is_refused(steps, message):
    with pytest.raises(ValidationError, match=message):
        Options(query_response=steps)


@contextmanager
def openssl_server(ca, folder, *arguments) -> Iterator[tuple[str, dict[str, Any]]]:
    """OpenSSL's own server: its URL, and the options that trust it."""
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed")
    port = free_port()
    leaf = ca.issue_cert("localhost")
    leaf.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", folder / "both.pem"]
    server = subprocess.Popen(
        [*command, "-www", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    )
    url = f"tcp://127.0.0.1:{port}"
    try:
        until(lambda: run(attempt(KIND, url)).success, "a listening openssl s_server")
        dialogue = [{"send": "GET / HTTP/1.0\r\n\r"}, {"expect": "^HTTP/1.0 200"}]
        options = {"tls": True, "ca_file": str(ca.file), "server_name": "localhost"}
        yield url, {**options, "query_response": dialogue}
    finally:
        server.terminate()
        server.wait()


def test_openssl_as_a_server_of_tls_1_2(ca, tmp_path):
    with openssl_server(ca, tmp_path, "-tls1_2") as (url, options):
        result = run(attempt(KIND, url, options))
    assert result.success, result.detail
    assert sample(result, "probe_tls_version_info", version="TLS 1.2") == 1


def test_a_client_certificate(ca, tmp_path):
    ca.issue_cert("prober@example.com").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "mine.pem"
    )
    verify = ("-Verify", "1", "-verify_return_error", "-CAfile", ca.file)
    with openssl_server(ca, tmp_path, *verify) as (url, options):
        without = run(attempt(KIND, url, options))
        shown = run(attempt(KIND, url, {**options, "cert_file": str(tmp_path / "mine.pem")}))
    assert without.reason is Reason.TLS
    assert "certificate required" in without.detail
    assert shown.success, shown.detail
