"""What `dolcevita whatif` tells, from the compiled file through both ends of amtool."""

import random
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import yaml
from typer.testing import CliRunner

import people
from alertmanagers import ROOT, programs
from dolcevita import cli, probes
from dolcevita.alerting import picture
from dolcevita.alerting.calendar import reachable
from dolcevita.alerting.compile import compile
from dolcevita.alerting.routing import Compiled
from dolcevita.alerting.whatif import Entry, Outage, evaluation_intervals, parse, timeline
from dolcevita.config import Config, ConfigError, load
from dolcevita.config.status import load_status

PARIS = ZoneInfo("Europe/Paris")
SITES = """\
sites:
  - {name: shop, url: "https://shop.example.com/?a=1,b", host: srv1, owner: marie, provider: pro}
"""
PEOPLE = """\
providers:
  - name: pro
    notify: [{webhook: "https://hooks.example.com/secret"}]
    escalate: {to: second, after: 30m}
  - {name: second, notify: [{apprise: "ntfys://secret@ntfy.example.com/topic"}]}
owners:
  - name: marie
    timezone: Europe/Paris
    notify: [{email: marie@example.com}]
    quiet: {hours: "19:00-09:00", public_holidays: FR}
"""


@pytest.fixture(params=["oldest", "newest"])
def amtool(request: pytest.FixtureRequest) -> Path:
    return programs(request.param).amtool


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for part in ("alertmanager", "prometheus"):
        shutil.copytree(ROOT / part, tmp_path / part)
    (tmp_path / "sites.yml").write_text(SITES)
    (tmp_path / "people.yml").write_text(PEOPLE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def told(amtool: Path, at: str, lasts: str, people_yml: str = PEOPLE) -> tuple[Entry, ...]:
    Path("people.yml").write_text(people_yml)
    config = load(Path("sites.yml"), Path("people.yml"), probes.KINDS, probes.PLANNED)
    outage = parse(config, "shop", at, lasts)
    return simulate(config, outage, amtool)


def simulate(config: Config, outage: Outage, amtool: Path) -> tuple[Entry, ...]:
    base = Path("alertmanager/alertmanager.yml")
    text = compile(config, base, "templates", "http://127.0.0.1:9715", outage.at)
    intervals = evaluation_intervals(Path("prometheus/prometheus.yml"))
    maintenance = load_status(Path("status.yml"), config.sites, config.owners).maintenance
    return timeline(outage, config, Compiled(text, amtool), intervals, maintenance)


def messages(entries: tuple[Entry, ...]) -> list[tuple[str, str, str]]:
    return [
        (f"{entry.at:%d %H:%M:%S}", entry.who, entry.text)
        for entry in entries
        if entry.kind == "told"
    ]


def silences(entries: tuple[Entry, ...]) -> dict[str, str]:
    return {f"{e.who} {e.text}": e.why for e in entries if e.kind == "silent"}


@pytest.mark.usefixtures("folder")
def test_evening_of_14_july_is_told_as_it_goes(amtool: Path) -> None:
    entries = told(amtool, "2027-07-14 20:13", "20m")
    assert messages(entries) == [
        ("14 20:13:48", "pro", "shop is down by webhook"),
        ("14 20:34:35", "pro", "shop is up by webhook"),
        ("15 09:00:05", "marie",
         "shop was down for 20m, is fixed, nothing to do by email to marie@example.com"),
    ]  # fmt: skip
    assert entries[-1].at is None
    assert silences(entries) == {
        "marie is not told that it is down": "has not asked for it (hears: down)",
        "marie is not told when it takes long": "has not asked for it (overdue_after)",
        "second is not called": "it is over within the 30m that pro has",
    }
    assert [e.why for e in entries if e.who == "marie" and e.at] == ["held back by quiet/marie"]


@pytest.mark.usefixtures("folder")
def test_by_day_the_owner_hears_at_once_that_it_is_fixed(amtool: Path) -> None:
    found = messages(told(amtool, "2027-07-15 10:00", "20m"))
    assert [(at, who) for at, who, _ in found if who == "marie"] == [("15 10:21:35", "marie")]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("at", "again"),
    [
        ("2027-03-28 01:30", "28 05:31:35"),  # Two o'clock is three.
        ("2027-03-28 02:30", "28 06:31:35"),  # There is no such time: an hour later is meant.
        ("2027-10-31 01:30", "31 03:31:35"),  # Two o'clock comes twice.
    ],
)
def test_three_hours_are_three_hours_when_the_clock_changes(
    amtool: Path, at: str, again: str
) -> None:
    found = messages(told(amtool, at, "3h"))
    assert [at for at, _, text in found if text == "shop is up by webhook"] == [again]


