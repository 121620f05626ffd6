"""The gRPC prober against grpcio's health server, and against nginx that says what it likes.

nginx speaks HTTP/2 with trailers, so that files stand for the answers of any gRPC server.
"""

import os
import re
import shutil
import subprocess
import time
from concurrent import futures
from contextlib import contextmanager

import pytest
import trustme

from dolcevita.probes import Reason
from dolcevita.probes.grpc import KIND
from peers import attempt, mute, says, talking
from waiting import free_port, until
from webserver import blackhole, closed_port, has, page, run, sample, serving

SERVING = b"\0\0\0\0\2\x08\1"
NOT_SERVING = b"\0\0\0\0\2\x08\2"


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    ca = trustme.CA()
    ca.folder = tmp_path_factory.mktemp("ca")
    ca.file = ca.folder / "ca.pem"
    ca.cert_pem.write_to_path(ca.file)
    ca.pair = ca.folder / "both.pem"
    ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(ca.pair)
    return ca


@contextmanager
def nginx(folder, answer, tls=None, host="127.0.0.1"):
    """A port where nginx answers every call with a piece of its configuration."""
    if not shutil.which("nginx"):
        pytest.skip("nginx is not installed")
    folder.mkdir(exist_ok=True)
    port = free_port()
    ssl = f"ssl_certificate {tls}; ssl_certificate_key {tls};" if tls else ""
    (folder / "nginx.conf").write_text(
        f"""
        {"user root;" if os.getuid() == 0 else ""}
        daemon off; pid {folder}/pid; error_log stderr; worker_processes 1;
        events {{}}
        http {{
          access_log {folder}/access.log;
          log_format heard '$request_method $request_uri $http_x_token $http_x_more $http_te '
                           '$content_type';
          client_body_temp_path {folder}; proxy_temp_path {folder};
          fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
          server {{
            listen {host}:{port} {"ssl" if tls else ""} http2;
            {ssl}
            access_log {folder}/heard heard;
            # A file answers no POST: the method is changed on the way back in.
            location / {{ {answer} }}
          }}
          server {{
            listen unix:{folder}/files;
            root {folder};
            default_type application/grpc;
          }}
        }}
        """
    )
    command = ["nginx", "-c", folder / "nginx.conf", "-p", folder]
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(command, stderr=output)
    try:
        until(
            lambda: (folder / "pid").exists() and (folder / "pid").read_text(),
            lambda: (folder / "log").read_text(),
        )
        yield port
    finally:
        process.terminate()
        process.wait(10)


def file_answer(folder, body, trailers="add_trailer grpc-status 0;"):
    """Configuration that answers with these bytes and trailers."""
    folder.mkdir(exist_ok=True)
    (folder / "body").write_bytes(body)
    back_in = f"rewrite ^ /body break; proxy_method GET; proxy_pass http://unix:{folder}/files;"
    return f"{back_in} {trailers}"


def answered(folder, answer, options=None, path="", budget=5.0):
    with nginx(folder, answer) as port:
        return run(attempt(KIND, f"grpc://127.0.0.1:{port}{path}", options, budget))


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "nginx"


def test_a_server_that_serves_is_measured_as_blackbox_exporter_does(folder):
    result = answered(folder, file_answer(folder, SERVING))
    assert result.success, result.detail
    assert result.detail.endswith(" is SERVING.")
    assert sample(result, "probe_grpc_status_code") == 0
    assert sample(result, "probe_grpc_ssl") == 0
    assert sample(result, "probe_grpc_healthcheck_response", serving_status="SERVING") == 1
    for other in ("UNKNOWN", "NOT_SERVING", "SERVICE_UNKNOWN"):
        assert sample(result, "probe_grpc_healthcheck_response", serving_status=other) == 0
    assert sample(result, "probe_grpc_duration_seconds", phase="resolve") > 0
    assert sample(result, "probe_grpc_duration_seconds", phase="check") > 0
    assert [phase.name for phase in result.phases] == [
        *("resolve", "connect", "processing", "transfer")
    ]
    assert {s.name for s in result.samples} <= set(KIND.help)


