"""status.yml: what it may say, and what is said of mistakes."""

import re
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from dolcevita.config import ConfigError, load
from dolcevita.config.status import load_status, moment
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
    once, weekly = status.maintenance
    assert ahead(once, "2027-07-01 12:00") == ("2027-07-10 22:00", "2027-07-11 00:00")
    assert ahead(weekly, "2027-07-01 12:00") == ("2027-07-04 02:00", "2027-07-04 04:00")
    assert (once.counts, weekly.counts) == (False, True)


def ahead(window, now):
    """From when to when the window is that is under way or next, on the clock of Paris."""
    found = window.when.ahead(moment(now, "Europe/Paris"))
    paris = ZoneInfo("Europe/Paris")
    return found and tuple(f"{datetime.fromtimestamp(at, paris):%Y-%m-%d %H:%M}" for at in found)


@pytest.mark.parametrize(
    ("every", "now", "expected"),
    [
        # 1 July 2027 is a Thursday.
        ("sunday 02:00-04:00", "2027-07-04 03:59", ("2027-07-04 02:00", "2027-07-04 04:00")),
        ("sunday 02:00-04:00", "2027-07-04 04:00", ("2027-07-11 02:00", "2027-07-11 04:00")),
        ("Mon-Fri 22:00-22:30", "2027-07-02 23:00", ("2027-07-05 22:00", "2027-07-05 22:30")),
        ("sat 23:00-01:00", "2027-07-04 00:30", ("2027-07-03 23:00", "2027-07-04 01:00")),
        ("[sat 1:00-2:00, tue 1:00-2:00]", "2027-07-05 09:00",
         ("2027-07-06 01:00", "2027-07-06 02:00")),
        # Two to three does not exist on 28 March, and is there twice on 31 October.
        ("sun 02:00-03:00", "2027-03-26 12:00", ("2027-04-04 02:00", "2027-04-04 03:00")),
        ("sun 02:00-03:00", "2027-10-31 01:00", ("2027-10-31 02:00", "2027-10-31 03:00")),
    ],
)  # fmt: skip
def test_a_window_of_each_week_is_the_one_under_way_or_the_next(tmp_path, every, now, expected):
    text = f"maintenance: [{{hosts: srv1, every: {every}, because: backup}}]"
    (window,) = read(tmp_path, text).maintenance
    assert ahead(window, now) == expected


def test_a_window_that_is_over_is_nowhere(tmp_path):
    text = 'maintenance: [{sites: shop, from: "2027-07-10 22:00", for: 2h, because: x}]'
    (window,) = read(tmp_path, text).maintenance
    assert ahead(window, "2027-07-10 23:59") and not ahead(window, "2027-07-11 00:00")


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
        ("maintenance: [{sites: shop, because: x}]", "expected 'from' and 'for', or"),
        ("maintenance: [{sites: shop, from: 2027-07-10 22:00, because: x}]", "'from' and 'for'"),
        (
            "maintenance: [{sites: shop, every: sun 02:00-04:00, for: 2h, because: x}]",
            "only 'every', such as every: sunday 02:00-04:00",
        ),
        (
            "maintenance: [{sites: shop, every: sunday, because: x}]",
            "every: found 'sunday', expected days and hours: sunday 02:00-04:00",
        ),
        (
            "maintenance: [{sites: shop, every: sonday 02:00-04:00, because: x}]",
            "every: found 'sonday', expected days such as mon-fri or sat",
        ),
        (
            "maintenance: [{sites: shop, every: sunday 02:00-25:00, because: x}]",
            "every: found '02:00-25:00', expected times from 00:00 to 23:59",
        ),
        ("maintenance: [{sites: shop, every: 2h, because: x}]", "expected days and hours"),
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