@pytest.mark.usefixtures("folder")
def test_what_is_fixed_just_before_quiet_time_is_told_after_it(amtool: Path) -> None:
    # Over at 18:59:45: too late to be sure that it is sent before 19:00.
    found = messages(told(amtool, "2027-07-15 18:38:15", "20m"))
    assert [(at, who) for at, who, _ in found if who == "marie"] == [("16 09:00:05", "marie")]


@pytest.mark.usefixtures("folder")
def test_second_provider_is_called_and_told_of_the_end(amtool: Path) -> None:
    found = messages(told(amtool, "2027-07-14 20:13", "40m"))
    assert [message for message in found if message[1] == "second"] == [
        ("14 20:43:23", "second", "shop is still down by apprise (ntfys)"),
        ("14 20:54:35", "second", "shop is up by apprise (ntfys)"),
    ]


@pytest.mark.usefixtures("folder")
def test_overdue_provider_is_told_to_the_owner_in_quiet_time_only_if_that_may_wake_them(
    amtool: Path,
) -> None:
    late = PEOPLE + "    overdue_after: 1h\n"
    held = silences(told(amtool, "2027-07-14 20:13", "3h", late))
    assert held["marie is not told: shop is still down, pro is late"] == (
        "held back by quiet/marie until Thu 15 Jul 09:00, when it is over"
    )
    waking = messages(told(amtool, "2027-07-14 20:13", "3h", late + "    overdue_wakes: true\n"))
    assert [(who, text) for _, who, text in waking if "late" in text] == [
        ("marie", "shop is still down, pro is late by email to marie@example.com")
    ]
    by_morning = messages(told(amtool, "2027-07-14 20:13", "20h", late))
    assert [at for at, _, text in by_morning if "late" in text] == ["15 09:00:00"]


@pytest.mark.usefixtures("folder")
def test_short_failure_is_nobodys_business(amtool: Path) -> None:
    entries = told(amtool, "2027-07-14 20:13", "25s")
    assert messages(entries) == []
    assert silences(entries) == {
        "nobody hears of it": "it was away for no longer than its down_after, 25s"
    }


@pytest.mark.usefixtures("folder")
def test_owner_who_is_away_for_years_is_said_to_be_out_of_reach(amtool: Path) -> None:
    away = PEOPLE.replace('hours: "19:00-09:00"', "away: 2027-01-01..2035-01-01")
    found = silences(told(amtool, "2027-07-14 20:13", "20m", away))
    assert found["marie is not told that it is fixed"] == "cannot be reached within a year"


@pytest.mark.usefixtures("folder")
def test_secret_addresses_are_not_shown(amtool: Path) -> None:
    assert "secret" not in str(told(amtool, "2027-07-14 20:13", "5h"))


