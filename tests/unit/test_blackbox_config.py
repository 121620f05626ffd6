"""blackbox_exporter's configuration file: what is read, and what is refused by name."""

import re

import pytest

from dolcevita.config import ConfigError
from dolcevita.exporter.blackbox import modules
from dolcevita.exporter.blackbox.metrics import iana_cipher
from dolcevita.probes import pattern

EVERYTHING = """
modules:
  http_all:
    prober: http
    timeout: 1m30s
    http:
      valid_status_codes: [200, 301]
      valid_http_versions: ["HTTP/1.1", HTTP/2.0]
      method: POST
      headers: {Host: shop.example, X-Number: 7}
      http_headers: {X-A: {values: [a, b], secrets: [c]}, X-F: {files: [/run/f]}}
      body_size_limit: 10MB
      compression: gzip
      follow_redirects: no
      fail_if_not_ssl: true
      fail_if_body_matches_regexp: ["(?i)error"]
      fail_if_body_not_matches_regexp: [ok]
      fail_if_body_json_matches_cel: body.a == 1
      fail_if_body_json_not_matches_cel: body.b == 2
      fail_if_header_matches: [{header: Server, regexp: Apache, allow_missing: true}]
      fail_if_header_not_matches: [{header: X-B, regexp: "^1$"}]
      tls_config: {ca_file: /ca, cert_file: /c, key_file: /k, server_name: s,
        insecure_skip_verify: true, min_version: TLS10, max_version: TLS12}
      basic_auth: {username: me, password_file: /run/p}
      proxy_url: http://proxy.example:3128
      no_proxy: localhost,10.0.0.0/8
      proxy_connect_header: {X-Proxy: [secret]}
      skip_resolve_phase_with_proxy: true
      enable_http2: false
      preferred_ip_protocol: ip4
      ip_protocol_fallback: false
      body_file: /run/body
  http3: {prober: http, http: {enable_http3: true, enable_http2: false,
    valid_http_versions: [HTTP/3.0]}}
  oauth: {prober: http, http: {oauth2: {client_id: a, client_secret_file: /run/s,
    scopes: [x, y], token_url: "https://id.example/token", endpoint_params: {aud: z},
    tls_config: {ca_file: /ca}}}}
  null_block: {prober: http, http: }
  tcp_all:
    prober: tcp
    timeout: 500ms
    tcp:
      preferred_ip_protocol: ip6
      ip_protocol_fallback: true
      source_ip_address: 127.0.0.1
      query_response:
        - {expect: "^220 ([^ ]+)", labels: [{name: host, value: "${1}"}]}
        - {send: STARTTLS}
        - {starttls: true}
        - {expect_bytes: OK}
      tls: false
      tls_config: {server_name: mail.example}
  unix_all: {prober: unix, unix: {query_response: [{expect: "^ok", send: bye}],
    tls: true, tls_config: {server_name: app}}}
  dns_all:
    prober: dns
    dns:
      preferred_ip_protocol: ip4
      source_ip_address: 127.0.0.1
      transport_protocol: tcp
      dns_over_tls: true
      tls_config: {insecure_skip_verify: true}
      query_name: example.com
      query_type: MX
      query_class: IN
      recursion_desired: false
      valid_rcodes: [NOERROR, NXDOMAIN]
      validate_answer_rrs: {fail_if_matches_regexp: [a], fail_if_all_match_regexp: [b],
        fail_if_not_matches_regexp: [c], fail_if_none_matches_regexp: [d]}
      validate_authority_rrs: {fail_if_matches_regexp: [a]}
      validate_additional_rrs: {fail_if_matches_regexp: [a]}
  icmp_all: {prober: icmp, icmp: {preferred_ip_protocol: ip4, source_ip_address: 127.0.0.1,
    payload_size: 100, dont_fragment: true, ttl: 5}}
  grpc_all: {prober: grpc, grpc: {service: shop.Cart, tls: true, preferred_ip_protocol: ip4,
    ip_protocol_fallback: false, metadata: {x-key: [a, b]}, tls_config: {ca_file: /ca}}}
  ws_all: {prober: websocket, websocket: {preferred_ip_protocol: ip4,
    headers: {Origin: {values: ["https://a.example"]}},
    http_config: {basic_auth: {username: me, password: secret}, tls_config: {ca_file: /ca}},
    query_response: [{expect: hello, send: bye}]}}
"""


