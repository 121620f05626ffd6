"""status.yml: what it may say, and what is said of mistakes."""

import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dolcevita.config import ConfigError, load
from dolcevita.config.status import load_status
from dolcevita.probes import KINDS

DOC = Path(__file__).parents[2] / "docs" / "status.md"
TOKEN = "0123456789abcdefghij"

SITES = "sites: [{name: shop, url: 'http://127.0.0.1:9/', host: srv1}]"
PEOPLE = """
providers: [{name: p, notify: [{email: p@example.com}]}]
owners: [{name: marie, timezone: Europe/Paris, notify: [{email: m@example.com}]}]
"""


def read(folder, text):
    (folder / "sites.yml").write_text(SITES)
    (folder / "people.yml").write_text(PEOPLE)
    (folder / "status.yml").write_text(text)
    config = load(folder / "sites.yml", folder / "people.yml", KINDS)
    return load_status(folder / "status.yml", config.sites, config.owners)


def test_the_example_of_the_documentation_loads(tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", DOC.read_text(), re.DOTALL)
    (tmp_path / "logo.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    status = read(tmp_path, example)
    assert status.url == "https://status.example.com"
    assert status.pages[0].title == "Marie's shops"
    (window,) = status.maintenance
    begin = datetime(2027, 7, 10, 22, tzinfo=ZoneInfo("Europe/Paris")).timestamp()
    assert (window.start, window.end, window.counts) == (begin, begin + 7200, False)


def test_a_file_that_is_not_there_says_nothing(tmp_path):
    status = load_status(tmp_path / "status.yml", (), ())
    assert not status.pages and not status.maintenance and not status.notes


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("pages: [{owner: mary, token: TOKEN}]", "no owner is named 'mary': did you mean"),
        ("pages: [{owner: marie, token: secret}]", "token: found 6 characters (not shown)"),
        ("pages: [{owner: marie, token: TOKEN/}]", "found other characters than letters"),
        ("pages: [{owner: marie, token: TOKEN, logo: x.gif}]", "expected a file named .svg"),
        ("pages: [{owner: marie, token: TOKEN, logo: x.png}]", "'x.png' is no file"),
        ("pages: [{owner: marie, token: TOKEN, colour: red}]", "expected a colour such as"),
        ("maintenance: [{from: 2027-07-10 22:00, for: 2h, because: x}]", "say what is worked on"),
        (
            "maintenance: [{sites: [shopp], from: 2027-07-10 22:00, for: 2h, because: x}]",
            "no site is named 'shopp': did you mean 'shop'?",
        ),
        ("maintenance: [{sites: shop, from: soon, for: 2h, because: x}]", "expected a time such"),
        ("maintenance: [{sites: shop, from: 2027-02-30 22:00, for: 2h, because: x}]", "that exist"),
        ("notes: [{at: 2027-07-10 22:00}]", "'text' is missing"),
        ("notes: [x]", "notes: found a text, expected 'key: value' pairs"),
        ("url: status.example.com", "expected an address such as https://status.example.com"),
        ("page: []", "unknown key 'page': did you mean 'pages'?"),
        ("- x", "expected 'pages:', 'maintenance:' or 'notes:'"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_without_the_secret(tmp_path, text, sentence):
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, text.replace("TOKEN", TOKEN))
    assert sentence in str(refused.value)
    assert "status.yml:1" in str(refused.value)
    assert TOKEN not in str(refused.value) and "secret" not in str(refused.value)