@pytest.mark.usefixtures("folder")
def test_routes_and_times_of_the_users_base_file_count(amtool: Path) -> None:
    base = Path("alertmanager/alertmanager.yml")
    mine = (
        '    - receiver: mine\n      matchers: [alertname="SiteDown", host="srv1"]\n'
        "      active_time_intervals: [office]\n      group_wait: 20s\n      continue: true\n"
    )
    text = base.read_text().replace("    # Pages. group_wait", f"{mine}\n    # Pages. group_wait")
    text += "  - {name: mine, webhook_configs: [{url: 'http://127.0.0.1/'}]}\n"
    text += (
        "time_intervals:\n  - name: office\n    time_intervals:\n"
        "      - {times: [{start_time: '09:00', end_time: '17:00'}], location: Europe/Paris}\n"
    )
    base.write_text(text)
    by_day = messages(told(amtool, "2027-07-15 10:00", "20m"))
    assert ("15 10:01:05", "mine", "shop is down") in by_day
    by_night = told(amtool, "2027-07-14 20:13", "20m")
    assert "mine" not in [who for _, who, _ in messages(by_night)]
    assert silences(by_night)["mine is not told: shop is down"].startswith("held back by office")


@pytest.mark.usefixtures("folder")
def test_planned_work_holds_everything_back_until_it_is_over(amtool: Path) -> None:
    Path("status.yml").write_text(
        "maintenance:\n"
        "  - {sites: [shop], from: '2027-07-14 20:00', for: 1h, because: new theme}\n"
        "  - {hosts: [srv1], every: 'friday 10:00-12:00', because: updates}\n"
    )
    within = told(amtool, "2027-07-14 20:13", "20m")
    assert [who for _, who, _ in messages(within)] == ["marie"]
    assert silences(within)["pro is not told: shop is down"] == (
        "held back by planned work (new theme) until Wed 14 Jul 21:00, when it is over"
    )
    beyond = told(amtool, "2027-07-14 20:13", "2h")
    assert messages(beyond)[0] == ("14 21:00:00", "pro", "shop is down by webhook")
    over_by_then = told(amtool, "2027-07-16 09:50", "30m")
    assert messages(over_by_then) == [
        ("16 09:50:48", "pro", "shop is down by webhook"),
        ("16 12:00:00", "marie",
         "shop was down for 30m, is fixed, nothing to do by email to marie@example.com"),
    ]  # fmt: skip
    assert silences(over_by_then)["pro is not told: shop is up"] == (
        "held back by planned work (updates)"
    )


@pytest.mark.parametrize(
    "seed",
    [*range(6), *(pytest.param(seed, marks=pytest.mark.soak) for seed in range(6, 60))],
)
@pytest.mark.usefixtures("folder")
def test_random_months_tell_every_owner_once_and_never_in_quiet_time(
    amtool: Path, seed: int
) -> None:
    r = random.Random(seed)
    start = datetime(2027, r.randint(1, 12), 1, tzinfo=UTC)
    config = random_people(r, start)
    for _ in range(5):
        site = r.choice(config.sites)
        lasts = timedelta(seconds=r.choice((20, 90, 600, 7200, 30000)))
        outage = Outage(site, start + timedelta(minutes=r.randrange(30 * 24 * 60)), lasts)
        owner = next(owner for owner in config.owners if owner.name == site.owner)
        entries = simulate(config, outage, amtool)
        to_owner = [e for e in entries if e.who == owner.name and e.kind == "told"]
        good_news = [e for e in to_owner if "is fixed" in e.text]
        incident = lasts > timedelta(seconds=site.down_after)
        assert len(good_news) == (incident and "resolved" in owner.hears)
        for entry in to_owner:
            assert entry.at is not None
            may_wake = owner.overdue_wakes and "is late" in entry.text
            assert may_wake or reachable(owner, entry.at), entry
        for entry in good_news:
            assert entry.at is not None
            assert entry.at >= outage.at + lasts
        pages = [e for e in entries if e.who == site.provider and "is down by" in e.text]
        assert len(pages) == incident
        if incident and "down" not in owner.hears and owner.overdue_after is None:
            assert to_owner == good_news