def load(tmp_path, text):
    path = tmp_path / "blackbox.yml"
    path.write_text(text)
    return modules.load(path)


def problem(tmp_path, http):
    with pytest.raises(ConfigError) as error:
        load(tmp_path, f"modules:\n  m:\n    prober: http\n    http:\n      {http}\n")
    return str(error.value)


def test_every_option_is_read_and_means_what_it_does_there(tmp_path):
    loaded = load(tmp_path, EVERYTHING)
    module = loaded["http_all"]
    assert module.seconds == 90
    options, expect = module.options, module.expect
    assert options.method == "POST"
    assert options.headers["X-Number"] == "7" and options.headers["X-A"] == "c"
    assert options.headers["Accept-Encoding"] is None
    assert str(options.header_files["X-F"]) == "/run/f"
    assert options.body_limit == 10 * 2**20
    assert options.redirects == 0
    assert options.http_version == "1.1"
    assert (options.ip_version, options.ip_fallback) == (4, False)
    assert (options.min_version, options.max_version) == ("TLS 1.0", "TLS 1.2")
    assert options.proxy_headers == {"X-Proxy": "secret"} and options.proxy_resolves
    assert expect.status == (200, 301) and expect.tls is True
    assert expect.http_version == ("1.1", "2")
    assert expect.cel == ("!(body.a == 1)", "body.b == 2")
    assert loaded["http3"].options.http_version == "3"
    assert loaded["oauth"].options.oauth2.scopes == ("x", "y")
    assert loaded["null_block"].options.redirects == 10
    assert loaded["tcp_all"].seconds == 0.5
    assert loaded["tcp_all"].options.query_response[2].starttls
    assert loaded["dns_all"].options.transport == "tls"
    assert loaded["icmp_all"].options.ttl == 5
    assert loaded["grpc_all"].options.metadata == {"x-key": ("a", "b")}
    assert loaded["ws_all"].options.headers == {"Origin": "https://a.example"}


def test_targets_become_urls(tmp_path):
    loaded = load(tmp_path, EVERYTHING)

    def url(module, target):
        return loaded[module].target(target).url

    assert url("http_all", "shop.example:8080/x") == "http://shop.example:8080/x"
    assert url("http_all", "https://shop.example") == "https://shop.example"
    assert url("http3", "http://shop.example") == "https://shop.example"
    assert url("tcp_all", "mail.example:25") == "tcp://mail.example:25"
    assert url("unix_all", "/run/a b.sock") == "unix:///run/a%20b.sock"
    assert url("dns_all", "::1") == "dns://[::1]/example.com?type=MX&class=IN"
    assert url("dns_all", "ns1:54") == "dns://ns1:54/example.com?type=MX&class=IN"
    assert url("icmp_all", "::1") == "icmp://[::1]"
    assert url("grpc_all", "https://a.example:443/x") == "grpcs://a.example:443"
    assert url("ws_all", "wss://a.example/x") == "wss://a.example/x"


