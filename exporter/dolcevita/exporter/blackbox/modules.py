"""A module of blackbox_exporter as one of our probers, its options and what it expects."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from pydantic import ValidationError

from dolcevita import probes
from dolcevita.config import ConfigError, Problem
from dolcevita.config.source import Source
from dolcevita.exporter.blackbox import config
from dolcevita.exporter.blackbox.config import HTTPClient, Module, TLSConfig
from dolcevita.probes import Kind, Target

Raw = dict[str, Any]

VERSIONS = {"TLS10": "TLS 1.0", "TLS11": "TLS 1.1", "TLS12": "TLS 1.2", "TLS13": "TLS 1.3"}
HTTP_VERSIONS = {"HTTP/1.0": "1", "HTTP/1.1": "1.1", "HTTP/2.0": "2", "HTTP/3.0": "3"}

NO_LIMIT = 2**62
"""Bytes of a body where the module sets no limit."""

LABEL = "module_"
"""Before the labels of a dialogue, which may not have the names of ours; taken off again."""

WHOLE_TIME = 86_400.0
"""Seconds for connecting: all the time of the probe, as blackbox_exporter has no second try."""


@dataclass(frozen=True)
class Loaded:
    """A module that can be probed with. `seconds` is its timeout, 0 for none of its own.

    `shown` is its part of the file with the secrets masked.
    """

    name: str
    module: Module
    kind: Kind
    options: Any
    expect: Any
    seconds: float
    shown: Any

    def target(self, text: str, hostname: str = "") -> Target[Any, Any]:
        """For `?target=`, with `?hostname=`. Raises ValueError where they do not go together."""
        prober = self.module.prober
        options = self.options
        if not re.fullmatch(r"[\w.:\[\]-]*", hostname):
            raise ValueError("hostname: expected a host name such as www.example.com")
        if hostname and prober == "http":
            options = _with_host(options, hostname)
        if hostname and prober == "tcp" and not options.server_name:
            options = options.model_copy(update={"server_name": hostname})
        return Target(_URLS[prober](self.module, text), options, self.expect)


def load(path: Path) -> dict[str, Loaded]:
    """The modules of blackbox_exporter's file. Raises ConfigError with every problem."""
    source, modules = config.load(path)
    problems: list[Problem] = []
    loaded = {}
    for name, module in modules.items():
        found = _loaded(name, module, source, problems)
        if found:
            loaded[name] = found
    if problems:
        raise ConfigError(problems)
    return loaded


def built_in() -> dict[str, Loaded]:
    """The module that there is without a file."""
    source = Source("", {"modules": {"http_2xx": {"prober": "http"}}})
    module = _loaded("http_2xx", Module(prober="http"), source, [])
    assert module
    return {"http_2xx": module}


def _loaded(name: str, module: Module, source: Source, problems: list[Problem]) -> Loaded | None:
    where = ("modules", name)
    kind = probes.KINDS["ws" if module.prober == "websocket" else module.prober]
    options, expect = map(_plain, _OPTIONS[module.prober](module))
    try:
        return Loaded(
            name,
            module,
            replace(kind, again=False),
            kind.options.model_validate(options),
            kind.expect.model_validate(expect),
            module.timeout,
            _masked(source.data["modules"][name]),
        )
    except ValidationError as error:
        for fault in error.errors():
            at = ".".join(map(str, fault["loc"]))
            problems.append(source.problem((*where, module.prober), f"{at}: {fault['msg']}"))
        return None


