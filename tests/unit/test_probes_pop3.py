"""The POP3 prober against a Dovecot, and what only POP3 has."""

import pytest
import trustme

from dolcevita.probes import Reason
from dolcevita.probes.pop3 import KIND
from mailservers import PASSWORD, USERNAME, dovecot, home
from peers import attempt, says, talking
from webserver import has, run, sample

LOGIN = {"username": USERNAME, "password": PASSWORD}


@pytest.fixture(scope="module")
def server():
    ca = trustme.CA()
    with home() as folder:
        ca.cert_pem.write_to_path(folder / "ca.pem")
        with dovecot(folder / "dovecot", ca.issue_cert("localhost"), "pop3") as ports:
            yield ports, folder


def probed(server, scheme="pop3", options=None, **expect):
    ports, folder = server
    port = ports.secure if scheme == "pop3s" else ports.plain
    options = {"ca_file": folder / "ca.pem", **(options or {})}
    return run(attempt(KIND, f"{scheme}://localhost:{port}", options, **expect))


def test_its_greeting_and_its_certificate_through_starttls(server):
    result = probed(server, starttls=True, greeting="Dovecot")
    assert result.success, result.detail
    assert has(result, "probe_ssl_earliest_cert_expiry")


@pytest.mark.parametrize("scheme", ["pop3", "pop3s"])
def test_a_login_with_an_awkward_password(server, scheme):
    result = probed(server, scheme, LOGIN)
    assert result.success, result.detail
    assert result.detail.endswith("over TLS 1.3, and takes the login.")
    assert sample(result, "probe_pop3_duration_seconds", phase="login") > 0


@pytest.mark.parametrize("scheme", ["pop3", "pop3s"])
def test_a_wrong_password(server, scheme):
    result = probed(server, scheme, {**LOGIN, "password": "wrong"})
    assert result.reason is Reason.STATUS
    assert "refuses the login: '[AUTH] Authentication failed.'" in result.detail


def test_a_server_that_knows_no_capa_offers_no_stls():
    async def scenario():
        async with talking(says("+OK ready", "-ERR what?")) as port:
            return await attempt(KIND, f"pop3://127.0.0.1:{port}", starttls=True)

    result = run(scenario())
    assert result.reason is Reason.TLS
    assert result.detail.endswith("offers no STLS.")