def random_people(r: random.Random, start: datetime) -> Config:
    """Six owners with forty sites, whose quiet time leaves some of each week."""
    today = start.date()
    owners = []
    while len(owners) < 6:
        owner = {
            "name": f"owner{len(owners)}",
            "timezone": r.choice(people.ZONES),
            "notify": [{"email": "owner@example.com"}],
            "hears": r.choice((["resolved"], ["resolved", "down"], ["report"], ["overdue"])),
            "overdue_wakes": r.random() < 0.5,
            "quiet": people.quiet(r, today),
        }
        text = {"providers": [{"name": "p"}], "owners": [owner]}
        Path("people.yml").write_text(yaml.safe_dump(text))
        Path("sites.yml").write_text("sites: [https://www.example.com]\n")
        try:
            load(Path("sites.yml"), Path("people.yml"), probes.KINDS, probes.PLANNED, today)
        except ConfigError:
            continue
        owners.append(owner)
    provider = {"name": "p", "notify": [{"email": "p@example.com"}]}
    Path("people.yml").write_text(yaml.safe_dump({"providers": [provider], "owners": owners}))
    sites = [
        {"url": f"https://s{n}.example.com", "owner": f"owner{n % 6}", "provider": "p"}
        for n in range(40)
    ]
    Path("sites.yml").write_text(yaml.safe_dump({"sites": sites}))
    return load(Path("sites.yml"), Path("people.yml"), probes.KINDS, probes.PLANNED, today)


def test_picture_shows_the_quiet_hours_of_each_day(folder: Path) -> None:
    now = datetime(2027, 7, 13, 8, tzinfo=UTC)
    config = load(Path("sites.yml"), Path("people.yml"), probes.KINDS, probes.PLANNED)
    text = compile(config, Path("alertmanager/alertmanager.yml"), "t", "http://127.0.0.1", now)
    [row] = picture.rows(config, Compiled(text, Path()).mutings, now, 1)
    tuesday, bastille, *_ = row.days
    assert [(cell, when) for cell, _, when in tuesday.spans] == [
        ("quiet", "00:00-09:00"),
        ("free", "09:00-19:00"),
        ("quiet", "19:00-24:00"),
    ]
    assert [cell for cell, _, _ in bastille.spans] == ["quiet"]
    assert len(row.days) == 7


class _Balance(HTMLParser):
    """Notes the cells of each row, and tags that are never closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append(0)
        if tag == "td":
            self.rows[-1] += int(dict(attrs)["colspan"] or 0)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_of_the_weeks_is_whole_and_shows_names_as_text(folder: Path) -> None:
    people_yml = folder / "people.yml"
    people_yml.write_text(PEOPLE.replace("name: marie", "name: <b>marie"))
    (folder / "sites.yml").write_text(SITES.replace("owner: marie", "owner: <b>marie"))
    page = folder / "weeks.html"
    done = CliRunner().invoke(cli.app, ["whatif", "--next-weeks", "2", "--html", str(page)])
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "&lt;b&gt;marie" in text
    assert "<b>" not in text
    balance = _Balance()
    balance.feed(text)
    assert not balance.open
    assert balance.rows == [0, *[48] * 14]


def test_command_prints_the_timeline(
    folder: Path, amtool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(amtool.parent), prepend=":")
    done = CliRunner().invoke(
        cli.app, ["whatif", "--site", "shop", "--at", "2027-07-14 20:13", "--down-for", "20m"]
    )
    assert done.exit_code == 0, done.output
    assert "20:13:48  pro" in done.output
    assert "Thu 15 Jul 2027\n09:00:05  marie" in done.output
    assert "…" not in done.output


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "nothing to tell: name a site with --site, or give --next-weeks"),
        (["--site", "shp"], "--site: no site is named 'shp': did you mean 'shop'?"),
        (["--site", "shop", "--at", "dinner"], "--at: found 'dinner', expected a time such as"),
        (["--site", "shop", "--down-for", "long"], "--down-for: found 'long', expected a duration"),
    ],
)
def test_mistake_is_one_sentence(options: list[str], says: str) -> None:
    done = CliRunner().invoke(cli.app, ["whatif", *options])
    assert done.exit_code == 1
    assert says in done.output
