"""The prober of unix sockets."""

import socket
import time

import pytest
import trustme
from pydantic import ValidationError

from dolcevita.probes import Reason
from dolcevita.probes.unix import KIND, Options
from peers import attempt, mute, says, server_context, talking, upgrading
from test_probes_tcp import STARTTLS
from webserver import has, run, sample


@pytest.fixture
def path(tmp_path_factory):
    # A path of more than 107 bytes cannot be bound.
    return tmp_path_factory.mktemp("u") / "my app.sock"


def talked(path, talk, options=None, budget=5.0, tls=None, **expect):
    async def scenario():
        async with talking(talk, tls, unix=path):
            url = f"unix://{str(path).replace(' ', '%20')}"
            return await attempt(KIND, url, options, budget, **expect)

    return run(scenario())


def test_a_socket_that_answers_is_fine_and_measured(path):
    steps = [{"expect": "^(hello)", "labels": [{"name": "word", "value": "$1"}]}]
    result = talked(path, says("hello"), {"query_response": steps})
    assert result.success, result.detail
    assert sample(result, "probe_expect_info", word="hello") == 1
    assert sample(result, "probe_failed_due_to_regex") == 0
    assert sample(result, "probe_unix_duration_seconds", phase="connect") > 0
    assert not has(result, "probe_ip_protocol")


def test_another_banner_than_expected(path):
    result = talked(path, says("bye"), banner="^hello")
    assert result.reason is Reason.CONTENT
    assert f"The socket {path} sends 'bye'" in result.detail


def test_silence_is_a_timeout(path):
    result = talked(path, mute, budget=0.4, banner="^hello")
    assert result.reason is Reason.TIMEOUT
    assert result.duration < 0.6


def test_hanging_up_at_once(path):
    assert talked(path, says(), banner="^hello").reason is Reason.PROTOCOL


def test_starttls_on_a_socket(path, tmp_path):
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    options = {
        "query_response": STARTTLS,
        "server_name": "app.example.com",
        "ca_file": str(tmp_path / "ca.pem"),
    }
    good = upgrading(server_context(ca.issue_cert("app.example.com")))
    result = talked(path, good, options)
    assert result.success, result.detail
    assert has(result, "probe_ssl_last_chain_info")
    wrong = upgrading(server_context(ca.issue_cert("www.example.com")))
    result = talked(path, wrong, options)
    assert result.reason is Reason.CERTIFICATE
    assert result.detail == "The certificate of app.example.com is for another name."


def test_a_server_that_speaks_no_tls(path):
    result = talked(path, says("hello"), {"tls": True, "insecure": True})
    assert result.reason is Reason.TLS


@pytest.mark.parametrize("options", [{"tls": True}, {"query_response": [{"starttls": True}]}])
def test_tls_without_a_name_to_expect_is_refused(options):
    with pytest.raises(ValidationError, match="expected 'server_name'"):
        Options(**options)


def test_a_path_that_does_not_exist(path):
    result = run(attempt(KIND, f"unix://{path.parent}/none"))
    assert result.reason is Reason.CONNECT
    assert result.detail == f"The socket {path.parent}/none does not exist."


def test_a_socket_that_nobody_listens_on(path):
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(path))
    result = run(attempt(KIND, f"unix://{path}"))
    assert result.reason is Reason.CONNECT
    assert "has nobody who listens on it" in result.detail


def test_a_file_that_is_no_socket(path):
    path.touch()
    assert run(attempt(KIND, f"unix://{path}")).reason is Reason.CONNECT


def test_a_datagram_socket_says_so(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(path))
        result = run(attempt(KIND, f"unix://{path}"))
    assert result.reason is Reason.CONNECT
    assert "is for datagrams" in result.detail


def test_a_full_backlog_leaves_time_for_a_second_attempt(path):
    waiting = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        for _ in range(4):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            client.connect_ex(str(path))
            waiting.append(client)
        begin = time.monotonic()
        result = run(attempt(KIND, f"unix://{path}", budget=1.0))
        for client in waiting:
            client.close()
    assert result.reason is Reason.CONNECT
    assert "accepts no more connections" in result.detail
    assert time.monotonic() - begin < 0.8


def test_a_path_longer_than_a_socket_can_have():
    result = run(attempt(KIND, f"unix:///{'x' * 200}"))
    assert result.reason is Reason.CONNECT


@pytest.mark.parametrize("url", ["unix://run/app.sock", "unix:run/app.sock", "unix://"])
def test_a_path_that_is_not_absolute_says_what_to_write(url):
    result = run(attempt(KIND, url))
    assert result.reason is Reason.PROTOCOL
    assert "unix:///run/app.sock" in result.detail
