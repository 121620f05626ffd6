"""people.yml and the base file become a file that both ends of Alertmanager accept."""

import stat
import subprocess
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from binaries import version_ends
from dolcevita.alerting.compile import check, compile, write
from dolcevita.config import Config, ConfigError, UserError
from dolcevita.config.people import PeopleReader

ROOT = Path(__file__).parents[2]
BASE = ROOT / "alertmanager/alertmanager.yml"
TEMPLATES = ROOT / "alertmanager/templates"
COURIER = "http://127.0.0.1:9715"
NOW = datetime(2027, 7, 1, 12, tzinfo=UTC)

PEOPLE = """\
providers:
  - name: infogerance
    language: fr
    notify: [{webhook: "http://127.0.0.1:9999/provider"}]
  - name: nightwatch
    notify: [{email: oncall@example.com}]
owners:
  - name: marie
    language: fr
    timezone: Europe/Paris
    notify: [{email: marie@example.com}]
    quiet:
      hours: "19:00-09:00"
      weekends: true
      public_holidays: FR
      away: ["2027-07-10..2027-07-25"]
  - name: 'Jean "JJ" O.Neil'
    hears: [resolved, down, warnings]
    notify: [{webhook: "http://127.0.0.1:9999/owner"}, {apprise: "json://127.0.0.1/secret"}]
  - name: silent
    hears: [report]
    notify: [{email: silent@example.com}]
  - name: late
    timezone: Europe/Paris
    notify: [{webhook: "http://127.0.0.1:9999/late"}]
    quiet: {hours: "19:00-09:00"}
    overdue_after: 4h
    overdue_wakes: true
"""


@pytest.fixture(params=["oldest", "newest"])
def amtool(request: pytest.FixtureRequest) -> Path:
    try:
        return version_ends()[request.param].amtool
    except UserError as error:
        pytest.skip(str(error))


def people(folder: Path, text: str = PEOPLE) -> Config:
    path = folder / "people.yml"
    path.write_text(text)
    owners, providers = PeopleReader(path, date(2027, 7, 1)).read()
    return Config((), owners, providers)


def compiled(config: Config, base: Path = BASE) -> str:
    return compile(config, base, TEMPLATES, COURIER, NOW)


def receivers(text: str) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in yaml.safe_load(text)["receivers"]}


def routes_to(route: dict[str, Any], receiver: str) -> list[dict[str, Any]]:
    own = [route] if route.get("receiver") == receiver else []
    return own + [r for child in route.get("routes", []) for r in routes_to(child, receiver)]


def told(amtool: Path, path: Path, *labels: str) -> set[str]:
    """The receivers that Alertmanager's own routing picks for an alert."""
    command = [amtool, "config", "routes", "test", f"--config.file={path}", *labels]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return set(done.stdout.strip().split(","))


def test_base_file_is_accepted_as_it_stands(amtool: Path) -> None:
    subprocess.run([amtool, "check-config", BASE], check=True, capture_output=True)


def test_compiled_file_is_accepted(tmp_path: Path, amtool: Path) -> None:
    config = people(tmp_path)
    check(compiled(config), amtool, config, BASE)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("alertname=SiteDown severity=critical owner=marie provider=infogerance site=a",
         {"provider/infogerance"}),
        ("alertname=SiteDown severity=critical owner=marie provider=nightwatch site=a",
         {"provider/nightwatch"}),
        (r'alertname=SiteDown severity=critical owner="Jean\0\"JJ\"\0O.Neil" provider=nightwatch',
         {'owner/Jean "JJ" O.Neil', "provider/nightwatch"}),
        ("alertname=ServerDown severity=critical owner=marie provider=infogerance host=srv1",
         {"provider/infogerance"}),
        ("alertname=UplinkDown severity=critical", {"provider/infogerance"}),
        ("alertname=ConfigRejected severity=warning", {"provider/infogerance"}),
        ("alertname=MadeByAUser provider=unknown", {"provider/infogerance"}),
        ("alertname=IncidentResolved severity=info owner=marie provider=nightwatch site=a digest=1",
         {"owner/marie"}),
        ("alertname=IncidentResolved severity=info owner=silent site=a digest=1", set()),
        ("alertname=ProviderOverdue severity=warning owner=late site=a", {"owner/late"}),
        ("alertname=ProviderOverdue severity=warning owner=marie site=a", set()),
        ("alertname=SiteSlow severity=warning owner=marie provider=nightwatch site=a",
         {"provider/nightwatch"}),
        ("alertname=Watchdog severity=none", set()),
        ("alertname=SiteRemoved severity=none site=a", set()),
        ("alertname=PrometheusSilent severity=critical", {"provider/infogerance"}),
    ],
)  # fmt: skip
def test_alert_reaches_whom_it_should(
    tmp_path: Path, amtool: Path, labels: str, expected: set[str]
) -> None:
    path = tmp_path / "compiled.yml"
    write(path, compiled(people(tmp_path)))
    pairs = [pair.replace(r"\0", " ") for pair in labels.split()]
    # An owners' route that none of them hears shows as "nobody", beside the provider's.
    assert told(amtool, path, *pairs) - {"nobody"} == expected