def _plain(value: Any) -> Any:
    """With lists for tuples, as YAML has them."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _http(module: Module) -> tuple[Raw, Raw]:
    given = module.http
    headers: dict[str, str | None] = dict(given.headers)
    compression = given.compression.lower()
    if compression and not _value(given.headers, "accept-encoding"):
        # It decodes without asking for what it can decode.
        headers["Accept-Encoding"] = None
    version = "3" if given.enable_http3 else None if given.enable_http2 else "1.1"
    follow = given.follow_redirects
    if given.no_follow_redirects is not None:
        follow = not given.no_follow_redirects
    client, files = _client(given)
    options = {
        **client,
        **_network(given),
        "method": given.method or "GET",
        "headers": {**headers, **client["headers"]},
        "header_files": files,
        "body": given.body or None,
        "body_file": given.body_file or None,
        "one_address": True,
        "http_version": version,
        "connect_timeout": WHOLE_TIME,
        "body_limit": given.body_size_limit or NO_LIMIT,
        "compression": compression or "identity",
        "redirects": 10 if follow else 0,
        "proxy_resolves": given.skip_resolve_phase_with_proxy,
    }
    tls = None
    if given.fail_if_ssl or given.fail_if_not_ssl:
        tls = given.fail_if_not_ssl
    expect = {
        "status": given.valid_status_codes,
        "http_version": [HTTP_VERSIONS[text] for text in given.valid_http_versions],
        "tls": tls,
        "header": _header_matches(given),
        "matches": given.fail_if_body_not_matches_regexp,
        "not_matches": given.fail_if_body_matches_regexp,
        "cel": [*_cel(given)],
    }
    return options, expect


def _cel(given: config.HTTP) -> Iterator[str]:
    """What must be true."""
    if expression := given.fail_if_body_json_matches_cel:
        # It may end in a comment.
        end = "\n" if "//" in expression else ""
        yield f"!({expression}{end})"
    if given.fail_if_body_json_not_matches_cel:
        yield given.fail_if_body_json_not_matches_cel


def _header_matches(given: config.HTTP) -> Raw:
    """By header: several entries for one are all to hold, and one that must be there decides."""
    found: dict[str, Raw] = {}
    for key, entries in (
        ("not_matches", given.fail_if_header_matches),
        ("matches", given.fail_if_header_not_matches),
    ):
        for entry in entries:
            wanted = found.setdefault(entry.header.lower(), {"optional": True})
            wanted[key] = [*wanted.get(key, ()), entry.regexp]
            wanted["optional"] = wanted["optional"] and entry.allow_missing
    return found


def _client(given: HTTPClient) -> tuple[Raw, Raw]:
    """Options of what every HTTP client takes, and the headers whose value is in a file."""
    options: Raw = {**_tls(given.tls_config), "headers": {}}
    files: Raw = {}
    if basic := given.basic_auth:
        options["basic_auth"] = {key: value or None for key, value in basic.model_dump().items()}
    if given.authorization:
        entries = given.authorization.model_dump().items()
        options["authorization"] = {key: value for key, value in entries if value}
    if given.bearer_token:
        options["authorization"] = {"credentials": given.bearer_token}
    if given.bearer_token_file:
        options["authorization"] = {"credentials_file": given.bearer_token_file}
    if token := given.oauth2:
        tls = _tls(token.tls_config)
        options["oauth2"] = {
            "client_id": token.client_id,
            "client_secret": None if token.client_secret_file else token.client_secret,
            "client_secret_file": token.client_secret_file or None,
            "token_url": token.token_url,
            "scopes": token.scopes,
            "endpoint_params": token.endpoint_params,
            "ca_file": tls["ca_file"],
            "insecure": tls["insecure"],
        }
    if given.proxy_url or given.proxy_from_environment:
        options["proxy"] = given.proxy_url or None
        options["proxy_from_environment"] = given.proxy_from_environment
        options["no_proxy"] = given.no_proxy
        connect = given.proxy_connect_header.items()
        options["proxy_headers"] = {name: ", ".join(values) for name, values in connect}
    for name, header in given.http_headers.items():
        # Of several the last is sent.
        if header.files:
            files[name] = header.files[-1]
        elif values := (*header.values, *header.secrets):
            options["headers"][name] = values[-1]
    return options, files


def _tls(given: TLSConfig) -> Raw:
    return {
        "ca_file": _file(given.ca_file, given.ca),
        "cert_file": _file(given.cert_file, given.cert),
        "key_file": _file(given.key_file, given.key),
        "server_name": given.server_name or None,
        "insecure": given.insecure_skip_verify,
        "min_version": VERSIONS[given.min_version or "TLS12"],
        "max_version": VERSIONS[given.max_version or "TLS13"],
    }


def _file(path: str, text: str) -> str | None:
    return path or (_in_memory(text) if text else None)


@lru_cache(maxsize=256)
def _in_memory(text: str) -> str:
    """A file of this process alone with a text that the configuration has inline."""
    number = os.memfd_create("blackbox")
    os.write(number, text.encode())
    return f"/proc/{os.getpid()}/fd/{number}"


def _network(given: Any) -> Raw:
    return {
        "ip_version": 4 if given.preferred_ip_protocol == "ip4" else 6,
        "ip_fallback": given.ip_protocol_fallback,
    }


def _dialogue(steps: Sequence[config.QueryResponse]) -> list[Raw]:
    return [
        {
            "expect": step.expect,
            "expect_bytes": step.expect_bytes or None,
            "labels": [{"name": LABEL + label.name, "value": label.value} for label in step.labels],
            "send": step.send or None,
            "starttls": step.starttls,
        }
        for step in steps
    ]


def _tcp(module: Module) -> tuple[Raw, Raw]:
    given = module.tcp
    options = {
        **_tls(given.tls_config),
        **_network(given),
        "source_ip_address": given.source_ip_address or None,
        "tls": given.tls,
        "query_response": _dialogue(given.query_response),
    }
    return options, {}


def _unix(module: Module) -> tuple[Raw, Raw]:
    given = module.unix
    options = {
        **_tls(given.tls_config),
        "tls": given.tls,
        "query_response": _dialogue(given.query_response),
    }
    return options, {}


def _dns(module: Module) -> tuple[Raw, Raw]:
    given = module.dns
    assert given, "the loader lets in no dns module without it"
    options = {
        **_tls(given.tls_config),
        **_network(given),
        "source_ip_address": given.source_ip_address or None,
        "transport": "tls" if given.dns_over_tls else given.transport_protocol or "udp",
        "recursion": given.recursion_desired,
    }
    expect = {
        "rcode": given.valid_rcodes or ("NOERROR",),
        "records": 0,
        "validate_answer_rrs": given.validate_answer_rrs.model_dump(),
        "validate_authority_rrs": given.validate_authority_rrs.model_dump(),
        "validate_additional_rrs": given.validate_additional_rrs.model_dump(),
    }
    return options, expect


def _icmp(module: Module) -> tuple[Raw, Raw]:
    given = module.icmp
    options = {
        **_network(given),
        "source_ip_address": given.source_ip_address or None,
        "ttl": given.ttl,
        "dont_fragment": given.dont_fragment,
    }
    if given.payload_size:
        options["payload_size"] = given.payload_size
    return options, {}


def _grpc(module: Module) -> tuple[Raw, Raw]:
    given = module.grpc
    options = {
        **_tls(given.tls_config),
        **_network(given),
        "service": given.service,
        "metadata": given.metadata,
    }
    return options, {}


def _websocket(module: Module) -> tuple[Raw, Raw]:
    given = module.websocket
    client, _ = _client(given.http_config)
    options = {**client, **_network(given), "header_files": {}}
    for name, header in given.headers.items():
        # The loader lets in no more than one.
        for file in header.files:
            options["header_files"][name] = file
        for value in (*header.values, *header.secrets):
            options["headers"][name] = value
    steps = [{"expect": step.expect, "send": step.send or None} for step in given.query_response]
    return {**options, "query_response": steps}, {}


def _with_host(options: Any, hostname: str) -> Any:
    own = _value(options.headers, "host")
    if own and own != hostname:
        raise ValueError(
            f"host header defined both in module configuration ({own}) "
            f"and with URL-parameter 'hostname' ({hostname})"
        )
    rest = {name: value for name, value in options.headers.items() if name.lower() != "host"}
    return options.model_copy(update={"headers": {**rest, "Host": hostname}})


def _value(headers: Mapping[str, str | None], name: str) -> str | None:
    return next((value for key, value in headers.items() if key.lower() == name), None)


def _http_url(module: Module, target: str) -> str:
    scheme, found, rest = target.partition("://")
    if not found or scheme.lower() not in ("http", "https"):
        scheme, rest = "http", target
    if module.http.enable_http3:
        scheme = "https"
    return f"{scheme.lower()}://{rest}"


def _grpc_url(module: Module, target: str) -> str:
    server = target.partition("://")[2] or target
    return f"grpc{'s' if module.grpc.tls else ''}://{server.partition('/')[0]}"


def _icmp_url(module: Module, target: str) -> str:
    return f"icmp://[{target}]" if ":" in target else f"icmp://{target}"


def _unix_url(module: Module, target: str) -> str:
    return f"unix://{quote(target)}"


def _dns_url(module: Module, target: str) -> str:
    given = module.dns
    assert given
    bare_ipv6 = target.count(":") > 1 and not target.startswith("[")
    server = f"[{target}]" if bare_ipv6 else target
    question = f"type={given.query_type or 'ANY'}&class={given.query_class or 'IN'}"
    return f"dns://{server}/{quote(given.query_name)}?{question}"


_OPTIONS: Mapping[str, Callable[[Module], tuple[Raw, Raw]]] = {
    "http": _http,
    "tcp": _tcp,
    "unix": _unix,
    "dns": _dns,
    "icmp": _icmp,
    "grpc": _grpc,
    "websocket": _websocket,
}

_URLS: Mapping[str, Callable[[Module, str], str]] = {
    "http": _http_url,
    "tcp": lambda module, target: f"tcp://{target}",
    "unix": _unix_url,
    "dns": _dns_url,
    "icmp": _icmp_url,
    "grpc": _grpc_url,
    "websocket": lambda module, target: target,
}

_SECRETS = (
    "password", "credentials", "client_secret", "bearer_token", "secrets", "key", "send",
    "endpoint_params", "proxy_connect_header", "metadata", "body",
)  # fmt: skip
_SECRET_HEADERS = ("authorization", "cookie", "key", "token", "secret")


def _masked(data: Any, name: str = "") -> Any:
    """The data of a module without what only the servers should know."""
    if isinstance(data, dict):
        if name in ("endpoint_params", "proxy_connect_header", "metadata"):
            return dict.fromkeys(data, "<secret>")
        headers = name == "headers"
        return {
            key: "<secret>"
            if headers and any(word in str(key).lower() for word in _SECRET_HEADERS)
            else _masked(value, str(key))
            for key, value in data.items()
        }
    if name in _SECRETS and data:
        return "<secret>"
    if isinstance(data, list):
        return [_masked(entry) for entry in data]
    if isinstance(data, str) and "@" in data and "://" in data:
        return f"{urlsplit(data).scheme}://<secret>@{data.rpartition('@')[2]}"
    return data