@pytest.mark.parametrize(
    ("http", "expected"),
    [
        ("basic_auth: {username_ref: x}", "blackbox.yml:5: 'username_ref' is not supported"),
        ("oauth2: {client_id: a, token_url: b, grant_type: c}", "'grant_type' is not supported"),
        ("oauth2: {client_id: a, token_url: b, proxy_url: c}", "'proxy_url' is not supported"),
        ("tls_config: {key_ref: x}", "'key_ref' is not supported"),
        ("valid_status: [200]", "unknown key 'valid_status': did you mean 'valid_status_codes'"),
        ("fail_if_body_matches_regexp: ['[']", "no regular expression"),
        (r"fail_if_body_matches_regexp: ['a\Cb']", "a byte that may be no character"),
        ("fail_if_body_matches_regexp: ['a(?=b)']", r"invalid perl operator: \(\?="),
        ("preferred_ip_protocol: ip5", "'ip4', 'ip6'"),
        ("valid_http_versions: [HTTP/2]", "HTTP/2.0"),
        ("enable_http3: true", "enable_http2 must be set to false"),
        ("{body: a, body_file: b}", "expected only one of body and body_file"),
        ("{basic_auth: {username: a}, bearer_token: b}", "only one of basic_auth and bearer"),
        ("compression: lzma", "expected gzip, br, deflate or identity"),
        ("fail_if_header_matches: [{regexp: a}]", "header' is missing"),
        ("body_size_limit: 10 apples", "expected a size"),
        ("fail_if_body_json_matches_cel: body.a =", "no CEL: 1:8: Syntax error"),
        ("fail_if_body_json_not_matches_cel: size(body)", "gives int: expected true or false"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_refused_by_name_and_line(tmp_path, http, expected):
    text = problem(tmp_path, http)
    assert re.search(expected, text), text
    assert re.search(r"blackbox\.yml:[45]: ", text), text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("modules: {m: {prober: smtp}}", "'http', 'tcp'"),
        ("modules: {m: {prober: dns}}", "query_name"),
        ("modules: {m: {prober: http, timeout: fast}}", "expected a duration"),
        ("modules: {m: {prober: icmp, icmp: {ttl: 256}}}", "255 or less"),
        ("modules: {m: {prober: dns, dns: {query_name: a, query_type: AAAAA}}}", "AAAAA"),
        ("modules: {m: {prober: dns, dns: {query_name: a, dns_over_tls: true}}}", "transport"),
        ("modules: {m: {prober: websocket, websocket: {http_config: {proxy_url: 'http://a'}}}}",
         "'proxy_url' is not supported for websockets"),
        ("modulos: {}", "expected 'modules:'"),
        ("modules: {}\nmore: 1", "unknown key 'more'"),
        ("- a", "expected 'modules:'"),
    ],
)  # fmt: skip
def test_a_file_that_makes_no_sense_is_refused_with_a_sentence(tmp_path, text, expected):
    with pytest.raises(ConfigError, match=expected):
        load(tmp_path, text)


def test_no_secret_is_shown(tmp_path):
    text = """
modules:
  m:
    prober: http
    http:
      headers: {Authorization: Bearer hunter2, X-Api-Key: hunter2, Accept: text/plain}
      basic_auth: {username: me, password: hunter2}
      http_headers: {X-Token: {secrets: [hunter2]}}
      proxy_url: http://me:hunter2@proxy.example:1
      proxy_connect_header: {X-Proxy: [hunter2]}
      body: hunter2
  t: {prober: tcp, tcp: {query_response: [{send: PASS hunter2}]}}
  g: {prober: grpc, grpc: {metadata: {x-key: [hunter2]}}}
  o: {prober: http, http: {oauth2: {client_id: a, client_secret: hunter2, token_url: b,
    endpoint_params: {key: hunter2}}}}
"""
    for module in load(tmp_path, text).values():
        assert "hunter2" not in str(module.shown)
    assert "text/plain" in str(load(tmp_path, text)["m"].shown)


@pytest.mark.parametrize(
    ("go", "matching", "other"),
    [
        ("a$", "a", "a\n"),
        ("(?m)a$", "a\nb", "ab"),
        (r"a\z", "a", "a\n"),
        ("[[:alpha:]]+[^[:digit:]]", "ab", "7"),
        (r"\Qa.b\E", "a.b", "axb"),
        (r"^\d+$", "42", "٤٢"),
        ("(?i)É", "é", "e"),
        (r"(?P<x>a)(?<y>b)", "ab", "a"),
        ("a{,2}", "a{,2}", "aa"),
        (r"\x{e9}", "é", "e"),
        ("[&|~[]", "[", "a"),
        ("[]a]", "]", "b"),
        ("(?s)a.b", "a\nb", "ab"),
        ("(?i:A)b", "ab", "aB"),
        ("a(?i)b", "aB", "AB"),
        (r"^\pL+$", "é", "4"),
        ("^(?U)a*$", "aaa", "b"),
    ],
)
def test_regular_expressions_mean_what_they_mean_in_go(go, matching, other):
    assert pattern.compiled(go).search(matching)
    assert not pattern.compiled(go).search(other)


@pytest.mark.parametrize(
    ("openssl", "iana"),
    [
        ("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256"),
        ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"),
        ("ECDHE-RSA-AES256-SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"),
        ("AES128-GCM-SHA256", "TLS_RSA_WITH_AES_128_GCM_SHA256"),
        ("AES128-SHA", "TLS_RSA_WITH_AES_128_CBC_SHA"),
        ("DES-CBC3-SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA"),
        ("unknown", "unknown"),
    ],
)
def test_a_cipher_has_its_registered_name(openssl, iana):
    assert iana_cipher(openssl) == iana
