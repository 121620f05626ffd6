"""HTTP/1.1, 2 and 3, chosen and required, against a server that speaks them all."""

import pytest
import trustme

from caddy import caddy
from dolcevita.probes import Reason
from waiting import free_port
from webserver import has, probe, run, sample


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    ca = trustme.CA()
    ca.folder = tmp_path_factory.mktemp("ca")
    ca.file = ca.folder / "ca.pem"
    ca.cert_pem.write_to_path(ca.file)
    ca.pair = ca.folder / "pair.pem"
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(ca.pair)
    return ca


@pytest.fixture(scope="module")
def server(tmp_path_factory, ca):
    with caddy(tmp_path_factory.mktemp("caddy"), ca.pair) as port:
        yield f"https://localhost:{port}/"


@pytest.fixture(scope="module")
def old_server(tmp_path_factory, ca):
    with caddy(tmp_path_factory.mktemp("caddy"), ca.pair, ("h1",)) as port:
        yield f"https://localhost:{port}/"


def get(url, ca, budget=3.0, version=None, **expect):
    options = {"ca_file": ca.file, "http_version": version, "ip_version": 4}
    return run(probe(url, budget, options, **expect))


@pytest.mark.parametrize(("version", "got"), [(None, 2), (1.1, 1.1), (2, 2), (3, 3)])
def test_a_version_is_chosen_and_required(server, ca, version, got):
    result = get(server, ca, version=version, http_version=got, contains="fine")
    assert result.success, result.detail
    assert sample(result, "probe_http_version") == got
    assert sample(result, "probe_http_ssl") == 1
    assert sample(result, "probe_http_duration_seconds", phase="connect") > 0
    assert has(result, "probe_ssl_earliest_cert_expiry")
    assert has(result, "probe_ssl_last_chain_expiry_timestamp_seconds")
    assert sample(result, "probe_tls_version_info", version="TLS 1.3") == 1


def test_a_server_without_http_2_answers_in_1_1_and_may_fail_for_it(old_server, ca):
    assert sample(get(old_server, ca, version=2), "probe_http_version") == 1.1
    result = get(old_server, ca, version=2, http_version=2)
    assert result.reason is Reason.PROTOCOL


def test_where_nothing_speaks_http_3_the_verdict_comes_in_time(old_server, ca):
    result = get(old_server, ca, 1.5, version=3)
    assert not result.success
    assert result.duration < 1.7
    assert not get(f"https://localhost:{free_port()}/", ca, 1.5, version=3).success


def test_a_certificate_that_is_not_trusted_over_http_3(server):
    result = run(probe(server, 3.0, {"http_version": 3, "ip_version": 4}))
    assert result.reason is Reason.CERTIFICATE, result.detail
