"""The alert catalogue as a whole: nothing undocumented, untested, or about a metric nobody has."""

import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families as parse

from alertmanagers import alertmanager
from dolcevita.config import parse_duration
from dolcevita.courier.notify import Deliveries
from dolcevita.exporter.app import Exporter
from dolcevita.exporter.exposition import HELP
from dolcevita.exporter.live import Live
from dolcevita.stack.packages import Programs
from sites import files
from waiting import free_port, until

ROOT = Path(__file__).parents[2]
RULES = sorted((ROOT / "prometheus/rules").glob("*.yml"))
TESTS = sorted((ROOT / "prometheus/tests").glob("*.test.yml"))
RUNBOOKS = ROOT / "docs/runbooks"
PAIR = ROOT / "prometheus/pair/rules.yml"
NOT_OF_A_RULE = {"PrometheusSilent", "AlertmanagerStandby"}
"""The courier raises these."""
OF_PROMETHEUS_ITSELF = {"ALERTS", "up"}

ALWAYS = {("Watchdog", "none"), ("PrometheusReady", "none")}

Rule = Mapping[str, Any]
Severe = tuple[str, str]
"""An alert and one of its severities."""


def rules_of(file: Path) -> list[Rule]:
    groups = yaml.safe_load(file.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALL = [rule for file in (*RULES, PAIR) for rule in rules_of(file)]
ALERTS = [rule for rule in ALL if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alert_says_how_bad_it_is_what_it_is_and_where_to_read_on(rule: Rule) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info", "none")
    texts = rule["annotations"]
    assert texts["summary"]
    assert texts["description"]
    assert texts["runbook_url"] == f"docs/runbooks/{rule['alert']}.md"


@pytest.mark.parametrize("name", [*NAMES, *sorted(NOT_OF_A_RULE)])
def test_alert_has_a_runbook_that_says_what_it_means_and_what_to_do(name: str) -> None:
    text = (RUNBOOKS / f"{name}.md").read_text()
    assert text.startswith(f"# {name}\n")
    assert "\n**Means:** " in text
    assert "\n**Do" in text


def test_runbook_is_of_an_alert() -> None:
    assert {page.stem for page in RUNBOOKS.glob("*.md")} == {*NAMES, *NOT_OF_A_RULE}


def moments(test: Rule, loaded: set[Severe]) -> Iterator[tuple[float, set[Severe], set[Severe]]]:
    """When (seconds) a promtool test looks, which of the alerts `loaded` fire, and which not."""
    for case in test.get("alert_rule_test", ()):
        asked = {known for known in loaded if known[0] == case["alertname"]}
        firing = {(case["alertname"], a["exp_labels"]["severity"]) for a in case["exp_alerts"]}
        yield seconds(case["eval_time"]), firing, asked - firing
    for case in test.get("promql_expr_test", ()):
        if "ALERTS" in case["expr"]:
            asked = meant(case["expr"], loaded)
            shown = " ".join(sample["labels"] for sample in case["exp_samples"] or ())
            firing = meant(shown, asked) if shown else set()
            yield seconds(case["eval_time"]), firing, asked - firing


def seconds(eval_time: str) -> float:
    return 0.0 if eval_time == "0m" else parse_duration(eval_time)


def meant(text: str, among: set[Severe]) -> set[Severe]:
    """The alerts that labels or a selector name; all where they name none."""
    names = {
        name for found in re.findall(r'alertname=~?"(.+?)"', text) for name in found.split("|")
    }
    others = set(re.findall(r'alertname!="(.+?)"', text))
    severities = set(re.findall(r'severity="(.+?)"', text))
    return {
        (name, severity)
        for name, severity in among
        if (not names or name in names)
        and name not in others
        and (not severities or severity in severities)
    }


def severe(rules: Iterable[Rule]) -> set[Severe]:
    return {(rule["alert"], rule["labels"]["severity"]) for rule in rules if "alert" in rule}


def test_alert_is_seen_silent_then_firing_then_silent_again_in_one_promtool_test() -> None:
    begun, ended = set(), set()
    for file in TESTS:
        data = yaml.safe_load(file.read_text())
        rules = [rule for path in data["rule_files"] for rule in rules_of(file.parent / path)]
        loaded = severe(rules)
        for test in data["tests"]:
            silent, fired = set(), set()
            for _, firing, quiet in sorted(moments(test, loaded), key=lambda moment: moment[0]):
                ended |= quiet & fired
                begun |= firing & silent
                fired |= firing
                silent |= quiet
    wanted = severe(ALERTS) - ALWAYS
    assert (wanted - begun, wanted - ended) == (set(), set())


def test_what_says_why_a_site_is_down_is_over_no_later_than_site_down() -> None:
    """SiteDown silences it: what is looked at less often would be paged once SiteDown is over."""
    groups = [group for file in RULES for group in yaml.safe_load(file.read_text())["groups"]]
    causes = {
        rule["alert"]: group.get("interval")
        for group in groups
        for rule in group["rules"]
        if "alert" in rule and rule["expr"].startswith("site:failing:info")
    }
    names = (
        "CertificateInvalid",
        "ContentMissing",
        "HeartbeatMissed",
        "MailServerDown",
        "NotIndexable",
    )
    assert causes == dict.fromkeys(names)


@contextmanager
def prometheus(found: Programs, folder: Path) -> Iterator[str]:
    """The URL of a Prometheus that evaluates all rules over nothing."""
    port = free_port()
    config = folder / "prometheus.yml"
    rules = [str(file) for file in RULES]
    target = [{"static_configs": [{"targets": ["127.0.0.1:9"]}]}]
    config.write_text(yaml.safe_dump({"rule_files": rules, "alerting": {"alertmanagers": target}}))
    process = subprocess.Popen(
        [
            found.prometheus,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: _ready(url), "Prometheus is ready", within=30)
        yield url
    finally:
        process.kill()
        process.wait()


def _ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/-/ready", timeout=2).ok
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def wanted(newest: Programs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The metrics that rules and their texts ask for, each with the rules that do."""
    found: dict[str, set[str]] = {}
    with prometheus(newest, tmp_path_factory.mktemp("parser")) as url:
        for rule in ALL:
            for query in queries(rule):
                answer = requests.get(f"{url}/api/v1/parse_query", {"query": query}, timeout=10)
                assert answer.ok, f"{rule}: {answer.text}"
                for name in metrics_of(answer.json()["data"]):
                    found.setdefault(name, set()).add(rule.get("alert") or rule["record"])
    return found


def queries(rule: Rule) -> Iterator[str]:
    """The expression, and the queries in the texts, with any value where they print one."""
    yield rule["expr"]
    for text in rule.get("annotations", {}).values():
        for query in re.findall(
            r'with printf (?:"((?:[^"\\]|\\.)*)"|`([^`]*)`)[^|]*\| query', text
        ):
            yield re.sub("%[sf]", "1", "".join(query).replace("%q", '"x"'))


def metrics_of(node: Any) -> Iterator[str]:
    """The names in a syntax tree as the API gives it ("Parsing a PromQL expression")."""
    if isinstance(node, list):
        for item in node:
            yield from metrics_of(item)
    elif isinstance(node, dict):
        for matcher in node.get("matchers") or ():
            if matcher["name"] == "__name__":
                yield from matcher["value"].split("|")
        for key, item in node.items():
            if key != "matchers":
                yield from metrics_of(item)


def names_of(text: str) -> set[str]:
    """The names of samples and of families without any, in a text of /metrics."""
    families = list(parse(text))
    plain = {family.name for family in families}
    counters = {f"{family.name}_total" for family in families if family.type == "counter"}
    return plain | counters | {sample.name for family in families for sample in family.samples}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What the exporter, the courier and the recording rules publish."""
    folder = tmp_path_factory.mktemp("published")
    exporter = Exporter(Live(*files(folder, "sites: [http://shop.example]\n"))).registry
    courier = CollectorRegistry()
    Deliveries(ROOT / "alertmanager/templates", courier)
    counted = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name
        for registry in (exporter, courier)
        for metric in registry.collect()
    }
    recorded = {rule["record"] for rule in ALL if "record" in rule}
    # As the other one of a pair finds them.
    taken = {re.sub("^pair:", "peer:", name) for name in recorded}
    return counted | recorded | taken | set(HELP) | OF_PROMETHEUS_ITSELF


def test_rule_names_only_metrics_that_somebody_publishes(
    wanted: dict[str, set[str]], published: set[str], programs: Programs, tmp_path: Path
) -> None:
    config = tmp_path / "alertmanager.yml"
    config.write_text("{route: {receiver: x}, receivers: [{name: x}]}")
    with prometheus(programs, tmp_path) as url, alertmanager(programs, config, tmp_path) as other:

        def missing() -> dict[str, set[str]]:
            texts = [requests.get(f"{each}/metrics", timeout=10).text for each in (url, other.url)]
            known = published.union(*map(names_of, texts))
            return {name: by for name, by in wanted.items() if name not in known}

        # Prometheus needs some seconds to find its Alertmanagers, and counts for each of them.
        deadline = time.monotonic() + 15
        while missing() and time.monotonic() < deadline:
            time.sleep(0.5)
        assert missing() == {}
