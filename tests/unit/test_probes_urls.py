"""A URL that its prober could never take is refused when sites.yml is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolcevita.config import ConfigError, load
from dolcevita.probes import KINDS, Reason, Target
from sites import files
from webserver import run


def told(tmp_path, url, **more):
    """What is said of a site with this URL, '' if it is taken."""
    keys = "".join(f", {key}: {value}" for key, value in more.items())
    try:
        load(*files(tmp_path, f"sites:\n  - {{url: '{url}'{keys}}}\n"), KINDS)
    except ConfigError as error:
        return str(error).partition("sites.yml:2: ")[2]
    return ""


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("tcp://db.example.com", "names no port: write one, as in tcp://db.example.com:22"),
        (
            "dns://ns1.example.com",
            "names nothing to ask for: write dns://server/example.com?type=A",
        ),
        (
            "dns://ns1.example.com/example.com?type=NONSENSE",
            "cannot be asked: its name, type or class is none of DNS",
        ),
        (
            "unix://run/app.sock",
            "names no absolute path: write three slashes, as in unix:///run/app.sock",
        ),
        ("icmp://srv1.example.com:80", "names a port, and a ping has none: take it out"),
        (
            "domain://192.0.2.1",
            "is an address, and only names are registered: write the domain",
        ),
        (
            "domain://example",
            "is no domain with its ending: write for example domain://example.com",
        ),
        (
            "domain://example.com/page",
            "names more than a domain: take out what comes after it",
        ),
        (
            "ftp://files.example.com/new.zip",
            "names more than a server, and nothing on it is looked at: take it out",
        ),
    ],
)
def test_a_url_that_cannot_be_probed_is_refused_with_a_sentence(tmp_path, url, words):
    assert told(tmp_path, url) == f"url: found '{url}', which {words}"


@pytest.mark.parametrize(
    "url",
    [
        "tcp://db.example.com:5432",
        "tls://www.example.com",
        "dns://ns1.example.com/example.com?type=MX",
        "unix:///run/app.sock",
        "icmp://[2001:db8::1]",
        "domain://bücher.example",
        "smtp://mail.example.com/",
    ],
)
def test_a_url_that_can_be_probed_is_taken(tmp_path, url):
    assert told(tmp_path, url) == ""


def test_a_url_without_any_name_needs_one_beside_it(tmp_path):
    heartbeat = "{period: 1d, token: 0123456789abcdef}"
    words = "'name' is missing, and the URL has none to go by: add it"
    assert told(tmp_path, "heartbeat://", heartbeat=heartbeat) == words
    assert told(tmp_path, "heartbeat://", heartbeat=heartbeat, name="backup") == ""


parts = st.text("abz.:/?=&;-0129%[]ü", max_size=20)


@given(st.sampled_from(["tcp", "dns", "unix"]), parts)
def test_what_is_taken_fails_for_no_fault_of_the_url(tmp_path_factory, scheme, rest):
    url = f"{scheme}://127.0.0.1{rest}" if scheme != "unix" else f"unix://{rest}"
    if told(tmp_path_factory.mktemp("urls"), url):
        return
    kind = KINDS[scheme]
    result = run(kind.probe(Target(url, kind.options(), kind.expect()), 0.05))
    assert result.reason is not Reason.PROTOCOL, result.detail
    assert result.reason is not Reason.INTERNAL
