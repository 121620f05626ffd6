"""The real blackbox_exporter and ours: one configuration file, the same targets."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families as parse

from binaries import debian_package
from blackbox_targets import all_targets
from dolcevita.config import UserError
from waiting import free_port, until

pytestmark = pytest.mark.xdist_group("blackbox")

TIMEOUT = 2.5
"""Timeout of every module, in seconds: no other answer is late on a busy machine."""

TIMES = ("_duration_seconds", "_lookup_time_seconds")
"""Metrics that never have the same value twice."""


@dataclass(frozen=True)
class Case:
    """A module and a target; `{name}` in it is the port or path of a server.

    `differ` are metrics whose value is another, each told in docs/blackbox.md.
    """

    target: str
    module: dict[str, Any] = field(default_factory=dict)
    prober: str = "http"
    query: dict[str, str] = field(default_factory=dict)
    differ: frozenset[str] = frozenset()
    success: bool | None = None

    @property
    def name(self) -> str:
        options = ",".join(self.module) + ("?" + ",".join(self.query) if self.query else "")
        return f"{self.prober}-{options}-{self.target}"


def http(
    target: str, success: bool | None, *differ: str, hostname: str = "", **module: Any
) -> Case:
    query = {"hostname": hostname} if hostname else {}
    return Case(target, module, "http", query, frozenset(differ), success)


def other(prober: str, target: str, success: bool | None, *differ: str, **module: Any) -> Case:
    return Case(target, module, prober, {}, frozenset(differ), success)


def tls(**options: Any) -> dict[str, Any]:
    return {"ca_file": "{ca_file}", **options}


LENGTH = "probe_http_uncompressed_body_length"
REGEX = "probe_failed_due_to_regex"
SIZE = "probe_http_content_length"
HASH = "probe_ip_addr_hash"
PROTOCOL = "probe_ip_protocol"

CEL = [
    # A page, an expression, and whether that is true, None for an error.
    ("/json", "body.ok", True),
    ("/json", "body.n == 42", True),
    ("/json", "body.n == 42.0 && body.n > 41 && type(body.n) == double", True),
    ("/json", "int(body.n) % 2 == 1", False),
    ("/json", "body.big > 9007199254740993", True),
    ("/json", "body.s == 'déjà' && body.s.size() == 4", True),
    ("/json", "body.s.matches('^d.j.$') && body.s.startsWith('d')", True),
    ("/json", "body.none == null", True),
    ("/json", "body.list.exists(x, x == 2.5) && 1 in body.list", True),
    ("/json", "body.list.all(x, x == 'x')", False),
    ("/json", "body.list.filter(x, x == 1).size() == 1 && body.list[2] == 'x'", True),
    ("/json", "body.list == [1, 2.5, 'x']", True),
    ("/json", "body.map.a.b == 'c' && body['map']['a']['b'] != 'd'", True),
    ("/json", "has(body.map.a) && !has(body.map.z)", True),
    ("/json", "'map' in body ? size(body) == 7 : false", True),
    ("/json", "body.missing == 1", None),
    ("/json", "body.missing == 1 || body.ok", True),
    ("/json", "body.list[7] == 1", None),
    ("/json", "body.n == '42'", False),
    ("/json", "body.n < '43'", None),
    ("/json", "body.n", None),
    ("/json", "body.map", None),
    ("/json", "timestamp('2026-07-14T19:00:00Z').getFullYear() == 2026", True),
    ("/json", "duration('90m') == duration('1h30m')", True),
    ("/json", "int(body.big) > 0", None),
    ("/json-text", "body == 'fine'", True),
    ("/json-list", "body[2] == 'c' && body.size() == 3", True),
    ("/json-true", "body", True),
    ("/json-empty", "body == {{}}", True),
    ("/json-empty", "body.a == 1", None),
    ("/json-nan", "body.n == 1", None),
    ("/json-huge", "body.n > 1", None),
    ("/json-cut", "body.ok", None),
    ("/json-after", "body.ok", None),
    ("/json-deep", "size(body.deep) == 1", True),
    ("/empty", "true", None),
    ("/", "true", None),
]

H = "127.0.0.1:{http}"
S = "https://localhost"

CASES = [
    http(H, True),
    http(f"http://{H}", True),
    http(f"{H}/?query=1#part", True),
    http(f"{H}/last-modified", True),
    http(f"{H}/not-a-date", True),
    http(f"{H}/empty", True),
    http(f"{H}/404", False),
    http(f"{H}/500", False),
    http(f"{H}/503", False),
    http(f"{H}/304", False),
    http(f"{H}/unsized", True),
    http(f"{H}/1.0", True),
    http(f"{H}/chunked", True),
    http(f"{H}/chunked-broken", False),
    http(f"{H}/short", False),
    http(f"{H}/garbage", False),
    http(f"{H}/nothing", False),
    http(f"{H}/silent", False),
    http(f"{H}/slow-body", False),
    http(f"{H}/early-hints", True),
    http("127.0.0.1:{closed}", False),
    http("127.0.0.1:{dropping}", False),
    http("does.not.exist.invalid", False),
    http("http://[::1", False),
    http("http://127.0.0.1:notaport/", False),
    http("[::1]:{http6}", True),
    # Which one is reached depends on what the machine takes localhost for.
    http("localhost:{http}", None),
    http("localhost:{http6}", None),
    http("localhost:{http}", True, preferred_ip_protocol="ip4"),
    http(H, True, preferred_ip_protocol="ip6"),
    http(H, False, preferred_ip_protocol="ip6", ip_protocol_fallback=False),
    http("[::1]:{http6}", False, preferred_ip_protocol="ip4", ip_protocol_fallback=False),
    # statuses, versions, methods
    http(f"{H}/404", True, valid_status_codes=[404, 410]),
    http(H, False, valid_status_codes=[404]),
    http(H, True, valid_http_versions=["HTTP/1.1", "HTTP/2.0"]),
    http(H, False, valid_http_versions=["HTTP/2.0"]),
    http(f"{H}/1.0", True, valid_http_versions=["HTTP/1.0"]),
    http(f"{H}/method", True, method="POST", fail_if_body_not_matches_regexp=["^POST$"]),
    http(f"{H}/method", True, method="PUT", body="x", fail_if_body_not_matches_regexp=["PUT"]),
    http(H, True, method="HEAD"),
    http(f"{H}/method", True, method="OPTIONS", fail_if_body_not_matches_regexp=["OPTIONS"]),
    http(f"{H}/echo", True, SIZE, LENGTH, method="POST", body_file="{body}"),
    http(f"{H}/echo", False, HASH, PROTOCOL, method="POST", body_file="/does/not/exist"),
    # redirects
    http(f"{H}/redirect", True),
    http(f"{H}/redirect-to-404", False),
    http(f"{H}/redirect-nowhere", False),
    http(f"{H}/circle", False, LENGTH),
    http(f"{H}/circle", True, LENGTH, valid_status_codes=[302]),
    http(f"{H}/300", False),
    http(f"{H}/redirect", False, LENGTH, follow_redirects=False),
    http(f"{H}/redirect", True, LENGTH, follow_redirects=False, valid_status_codes=[302]),
    http(f"{H}/redirect", True, LENGTH, no_follow_redirects=True, valid_status_codes=[302]),
    http(f"{H}/redirect", False, valid_status_codes=[302]),
    http(f"{H}/redirect-301", True, method="POST", fail_if_body_not_matches_regexp=["GET"]),
    http(f"{H}/redirect-303", True, method="POST", fail_if_body_not_matches_regexp=["GET"]),
    http(f"{H}/redirect-307", True, method="POST", fail_if_body_not_matches_regexp=["POST"]),
    http(f"{H}/redirect-308", True, method="POST", body="x",
         fail_if_body_not_matches_regexp=["POST"]),
    http(f"{H}/redirect-301", True, method="HEAD"),
    # headers and hosts
    http(f"{H}/echo", True, SIZE, LENGTH, headers={"X-Test": "yes"},
         fail_if_body_not_matches_regexp=["X-Test: yes"]),
    http(f"{H}/echo", True, SIZE, LENGTH, headers={"User-Agent": "me"},
         fail_if_body_not_matches_regexp=["User-Agent: me"]),
    http(f"{H}/echo", True, SIZE, LENGTH,
         http_headers={"X-A": {"values": ["1"]}, "X-B": {"files": ["{secret}"]}},
         fail_if_body_not_matches_regexp=["X-A: 1", "X-B: secret"]),
    http(f"{H}/host", True, headers={"Host": "shop.example.com"},
         fail_if_body_not_matches_regexp=["Host: shop.example.com"]),
    http(f"{H}/host", True, hostname="shop.example.com",
         fail_if_body_not_matches_regexp=["shop.example.com"]),
    http(f"{H}/redirect-host", True, hostname="shop.example.com",
         fail_if_body_not_matches_regexp=["shop.example.com"]),
    # regular expressions
    http(H, True, fail_if_body_matches_regexp=["broken"]),
    http(H, False, fail_if_body_matches_regexp=["f.ne"]),
    http(H, True, fail_if_body_not_matches_regexp=["(?i)FINE", "^f"]),
    http(H, False, fail_if_body_not_matches_regexp=["fine", "excellent"]),
    http(f"{H}/404", False, fail_if_body_not_matches_regexp=["fine"]),
    http(f"{H}/lines", False, fail_if_body_not_matches_regexp=["last$"]),
    http(f"{H}/lines", True, fail_if_body_not_matches_regexp=["(?m)^second: [[:digit:]]+$"]),
    http(f"{H}/lines", True, fail_if_body_not_matches_regexp=[r"last\n\z", r"\Qsecond: 4\E"]),
    http(f"{H}/lines", True, fail_if_body_not_matches_regexp=["(?s)first.*last"]),
    http(f"{H}/lines", False, fail_if_body_not_matches_regexp=["first.*last"]),
    http(f"{H}/utf-8", True, fail_if_body_not_matches_regexp=[r"d.j. vu", r"é"]),
    http(f"{H}/utf-8", True, fail_if_body_not_matches_regexp=[r"^\w+"]),
    http(f"{H}/utf-8", True, fail_if_body_not_matches_regexp=[r"^\pL{{4}} ", r"d(?i)\x{{c9}}J"]),
    http(f"{H}/utf-8", False, fail_if_body_not_matches_regexp=[r"^\p{{Greek}}"]),
    http(f"{H}/utf-8", True, fail_if_body_not_matches_regexp=["(?U)^d.*j", r"\b\Bv|vu\b"]),
    http(f"{H}/headers", True, fail_if_header_matches=[{"header": "Server", "regexp": "Apache"}]),
    http(f"{H}/headers", False, fail_if_header_matches=[{"header": "server", "regexp": "ngin"}]),
    http(H, False, fail_if_header_matches=[{"header": "X-None", "regexp": "."}]),
    http(H, True, fail_if_header_matches=[
        {"header": "X-None", "regexp": ".", "allow_missing": True}]),
    http(f"{H}/headers", True, fail_if_header_not_matches=[{"header": "X-One", "regexp": "^1$"}]),
    http(f"{H}/headers", False, fail_if_header_not_matches=[{"header": "X-One", "regexp": "2"}]),
    http(H, False, fail_if_header_not_matches=[{"header": "X-None", "regexp": "."}]),
    http(f"{H}/twice", True, fail_if_header_not_matches=[{"header": "X-Twice", "regexp": "one"}]),
    http(f"{H}/twice", False, fail_if_header_matches=[{"header": "X-Twice", "regexp": "two"}]),
    # CEL
    *(
        case
        for page, expression, true in CEL
        for case in (
            http(f"{H}{page}", true is False, fail_if_body_json_matches_cel=expression),
            http(f"{H}{page}", true is True, fail_if_body_json_not_matches_cel=expression),
        )
    ),
    http(f"{H}/json", True, fail_if_body_json_matches_cel="!body.ok // or not",
         fail_if_body_json_not_matches_cel="body.n == 42 // the answer"),
    http(f"{H}/404", False, fail_if_body_json_not_matches_cel="body.ok"),
    http("127.0.0.1:{closed}", False, fail_if_body_json_not_matches_cel="body.ok"),
    http("does.not.exist.invalid", False, fail_if_body_json_not_matches_cel="body.ok"),
    http(f"{H}/json", False, fail_if_header_matches=[{"header": "X-None", "regexp": "."}],
         fail_if_body_json_not_matches_cel="body.ok"),
    # bodies
    http(f"{H}/gzip", True),
    http(f"{H}/gzip", True, compression="gzip", fail_if_body_not_matches_regexp=["^(fine )+$"]),
    http(f"{H}/not-gzip", True),
    http(f"{H}/not-gzip", False, compression="gzip"),
    http(f"{H}/deflate", True, compression="deflate"),
    http(H, False, LENGTH, compression="gzip"),
    http(H, True, compression="identity"),
    http(f"{H}/gzip", True, headers={"Accept-Encoding": "gzip"}),
    http(f"{H}/long", True, body_size_limit="10KB"),
    http(f"{H}/long", False, body_size_limit="1KB"),
    http(f"{H}/long", True, body_size_limit="5000B"),
    # who may come in
    http(f"{H}/basic", True, basic_auth={"username": "marie", "password": "secret"}),
    http(f"{H}/basic", True, basic_auth={"username_file": "{user}", "password_file": "{secret}"}),
    http(f"{H}/basic", False, basic_auth={"username": "marie", "password": "wrong"}),
    http(f"{H}/bearer", True, authorization={"credentials": "secret"}),
    http(f"{H}/bearer", True, authorization={"credentials_file": "{secret}"}),
    http(f"{H}/bearer", True, bearer_token="secret"),
    http(f"{H}/token", True, authorization={"type": "Token", "credentials": "secret"}),
    http(f"{H}/bearer", False),
    http(f"{H}/oauth", True, oauth2={
        "client_id": "me", "client_secret": "x", "token_url": f"http://{H}/grant"}),
    http(f"{H}/oauth", False, HASH, PROTOCOL, oauth2={
        "client_id": "me", "client_secret": "x", "token_url": f"http://{H}/deny"}),
    # proxies
    http("http://127.0.0.1:1/", True, proxy_url="http://127.0.0.1:{proxy}"),
    http("http://shop.invalid/", True, proxy_url="http://127.0.0.1:{proxy}",
         skip_resolve_phase_with_proxy=True),
    http("http://shop.invalid/", False, proxy_url="http://127.0.0.1:{proxy}"),
    http("https://127.0.0.1:1/", False, proxy_url="http://127.0.0.1:{proxy}"),
    http(H, False, proxy_url="http://127.0.0.1:{closed}"),
    # TLS
    http(f"{S}:{{tls}}", False),
    http(f"{S}:{{tls}}", True, tls_config=tls()),
    http("https://127.0.0.1:{tls}", True, tls_config=tls()),
    http(f"{S}:{{tls}}", True, tls_config={"insecure_skip_verify": True}),
    http(f"{S}:{{tls}}/404", False, tls_config=tls()),
    http(f"{S}:{{tls}}/silent", False, tls_config=tls()),
    http(f"{S}:{{tls}}/redirect", True, tls_config=tls()),
    http(f"{S}:{{tls12}}", True, tls_config=tls()),
    http(f"{S}:{{tls12}}", False, tls_config=tls(min_version="TLS13")),
    http(f"{S}:{{tls}}", True, tls_config=tls(max_version="TLS12")),
    http(f"{S}:{{tls11}}", False, tls_config=tls()),
    http(f"{S}:{{tls11}}", True, tls_config=tls(min_version="TLS10")),
    http(f"{S}:{{expired}}", False, tls_config=tls()),
    http(f"{S}:{{expired}}", True, tls_config=tls(insecure_skip_verify=True)),
    http(f"{S}:{{soon}}", True, tls_config=tls()),
    http(f"{S}:{{wrong_name}}", False, tls_config=tls()),
    http(f"{S}:{{wrong_name}}", True, tls_config=tls(server_name="elsewhere.example")),
    http(f"{S}:{{wrong_name}}", True, tls_config=tls(), hostname="elsewhere.example"),
    http(f"{S}:{{self_signed}}", False),
    http(f"{S}:{{self_signed}}", True, tls_config={"insecure_skip_verify": True}),
    http(f"{S}:{{intermediate}}", True, tls_config=tls()),
    http(f"{S}:{{tls}}", False, tls_config={"ca_file": "{other_ca_file}"}),
    http(f"{S}:{{tls}}", True, tls_config={"ca": "{ca_text}"}),
    http(f"{S}:{{asking}}", False, tls_config=tls()),
    http(f"{S}:{{asking}}", True,
         tls_config=tls(cert_file="{client_cert}", key_file="{client_key}")),
    http(f"{S}:{{stalled_tls}}", False, tls_config=tls()),
    http(f"{S}:{{http}}", False),
    http("http://127.0.0.1:{tls}", False),
    http(H, True, fail_if_ssl=True),
    http(H, False, fail_if_not_ssl=True),
    http(f"{S}:{{tls}}", False, fail_if_ssl=True, tls_config=tls()),
    http(f"{S}:{{tls}}", True, fail_if_not_ssl=True, tls_config=tls()),
    http(f"{S}:{{h2}}", True, tls_config=tls()),
    http(f"{S}:{{h2}}/404", False, tls_config=tls()),
    http(f"{S}:{{h2}}", True, tls_config=tls(), enable_http2=False,
         valid_http_versions=["HTTP/1.1"]),
    http(f"{S}:{{h2}}", True, tls_config=tls(), valid_http_versions=["HTTP/2.0"]),
    http(f"{S}:{{h3}}", True, tls_config=tls(), enable_http2=False, enable_http3=True,
         valid_http_versions=["HTTP/3.0"]),
    http("http://localhost:{h3}", True, tls_config=tls(), enable_http2=False, enable_http3=True),
    http(f"{S}:{{h3}}", False, enable_http2=False, enable_http3=True),
    http(f"{S}:{{h2}}", False, tls_config=tls(), enable_http2=False, enable_http3=True),
    # tcp
    other("tcp", "127.0.0.1:{banner}", True),
    other("tcp", "localhost:{banner}", True, preferred_ip_protocol="ip4"),
    other("tcp", "127.0.0.1:{closed}", False),
    other("tcp", "127.0.0.1:{dropping}", False),
    other("tcp", "127.0.0.1", False),
    other("tcp", "does.not.exist.invalid:80", False),
    other("tcp", "127.0.0.1:{banner}", True, query_response=[{"expect": "^SSH-2.0-"}]),
    other("tcp", "127.0.0.1:{banner}", False, REGEX, query_response=[{"expect": "^220 "}]),
    other("tcp", "127.0.0.1:{hangup}", False, query_response=[{"expect": "^220 "}]),
    other("tcp", "127.0.0.1:{quiet}", False, query_response=[{"expect": "^220 "}]),
    other("tcp", "127.0.0.1:{banner}", True, query_response=[{"expect_bytes": "SSH-2.0"}]),
    other("tcp", "127.0.0.1:{banner}", False, query_response=[{"expect_bytes": "ESMTP"}]),
    other("tcp", "127.0.0.1:{banner}", True, query_response=[
        {"expect": "^SSH-2.0-([^ ]+) (.*)$",
         "labels": [{"name": "software", "value": "${{1}}"}]}]),
    other("tcp", "127.0.0.1:{chat}", True, query_response=[
        {"send": "NICK prober"}, {"expect": "PING :([^ ]+)", "send": "PONG ${{1}}"},
        {"expect": "^:[^ ]+ 001"}]),
    other("tcp", "localhost:{tls_banner}", True, tls=True, tls_config=tls(),
          query_response=[{"expect": "SSH"}], preferred_ip_protocol="ip4"),
    other("tcp", "127.0.0.1:{tls_banner}", False, tls=True),
    other("tcp", "127.0.0.1:{tls_expired}", False, tls=True, tls_config=tls()),
    other("tcp", "127.0.0.1:{tls_banner}", True, tls=True,
          tls_config={"insecure_skip_verify": True}),
    other("tcp", "127.0.0.1:{quiet}", False, tls=True, tls_config=tls()),
    other("tcp", "127.0.0.1:{starttls}", True, tls_config=tls(), query_response=[
        {"expect": "^220"}, {"send": "EHLO me\r"}, {"expect": "^250[ -]STARTTLS"},
        {"send": "STARTTLS\r"}, {"expect": "^220"}, {"starttls": True}, {"send": "EHLO me\r"},
        {"expect": "^250 welcome"}]),
    other("tcp", "127.0.0.1:{starttls_expired}", False, tls_config=tls(), query_response=[
        {"expect": "^220"}, {"send": "EHLO me\r"}, {"expect": "^250[ -]STARTTLS"},
        {"send": "STARTTLS\r"}, {"expect": "^220"}, {"starttls": True}]),
    # unix
    other("unix", "{socket}", True),
    other("unix", "{no_socket}", False),
    other("unix", "{socket}", True, query_response=[{"expect": "^SSH"}]),
    other("unix", "{socket}", False, REGEX, query_response=[{"expect": "^220"}]),
    # dns
    other("dns", "127.0.0.1:{dns}", True, query_name="example.com", query_type="A"),
    other("dns", "127.0.0.1:{dns}", True, query_name="example.com"),
    other("dns", "127.0.0.1:{dns}", True, query_name="example.com", query_type="SOA"),
    other("dns", "127.0.0.1:{dns}", True, query_name="example.com", query_type="A",
          transport_protocol="tcp"),
    other("dns", "127.0.0.1:{dns}", False, query_name="none.example.com", query_type="A"),
    other("dns", "127.0.0.1:{dns}", True, query_name="none.example.com", query_type="A",
          valid_rcodes=["NXDOMAIN"]),
    other("dns", "127.0.0.1:{dns}", False, query_name="failing.example.com", query_type="A"),
    other("dns", "127.0.0.1:{dns}", False, query_name="silent.example.com", query_type="A"),
    other("dns", "127.0.0.1:{closed}", False, query_name="example.com", query_type="A"),
    other("dns", "does.not.exist.invalid", False, query_name="example.com", query_type="A"),
    other("dns", "127.0.0.1:{dns}", True, query_name="example.com", query_type="A",
          recursion_desired=False),
    other("dns", "127.0.0.1:{dns}", True, query_name="example.com", query_type="A",
          validate_answer_rrs={"fail_if_not_matches_regexp": [r"192\.0\.2\.\d$"]}),
    other("dns", "127.0.0.1:{dns}", False, query_name="example.com", query_type="A",
          validate_answer_rrs={"fail_if_matches_regexp": [r".*\t192\.0\.2\.2"]}),
    other("dns", "127.0.0.1:{dns}", False, query_name="example.com", query_type="A",
          validate_authority_rrs={"fail_if_none_matches_regexp": ["ns9"]}),
    other("dns", "127.0.0.1:{dns}", True, query_name="example.com", query_type="A",
          validate_additional_rrs={"fail_if_none_matches_regexp": ["192.0.2.53"]}),
    other("dns", "127.0.0.1:{dns}", True, query_name="example.com", query_type="A",
          validate_answer_rrs={"fail_if_all_match_regexp": ["192.0.2"]}),
    # icmp
    other("icmp", "127.0.0.1", True),
    other("icmp", "::1", True),
    other("icmp", "does.not.exist.invalid", False),
    other("icmp", "127.0.0.1", True, payload_size=100, ttl=5),
    # grpc
    other("grpc", "127.0.0.1:{grpc}", True),
    other("grpc", "127.0.0.1:{grpc_down}", False),
    other("grpc", "localhost:{grpc_tls}", True, tls=True, tls_config=tls(),
          preferred_ip_protocol="ip4"),
    other("grpc", "127.0.0.1:{grpc_tls}", False, tls=True),
    other("grpc", "127.0.0.1:{closed}", False),
    other("grpc", "does.not.exist.invalid:50051", False),
]  # fmt: skip


def filled(value: Any, places: dict[str, Any]) -> Any:
    if isinstance(value, str):
        return value.format(**places)
    if isinstance(value, dict):
        return {key: filled(entry, places) for key, entry in value.items()}
    return [filled(entry, places) for entry in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def exporters(tmp_path_factory):
    """Both exporters on one file: gives (theirs, ours, places)."""
    try:
        package = debian_package("sid", "prometheus-blackbox-exporter")
    except UserError as error:
        pytest.skip(str(error))
    folder = tmp_path_factory.mktemp("blackbox")
    with all_targets(folder) as (places, files):
        places |= {
            name: getattr(files, name)
            for name in "ca_file other_ca_file client_cert client_key body secret user".split()
        }
        places["ca_text"] = files.ca_file.read_text()
        modules = {
            f"m{number}": {
                "prober": case.prober,
                "timeout": f"{TIMEOUT}s",
                case.prober: filled(case.module, places),
            }
            for number, case in enumerate(CASES)
            if _can_run(case, places)
        }
        config = folder / "blackbox.yml"
        config.write_text(yaml.safe_dump({"modules": modules}))
        theirs, ours = free_port(), free_port()
        allow = ["127.0.0.0/8", "::1", "*.invalid", str(folder)]
        commands = [
            [package / "bin/prometheus-blackbox-exporter", f"--config.file={config}",
             f"--web.listen-address=127.0.0.1:{theirs}"],
            [sys.executable, "-c", "from dolcevita.cli import app; app()", "serve",
             f"--listen=127.0.0.1:{ours}", f"--blackbox-config={config}",
             *(f"--allow-target={target}" for target in allow)],
        ]  # fmt: skip
        log = folder / "log"
        with log.open("wb") as output:
            running = [
                subprocess.Popen(command, stdout=output, stderr=output, cwd=folder)
                for command in commands
            ]
        try:
            for port in (theirs, ours):
                until(lambda port=port: _healthy(port), lambda: log.read_text(), within=30)
            yield theirs, ours, places
        finally:
            for process in running:
                process.terminate()
            for process in running:
                process.wait(10)


def _can_run(case: Case, places: dict[str, Any]) -> bool:
    try:
        filled([case.target, case.module], places)
    except KeyError:
        return False
    return True


def _healthy(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/-/healthy", timeout=2).ok
    except requests.ConnectionError:
        return False


def answer(port: int, query: dict[str, str]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """The value of each series; of a cipher only that there is one."""
    response = requests.get(f"http://127.0.0.1:{port}/probe", params=query, timeout=20)
    assert response.status_code == 200, response.text
    return {
        (sample.name, frozenset({} if "cipher" in sample.labels else sample.labels.items())): (
            sample.value
        )
        for family in parse(response.text)
        for sample in family.samples
    }


@pytest.mark.parametrize(
    ("number", "case"),
    list(enumerate(CASES)),
    ids=[f"{n}-{case.name}" for n, case in enumerate(CASES)],
)
def test_the_verdict_and_the_metrics_are_the_same(exporters, number, case):
    theirs, ours, places = exporters
    if not _can_run(case, places):
        pytest.skip(f"no server for {case.target}: nginx or IPv6 is missing")
    query = {"module": f"m{number}", "target": filled(case.target, places), **case.query}
    with ThreadPoolExecutor(2) as pool:
        expected, got = pool.map(answer, (theirs, ours), (query, query))
    assert set(got) == set(expected)
    assert got["probe_success", frozenset()] == expected["probe_success", frozenset()]
    assert case.success in (None, expected["probe_success", frozenset()])
    values = {
        name: (got[name, labels], value)
        for (name, labels), value in expected.items()
        if not name.endswith(TIMES) and got[name, labels] != value
    }
    assert set(values) == case.differ, values