def test_what_is_asked(folder, tmp_path):
    (tmp_path / "token").write_text("s3same\n")
    options = {
        "metadata_files": {"X-Token": tmp_path / "token"},
        "metadata": {"x-more": ["a", "b"]},
    }
    assert answered(folder, file_answer(folder, SERVING), options).success
    heard = (folder / "heard").read_text().strip()
    call = "POST /grpc.health.v1.Health/Check"
    # Older versions of nginx tell the first of several values only.
    assert re.fullmatch(f"{call} s3same a(, b)? trailers application/grpc", heard)


def test_a_file_of_metadata_that_is_missing_or_would_smuggle(tmp_path):
    options = {"metadata_files": {"x-token": tmp_path / "token"}}
    assert run(attempt(KIND, "grpc://127.0.0.1:1", options)).reason is Reason.LOCAL
    (tmp_path / "token").write_text("a\r\nb: c")
    assert run(attempt(KIND, "grpc://127.0.0.1:1", options)).reason is Reason.LOCAL


@pytest.mark.parametrize(
    ("body", "health"),
    [
        (NOT_SERVING, "NOT_SERVING"),
        (b"\0\0\0\0\2\x08\0", "UNKNOWN"),
        (b"\0\0\0\0\0", "UNKNOWN"),
        (b"\0\0\0\0\2\x08\3", "SERVICE_UNKNOWN"),
    ],
)
def test_a_server_that_does_not_serve(folder, body, health):
    result = answered(folder, file_answer(folder, body), path="/shop.Cart")
    assert result.reason is Reason.STATUS
    assert result.detail.startswith("The service shop.Cart at grpc://127.0.0.1:")
    assert result.detail.endswith(f" is {health}.")
    assert sample(result, "probe_grpc_healthcheck_response", serving_status=health) == 1
    assert sample(result, "probe_grpc_status_code") == 0


def test_fields_of_a_later_version_of_the_protocol_are_passed_over(folder):
    body = b"\0\0\0\0\x0a\x12\3abc\x18\x96\1\x08\1"
    assert answered(folder, file_answer(folder, body)).success


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\1\0\0\0\2\x08\1",
        b"\0\0\0\0\2\x08",
        b"\0\0\0\0\2\x08\7",
        b"\0\0\0\0\2\x0d\1",
        b"\0\0\0\0\x07\x08\xff\xff\xff\xff\xff\1",
        b"\0\0\0\0\2\x08\1" * 2,
        b"x" * 100_000,
    ],
    ids=["nothing", "compressed", "cut", "no status", "no type", "too large", "two", "endless"],
)
def test_an_answer_that_is_no_message_of_the_protocol(folder, body):
    result = answered(folder, file_answer(folder, body))
    assert result.reason is Reason.PROTOCOL
    assert not result.success


def test_an_error_of_grpc_with_its_words(folder):
    answer = """
        default_type application/grpc;
        add_header grpc-status 5; add_header grpc-message "unknown%20service";
        return 200 "";
    """
    result = answered(folder, answer)
    assert result.reason is Reason.STATUS
    assert result.detail.endswith("answers with NOT_FOUND: unknown service.")
    assert sample(result, "probe_grpc_status_code") == 5


@pytest.mark.parametrize(("status", "code"), [(404, 12), (401, 16), (503, 14), (418, 2)])
def test_an_error_of_http(folder, status, code):
    result = answered(folder, f"return {status};")
    assert result.reason is Reason.STATUS
    assert f"answers with {status} of HTTP, expected 200" in result.detail
    assert sample(result, "probe_grpc_status_code") == code


@pytest.mark.parametrize(
    "answer", ["return 200 hello;", "default_type application/grpc; return 200 hello;"]
)
def test_a_web_server_that_is_no_grpc_server(folder, answer):
    result = answered(folder, answer)
    assert result.reason is Reason.PROTOCOL
    assert "does not answer in gRPC" in result.detail


def test_a_web_server_without_http_2():
    async def scenario():
        async with serving(page()) as port:
            return await attempt(KIND, f"grpc://127.0.0.1:{port}", budget=1.0)

    result = run(scenario())
    assert result.reason in (Reason.PROTOCOL, Reason.TIMEOUT)
    assert sample(result, "probe_grpc_status_code") in (4, 14)