def test_owner_is_muted_in_quiet_time_only_where_that_is_wanted(tmp_path: Path) -> None:
    text = compiled(people(tmp_path))
    route = yaml.safe_load(text)["route"]
    drill, marie = routes_to(route, "owner/marie")
    assert marie["mute_time_intervals"] == ["quiet/marie"]
    assert "mute_time_intervals" not in drill
    by_role = {str(r["matchers"]): r for r in routes_to(route, "owner/late")}
    assert len(by_role) == 1
    late = routes_to(route, "owner/late")
    assert sorted(bool(r.get("mute_time_intervals")) for r in late) == [False, False, False, True]
    overdue = next(r for r in route["routes"] if "ProviderOverdue" in str(r["matchers"]))
    assert "mute_time_intervals" not in routes_to(overdue, "owner/late")[0]
    for provider in ("infogerance", "nightwatch"):
        assert not any("mute_time_intervals" in r for r in routes_to(route, f"provider/{provider}"))


def test_owner_never_hears_resolved_and_provider_always_does(tmp_path: Path) -> None:
    text = PEOPLE.replace(
        "[{email: marie@example.com}]",
        "[{email_configs: [{to: marie@example.com, send_resolved: true}]}]",
    )
    found = receivers(compiled(people(tmp_path, text)))
    for name, entry in found.items():
        blocks = [b for key, value in entry.items() if key.endswith("_configs") for b in value]
        assert all(b["send_resolved"] is name.startswith("provider/") for b in blocks)


def test_apprise_url_stays_with_the_courier(tmp_path: Path) -> None:
    text = compiled(people(tmp_path))
    assert "secret" not in text
    [_, by_courier] = receivers(text)['owner/Jean "JJ" O.Neil']["webhook_configs"]
    assert by_courier["url"] == f"{COURIER}/notify/owner-Jean--JJ--O-Neil-2d315686-1"


def test_messages_are_in_the_persons_language_unless_they_wrote_their_own(tmp_path: Path) -> None:
    text = PEOPLE.replace(
        "[{email: marie@example.com}]",
        "[{pagerduty_configs: [{routing_key: abcdefgh}]},"
        " {slack_configs: [{api_url: 'http://127.0.0.1/s', title: mine}]}]",
    )
    marie = receivers(compiled(people(tmp_path, text)))["owner/marie"]
    [pagerduty], [slack] = marie["pagerduty_configs"], marie["slack_configs"]
    assert pagerduty["description"] == '{{ template "dolcevita.fr.owner.text" . }}'
    assert slack["title"] == "mine"
    assert "text" not in slack
    nightwatch = receivers(compiled(people(tmp_path, text)))["provider/nightwatch"]
    [email] = nightwatch["email_configs"]
    assert email["headers"]["Subject"] == '{{ template "dolcevita.en.provider.subject" . }}'


