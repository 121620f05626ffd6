"""Whatever is wrong with the two files, the user reads file, line, what was found and expected."""

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import bad_input
from dolcevita import probes
from dolcevita.alerting import compile as compiler
from dolcevita.config import ConfigError, load
from dolcevita.stack.packages import Programs

Fault = Callable[[str], st.SearchStrategy[str]]

DESIGN_SITES = """\
defaults: {every: 15s, timeout: 10s}
sites:
  - https://www.example.com                 # a URL alone is a site
  - name: shop
    url: https://shop.example.com/cart
    owner: marie
    host: srv1                              # sites on one host: one page when it falls
    every: 30s
    expect:
      status: [200]
      contains: "Add to cart"               # also: absent, json, header, final_url
      under: 2s                             # slower than this is SiteSlow
    labels: {customer: acme}
  - {name: mail, url: "smtp://mail.example.com:25", expect: {starttls: true}}
  - {name: name, url: "dns://ns1.example.com/example.com?type=A", expect: {answer: 192.0.2.1}}
  - {name: box, url: "icmp://srv1.example.com"}
"""
DESIGN_PEOPLE = """\
providers:
  - name: infogerance
    language: fr
    notify: [{webhook: "http://127.0.0.1:9999/provider"}]
owners:
  - name: marie
    language: fr
    timezone: Europe/Paris
    notify: [{email: marie@example.com}]
    hears: [resolved]                       # default; also: down, overdue, warnings, report
    quiet:
      hours: "19:00-09:00"
      weekends: true
      public_holidays: FR                   # every country the holidays package knows
      away: ["2027-07-10..2027-07-25"]
    overdue_after: 4h                       # not fixed by then: tell the owner
    overdue_wakes: false                    # true: even in quiet hours
"""

LOADED = bad_input.cases(*bad_input.PARTNERS)
COMPILED = bad_input.cases("alertmanager")


@pytest.mark.parametrize("path", LOADED, ids=bad_input.label)
def test_bad_file_gets_its_message(path: Path, tmp_path: Path) -> None:
    assert bad_input.told(path, tmp_path) == bad_input.expected(path)


@pytest.mark.parametrize("path", COMPILED, ids=bad_input.label)
def test_receiver_that_alertmanager_refuses_gets_its_words_and_our_line(
    path: Path, tmp_path: Path, programs: Programs, request: pytest.FixtureRequest
) -> None:
    end = request.node.callspec.params["programs"]
    told = bad_input.told_by_alertmanager(path, tmp_path, programs.amtool)
    assert told == bad_input.expected(path, end)


def test_no_message_is_empty_or_shows_a_secret() -> None:
    texts = {str(path): path.read_text() for path in bad_input.FOLDER.rglob("*.expected")}
    assert len(texts) >= len(LOADED) + len(COMPILED)
    for name, text in texts.items():
        assert text, name
        assert "s3cret" not in text, name
        assert "0123456789" not in text, name