def test_over_tls(folder, ca):
    with nginx(folder, file_answer(folder, SERVING), ca.pair) as port:
        url = f"grpcs://localhost:{port}"
        result = run(attempt(KIND, url, {"ca_file": ca.file}))
        stranger = run(attempt(KIND, url))
        other = run(attempt(KIND, url, {"ca_file": ca.file, "server_name": "www.example.com"}))
    assert result.success, result.detail
    assert sample(result, "probe_grpc_ssl") == 1
    assert has(result, "probe_ssl_earliest_cert_expiry")
    assert has(result, "probe_tls_version_info")
    assert stranger.reason is other.reason is Reason.CERTIFICATE
    assert sample(stranger, "probe_grpc_status_code") == 14


def test_over_ipv6_and_never_over_the_other_version(folder):
    with nginx(folder, file_answer(folder, SERVING), host="[::1]") as port:
        assert sample(run(attempt(KIND, f"grpc://[::1]:{port}")), "probe_ip_protocol") == 6
        result = run(attempt(KIND, f"grpc://[::1]:{port}", {"ip_version": 4}))
    assert result.reason is Reason.DNS


def test_a_server_that_is_silent():
    async def scenario():
        async with talking(mute) as port:
            return await attempt(KIND, f"grpc://127.0.0.1:{port}", budget=0.5)

    begin = time.perf_counter()
    result = run(scenario())
    assert result.reason is Reason.TIMEOUT
    assert sample(result, "probe_grpc_status_code") == 4
    assert time.perf_counter() - begin < 0.9


def test_no_http_no_connection_no_name():
    async def scenario():
        async with talking(says("220 mail")) as port:
            plain = await attempt(KIND, f"grpc://127.0.0.1:{port}")
            return plain, await attempt(KIND, f"grpcs://127.0.0.1:{port}")

    plain, secure = run(scenario())
    assert plain.reason is Reason.PROTOCOL and secure.reason is Reason.TLS
    with closed_port() as port:
        assert run(attempt(KIND, f"grpc://127.0.0.1:{port}")).reason is Reason.CONNECT
    with blackhole() as port:
        result = run(attempt(KIND, f"grpc://127.0.0.1:{port}", budget=0.6))
    assert result.reason is Reason.CONNECT and result.duration < 0.5
    result = run(attempt(KIND, "grpc://api.invalid"))
    assert result.reason is Reason.DNS
    assert not has(result, "probe_grpc_healthcheck_response")


@pytest.fixture(scope="module")
def health_server(ca):
    """grpcio's health server; ports without and with TLS."""
    grpc = pytest.importorskip("grpc", reason="grpcio is not installed")
    health = pytest.importorskip("grpc_health.v1.health", reason="grpcio-health-checking")
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    server = grpc.server(futures.ThreadPoolExecutor(2))
    servicer = health.HealthServicer()
    servicer.set("shop.Cart", health_pb2.HealthCheckResponse.NOT_SERVING)
    servicer.set("s" * 300, health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    pair = ca.pair.read_bytes()
    plain = server.add_insecure_port("127.0.0.1:0")
    secure = server.add_secure_port("localhost:0", grpc.ssl_server_credentials([(pair, pair)]))
    server.start()
    yield plain, secure
    server.stop(None).wait(10)


def test_a_real_health_server(health_server, ca):
    plain, secure = health_server
    assert run(attempt(KIND, f"grpc://127.0.0.1:{plain}")).success
    assert run(attempt(KIND, f"grpcs://localhost:{secure}", {"ca_file": ca.file})).success
    assert run(attempt(KIND, f"grpc://127.0.0.1:{plain}", {"service": "s" * 300})).success
    result = run(attempt(KIND, f"grpc://127.0.0.1:{plain}/shop.Cart"))
    assert result.detail.endswith(" is NOT_SERVING.")
    result = run(attempt(KIND, f"grpc://127.0.0.1:{plain}/shop.Till"))
    assert result.detail.endswith(" answers with NOT_FOUND.")
    assert sample(result, "probe_grpc_status_code") == 5