def test_receiver_block_that_alertmanager_refuses_is_named_by_its_line(
    tmp_path: Path, amtool: Path
) -> None:
    text = PEOPLE.replace(
        "notify: [{email: oncall@example.com}]",
        "notify: [{pagerduty_configs: [{routing_ke: abcdefghij}]}]",
    )
    config = people(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        check(compiled(config), amtool, config, BASE)
    assert str(refused.value) == (
        f"{tmp_path}/people.yml:6: pagerduty_configs: Alertmanager refuses it: "
        "field routing_ke not found in type config.plain"
    )


def test_refusal_does_not_repeat_a_secret(tmp_path: Path, amtool: Path) -> None:
    text = PEOPLE.replace(
        "notify: [{email: oncall@example.com}]",
        "notify: [{webhook_configs: [{url: 'verysecret:token'}]}]",
    )
    config = people(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        check(compiled(config), amtool, config, BASE)
    assert "people.yml:6: webhook_configs: Alertmanager refuses it" in str(refused.value)
    assert "verysecret:token" not in str(refused.value)


def test_refusal_that_is_no_persons_fault_names_the_base_file(tmp_path: Path, amtool: Path) -> None:
    base = tmp_path / "alertmanager.yml"
    base.write_text(BASE.read_text().replace("group_wait: 30s", "group_wait: soon"))
    config = people(tmp_path)
    with pytest.raises(ConfigError, match=r"alertmanager\.yml: Alertmanager refuses it: .*soon"):
        check(compiled(config, base), amtool, config, base)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("receiver: owner:down", "receiver: owner:dwn",
         "unknown receiver 'owner:dwn': did you mean 'owner:down'?"),
        ("  - name: provider", "  - name: provider\n    webhook_configs: [{url: 'http://x'}]",
         "the receiver 'provider' stands for people of people.yml"),
        ("  - name: provider", "  - name: provider\n  - name: provider/me",
         "the receiver name 'provider/me' is made from people.yml"),
        ("route:", "rout:", "'route' is missing"),
    ],
)  # fmt: skip
def test_mistake_in_the_base_file_is_one_sentence_with_its_line(
    tmp_path: Path, before: str, after: str, message: str
) -> None:
    base = tmp_path / "alertmanager.yml"
    base.write_text(BASE.read_text().replace(before, after, 1))
    with pytest.raises(ConfigError) as refused:
        compiled(people(tmp_path), base)
    assert len(refused.value.problems) == 1
    assert message in str(refused.value)
    assert refused.value.problems[0].line > 0


def test_routes_and_receivers_of_the_user_are_kept(tmp_path: Path, amtool: Path) -> None:
    base = tmp_path / "alertmanager.yml"
    text = BASE.read_text().replace(
        "    # Everything else.",
        '    - receiver: mine\n      matchers: [team="me"]\n      mute_time_intervals: [lunch]\n',
    )
    text += "  - name: mine\n    webhook_configs: [{url: 'http://127.0.0.1/mine'}]\n"
    text += "time_intervals:\n  - {name: lunch, time_intervals: [{weekdays: [monday]}]}\n"
    base.write_text(text)
    config = people(tmp_path)
    result = compiled(config, base)
    check(result, amtool, config, base)
    path = tmp_path / "compiled.yml"
    write(path, result)
    assert told(amtool, path, "alertname=Any", "team=me") == {"mine"}


def test_short_form_is_read_from_a_file_beside_people_yml(tmp_path: Path) -> None:
    (tmp_path / "hook").write_text("http://127.0.0.1:9999/from-file\n")
    text = PEOPLE.replace('webhook: "http://127.0.0.1:9999/provider"', "webhook_file: hook")
    found = receivers(compiled(people(tmp_path, text)))
    [block] = found["provider/infogerance"]["webhook_configs"]
    assert block["url"] == "http://127.0.0.1:9999/from-file"


def test_missing_file_of_a_short_form_is_one_sentence(tmp_path: Path) -> None:
    text = PEOPLE.replace('webhook: "http://127.0.0.1:9999/provider"', "webhook_file: gone")
    with pytest.raises(ConfigError) as refused:
        compiled(people(tmp_path, text))
    assert str(refused.value).startswith(f"{tmp_path}/people.yml:4: webhook_file: {tmp_path}/gone:")


def test_compiled_file_is_secret_from_its_first_moment(tmp_path: Path) -> None:
    path = tmp_path / "new" / "compiled.yml"
    write(path, "first")
    path.chmod(0o644)
    write(path, "second")
    assert path.read_text() == "second"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_same_files_give_the_same_text(tmp_path: Path) -> None:
    config = people(tmp_path)
    later = datetime(2027, 7, 1, 13, tzinfo=UTC)
    assert compiled(config) == compile(config, BASE, TEMPLATES, COURIER, later)
