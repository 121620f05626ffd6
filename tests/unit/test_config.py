"""What good files mean: defaults, inheritance, YAML as people write it, and helpful words."""

from datetime import date, time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolcevita.config import (
    Config,
    ConfigError,
    Problem,
    did_you_mean,
    format_duration,
    load,
    parse_duration,
)
from dolcevita.config import source as yaml_source
from dolcevita.config.source import read
from dolcevita.config.week import parse_hours
from dolcevita.probes import http

KINDS = {"http": http.KIND, "https": http.KIND}
PEOPLE = """\
providers:
  - {name: infogerance, notify: [{email: oncall@example.com}]}
owners:
  - {name: marie, notify: [{email: marie@example.com}]}
"""


def loaded(
    folder: Path, sites: str = "sites: [https://x.example]\n", people: str = PEOPLE
) -> Config:
    (folder / "sites.yml").write_text(sites)
    (folder / "people.yml").write_text(people)
    return load(folder / "sites.yml", folder / "people.yml", KINDS, ["smtp"], date(2027, 7, 1))


def data(folder: Path, text: str) -> object:
    path = folder / "file.yml"
    path.write_text(text)
    return read(path).data


def test_url_alone_is_a_site_of_the_only_owner_and_provider(tmp_path: Path) -> None:
    [site] = loaded(tmp_path, "sites: [https://www.example.com/]\n").sites
    assert (site.name, site.url) == ("www.example.com", "https://www.example.com/")
    assert (site.owner, site.provider, site.host) == ("marie", "infogerance", "")
    assert (site.every, site.timeout, site.down_after) == (15, 10, 25)


def test_site_takes_what_it_does_not_say_from_the_defaults(tmp_path: Path) -> None:
    text = (
        "defaults: {every: 20s, timeout: 4s, host: srv1, labels: {customer: acme, tier: gold}}\n"
        "sites:\n"
        "  - https://a.example.com\n"
        "  - {url: https://b.example.com, every: 30s, host: srv2, labels: {tier: iron}}\n"
    )
    a, b = loaded(tmp_path, text).sites
    assert (a.every, a.timeout, a.host) == (20, 4, "srv1")
    assert (b.every, b.timeout, b.host) == (30, 4, "srv2")
    assert a.labels == {"customer": "acme", "tier": "gold"}
    assert b.labels == {"customer": "acme", "tier": "iron"}


def test_objective_is_a_percentage_of_the_site_or_of_the_defaults(tmp_path: Path) -> None:
    strict, plain = loaded(
        tmp_path,
        "defaults: {objective: 99.5%}\n"
        "sites: [{url: 'https://a.example', objective: 99.95%}, 'https://b.example']\n",
    ).sites
    assert (strict.objective, plain.objective) == (0.9995, 0.995)


def test_timeout_of_the_defaults_shrinks_to_fit_a_quick_site(tmp_path: Path) -> None:
    text = "defaults: {timeout: 10s}\nsites: [{url: https://a.example.com, every: 5s}]\n"
    [site] = loaded(tmp_path, text).sites
    assert site.timeout == 4


def test_timeout_of_the_defaults_may_be_meant_for_slower_sites(tmp_path: Path) -> None:
    text = "defaults: {timeout: 20s}\nsites: [{url: https://a.example.com, every: 60s}]\n"
    [site] = loaded(tmp_path, text).sites
    assert site.timeout == 20


def test_label_is_kept_as_it_was_written(tmp_path: Path) -> None:
    text = (
        "defaults: {labels: {rack: 1.10}}\n"
        "sites: [{url: https://a.example.com, labels: "
        "{postcode: 01099, commit: 12e5, live: true, count: 7}}]\n"
    )
    [site] = loaded(tmp_path, text).sites
    assert site.labels == {
        "rack": "1.10", "postcode": "01099", "commit": "12e5", "live": "true", "count": "7",
    }  # fmt: skip


def test_kind_that_is_planned_is_a_warning_and_not_watched(tmp_path: Path) -> None:
    config = loaded(tmp_path, "sites: [https://a.example.com, 'smtp://mail.example.com']\n")
    assert [site.name for site in config.sites] == ["a.example.com"]
    assert [warning.line for warning in config.warnings] == [1]


def test_no_site_is_blamed_for_people_that_are_at_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(tmp_path, "sites: [{url: https://a.example.com, owner: marie}]\n", "owners: [\n")
    assert [Path(p.file).name for p in refused.value.problems] == ["people.yml"]


def test_yaml_is_read_as_it_looks(tmp_path: Path) -> None:
    text = "[NO, yes, 19:00, 2027-07-10, 007, true, 1.5, 1_000, 0x1F, ~]"
    assert data(tmp_path, text) == [
        "NO", "yes", "19:00", "2027-07-10", "007", True, 1.5, "1_000", "0x1F", None,
    ]  # fmt: skip