@pytest.mark.parametrize("missing", ["sites.yml", "people.yml"])
def test_file_that_is_not_there_is_named(
    tmp_path: Path, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sites.yml").write_text(bad_input.SITES)
    Path("people.yml").write_text(bad_input.PEOPLE)
    Path(missing).unlink()
    assert refusal() == f"{missing}: no such file; create it, or name another one"


def test_folder_in_place_of_a_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sites.yml").mkdir()
    Path("people.yml").write_text(bad_input.PEOPLE)
    assert refusal() == "sites.yml: found a folder, expected a YAML file"


def test_problems_of_both_files_are_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sites.yml").write_text("sites: [{url: https://www.example.com, owner: mary}, ftp//x]\n")
    Path("people.yml").write_text(bad_input.PEOPLE.replace("marie@", "marie.").replace("{", "{ "))
    assert [line.partition(": ")[0] for line in refusal().splitlines()] == [
        "sites.yml:1",
        "people.yml:4",
    ]


def refusal() -> str:
    with pytest.raises(ConfigError) as refused:
        load(Path("sites.yml"), Path("people.yml"), probes.KINDS, probes.PLANNED)
    return str(refused.value)


def test_examples_of_the_design_load_as_they_stand(tmp_path: Path) -> None:
    sites, people = written(tmp_path, DESIGN_SITES, DESIGN_PEOPLE)
    config = load(sites, people, probes.KINDS, probes.PLANNED, bad_input.TODAY)
    assert [site.name for site in config.sites][:2] == ["www.example.com", "shop"]
    unwatched = [w.line for w in config.warnings if "not watched" in w.message]
    assert len(config.sites) + len(unwatched) == 5
    assert len(config.warnings) == len(unwatched)


PIECES = st.sampled_from(
    [*"\t\n \"'{}[]:,-#&*!|>%@`?\\\0\u2028\ufeff", "- ", ": ", "<<: ", "*a", "&a ", "!!int ",
     "---\n", "null", "true", "1e999", "9" * 5000, "[" * 80, "https://", "smtp://x", "\U0001f600",
     "://[", "..", "%zz", "\\ud800", "FR-", "24:00-00:00", "0001-01-01..2999-12-31"]
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | PIECES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=5,
)


@st.composite
def mistyped(draw: st.DrawFn, text: str) -> str:
    """The text with some pieces cut out, doubled, or put in."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = draw(st.integers(start, min(len(text), start + 12)))
        cut = text[start:end]
        new = draw(st.just("") | st.just(cut * 2) | PIECES | st.text(max_size=4))
        text = text[:start] + new + text[end:]
    return text


@st.composite
def misunderstood(draw: st.DrawFn, text: str) -> str:
    """The text as YAML with one of its values replaced by any other, or one more key."""
    data = yaml.safe_load(text)
    holder, key = draw(st.sampled_from(list(_places(data))))
    value = draw(VALUES)
    if isinstance(holder, dict) and draw(st.booleans()):
        key = draw(st.text(max_size=8))
    holder[key] = value
    return yaml.safe_dump(data, allow_unicode=True)


def _places(data: Any) -> Iterator[tuple[Any, Any]]:
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield data, key
        if isinstance(value, dict | list):
            yield from _places(value)


@pytest.mark.parametrize("fault", [mistyped, misunderstood])
def test_any_file_loads_or_is_refused_in_words(fault: Fault, tmp_path: Path) -> None:
    @settings(max_examples=300, deadline=None)
    @given(sites=fault(DESIGN_SITES), people=fault(DESIGN_PEOPLE))
    def loads_or_is_refused(sites: str, people: str) -> None:
        for texts in ((sites, DESIGN_PEOPLE), (DESIGN_SITES, people)):
            paths = written(tmp_path, *texts)
            try:
                config = load(*paths, probes.KINDS, probes.PLANNED, bad_input.TODAY)
                compiler.compile(config, bad_input.BASE, "templates", "http://x", bad_input.NOW)
            except ConfigError as error:
                told = str(error).splitlines()
                assert len(told) == len(set(told)) == len(error.problems)
                assert all(re.match(r".*\.yml(:[1-9]\d*)?: \S", line) for line in told)
            else:
                assert all(site.timeout <= site.every <= 120 for site in config.sites)

    loads_or_is_refused()


def test_any_bytes_load_or_are_refused_in_words(tmp_path: Path) -> None:
    @settings(max_examples=200, deadline=None)
    @given(st.binary(max_size=40), st.integers(0, len(DESIGN_SITES)))
    def is_refused(junk: bytes, place: int) -> None:
        sites, people = written(tmp_path, "", DESIGN_PEOPLE)
        text = DESIGN_SITES.encode()
        sites.write_bytes(text[:place] + junk + text[place:])
        with suppress(ConfigError):
            load(sites, people, probes.KINDS, probes.PLANNED)

    is_refused()


def written(folder: Path, sites: str, people: str) -> tuple[Path, Path]:
    paths = folder / "sites.yml", folder / "people.yml"
    for path, text in zip(paths, (sites, people), strict=True):
        path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    return paths