def test_own_key_wins_over_a_merged_one_wherever_it_stands(tmp_path: Path) -> None:
    text = "- &a {x: 1, y: 1}\n- &b {x: 2, z: 2}\n- {x: 3, <<: [*a, *b]}\n"
    _, _, merged = data(tmp_path, text)  # type: ignore[misc]
    assert merged == {"x": 3, "y": 1, "z": 2}


def test_line_of_a_value_is_where_its_own_key_stands(tmp_path: Path) -> None:
    path = tmp_path / "file.yml"
    path.write_text("a: &a {x: 1, y: [1]}\nb:\n  y:\n    - 2\n  <<: *a\nc:\n  - *a\n")
    source = read(path)
    assert source.line(("b", "y", 0)) == 4
    assert source.line(("b", "x")) == 1
    assert source.line(("c", 0)) == 7
    assert source.line(("c", 0, "nothing")) == 7


MANY = "# many\ndefaults: {every: 1.10, ratio: 1e3, on: true, zip: 01234}\nsites:\n" + "".join(
    f"  - name: site {n}\n    url: 'https://site{n}.example/?a=1&b=2'\n    labels: {{a: b, c: ~}}\n"
    for n in range(3000)
)


def test_a_large_file_is_read_as_a_small_one(tmp_path, monkeypatch):
    path = tmp_path / "sites.yml"
    path.write_text(MANY)
    assert len(MANY) > yaml_source.LARGE
    quick = read(path)
    monkeypatch.setattr(yaml_source, "LARGE", 2 * len(MANY))
    slow = read(path)
    assert (quick.data, quick.lines, quick.numbers) == (slow.data, slow.lines, slow.numbers)


@pytest.mark.parametrize("fault", ["  - name: [a, b\n", "\t- tab\n", "sites: []\n", "--- \na: 1\n"])
def test_a_fault_in_a_large_file_is_told_as_in_a_small_one(tmp_path, monkeypatch, fault):
    path = tmp_path / "sites.yml"
    path.write_text(MANY + fault)
    told = []
    for large in (yaml_source.LARGE, 2 * len(MANY)):
        monkeypatch.setattr(yaml_source, "LARGE", large)
        with pytest.raises(ConfigError) as error:
            read(path)
        told.append(str(error.value))
    assert told[0] == told[1]


def test_byte_order_mark_and_windows_line_ends_are_no_fault(tmp_path: Path) -> None:
    (tmp_path / "sites.yml").write_bytes(b"\xef\xbb\xbfsites:\r\n  - https://a.example.com\r\n")
    (tmp_path / "people.yml").write_text(PEOPLE)
    [site] = load(tmp_path / "sites.yml", tmp_path / "people.yml", KINDS).sites
    assert site.name == "a.example.com"


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("19:00-09:00", (time(19), time(9))),
        ("9:30 - 12:00", (time(9, 30), time(12))),
        ("19:00\u201309:00", (time(19), time(9))),
        ("19:00-24:00", (time(19), time(0))),
    ],
)
def test_hours_are_read_as_people_write_them(text: str, hours: tuple[time, time]) -> None:
    assert parse_hours(text) == hours


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("15s", 15), ("1h30m", 5400), ("500ms", 0.5), ("1.5m", 90), ("1w", 604800), (20, 20)],
)  # fmt: skip
def test_duration_is_seconds(value: object, seconds: float) -> None:
    assert parse_duration(value) == seconds


@given(st.integers(1, 10**11))
def test_duration_survives_being_written(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value", ["", "s", "15", "-1s", "0s", "1s ", "1d2", True, None, [], 10**400]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(value)


def test_nearest_word_is_offered_in_any_case() -> None:
    assert did_you_mean("EVRY", ["every", "timeout"]) == "did you mean 'every'?"
    assert did_you_mean("zzz", ["timeout", "every"]) == "expected one of: every, timeout"
    assert did_you_mean("zzz", []) == "there is none"


def test_problem_is_one_line_that_shows_what_cannot_be_seen() -> None:
    told = str(Problem("sites.yml", 3, "found 'a\nb\x1b[2J\u00a0'"))
    assert told == r"sites.yml:3: found 'a\nb\x1b[2J\xa0'"


def test_problem_names_a_file_of_the_current_folder_as_one_would_type_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert str(Problem(str(tmp_path / "conf/sites.yml"), 3, "x")) == "conf/sites.yml:3: x"
    assert str(Problem("/elsewhere/sites.yml", 0, "x")) == "/elsewhere/sites.yml: x"
