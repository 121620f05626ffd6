"""Results and configuration as metrics."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families as parse

from dolcevita.config import Config, load
from dolcevita.exporter.exposition import (
    Gauges,
    as_text,
    people_metrics,
    probe_metrics,
    site_labels,
    site_metrics,
)
from dolcevita.probes import KINDS, PLANNED, Reason, Result, Sample
from sites import PEOPLE, files, site
from webserver import page, probe, run, serving

NOON = datetime(2026, 7, 14, 12, tzinfo=ZoneInfo("Europe/Paris"))


def samples(text):
    return {
        (s.name, frozenset(s.labels.items())): s.value
        for family in parse(text)
        for s in family.samples
    }


def value(text, metric, **labels):
    found = [
        v for (n, own), v in samples(text).items() if n == metric and labels.items() <= set(own)
    ]
    assert len(found) <= 1
    return found[0] if found else None


def test_a_series_of_a_site_carries_who_and_where():
    shop = site("shop", host="srv1", labels={"customer": "acme"})
    assert site_labels(shop) == {
        "customer": "acme",
        "site": "shop",
        "owner": "marie",
        "provider": "hosting",
        "host": "srv1",
        "instance": "http://127.0.0.1:1/",
    }


def test_an_empty_label_is_left_out():
    assert "host" not in site_labels(site("shop"))


def test_a_success_has_no_reason():
    result = Result(True, "Fine.", duration=0.25, samples=(Sample("probe_http_ssl", 1),))
    metrics = probe_metrics([('site="shop"', result)])
    assert value(metrics, "probe_success", site="shop") == 1
    assert value(metrics, "probe_duration_seconds", site="shop") == 0.25
    assert value(metrics, "probe_attempts", site="shop") == 1
    assert value(metrics, "probe_http_ssl", site="shop") == 1
    assert value(metrics, "probe_failure_info") is None


@pytest.mark.parametrize("reason", Reason)
def test_a_failure_has_its_reason_in_one_word(reason):
    metrics = probe_metrics([('site="shop"', Result(False, "Broken.", reason, attempts=2))])
    assert value(metrics, "probe_success", site="shop") == 0
    assert value(metrics, "probe_failure_info", site="shop", reason=str(reason)) == 1
    assert value(metrics, "probe_attempts", site="shop") == 2
    assert str(reason).isalpha()


def test_labels_with_quotes_and_newlines_survive():
    hostile = 'a"b\\c\nd{e="f"} 1'
    result = Result(True, "", samples=(Sample("probe_tls_cipher_info", 1, {"cipher": hostile}),))
    metrics = probe_metrics([(as_text({"site": hostile}), result)])
    assert value(metrics, "probe_success", site=hostile) == 1
    assert value(metrics, "probe_tls_cipher_info", site=hostile, cipher=hostile) == 1


def test_the_text_is_what_the_library_of_prometheus_writes():
    values = [0, 1, True, -1, 0.1, 1e-9, 123456789, 1784035800.123456, 2**53, 1e300]
    registry = CollectorRegistry()
    gauge = Gauge("probe_http_version", r'A "\ help', ["a", "b"], registry=registry)
    gauges = Gauges({"probe_http_version": r'A "\ help'})
    for number, v in enumerate(values):
        labels = {"a": str(number), "b": 'x"\\\n'}
        gauge.labels(**labels).set(v)
        gauges.add("probe_http_version", as_text(labels), v)
    written = generate_latest(registry).decode()
    assert gauges.text().splitlines()[:2] == written.splitlines()[:2]
    assert samples(gauges.text()) == samples(written)


def test_a_probe_of_a_page_has_its_metrics_with_help_and_type():
    async def scenario():
        async with serving(page()) as port:
            return await probe(f"http://127.0.0.1:{port}/")

    families = {f.name: f for f in parse(probe_metrics([('site="shop"', run(scenario()))]))}
    names = {"probe_success", "probe_http_duration_seconds", "probe_http_status_code"}
    assert names <= set(families)
    assert {family.type for family in families.values()} == {"gauge"}
    assert all(family.documentation for family in families.values())


def config(tmp_path, sites: str) -> Config:
    return load(*files(tmp_path, sites), KINDS, PLANNED)


SITES = """
sites:
  - http://plain.example
  - {name: shop, url: "http://shop.example", every: 30s, down_after: 2m, host: srv1,
     objective: 99.9%, expect: {under: 2s}, labels: {customer: acme}}
  - {name: uplink, url: "http://one.example", sentinel: true}
"""


def test_thresholds_come_from_the_configuration_with_all_labels(tmp_path):
    metrics = site_metrics(config(tmp_path, SITES).sites, "http://exporter")
    shop = {"site": "shop", "owner": "marie", "provider": "hosting", "host": "srv1"}
    shop |= {"customer": "acme", "instance": "http://shop.example"}
    assert value(metrics, "site_info", **shop) == 1
    assert value(metrics, "site_interval_seconds", **shop) == 30
    assert value(metrics, "site_down_after_seconds", **shop) == 120
    assert value(metrics, "site_recover_after_seconds", **shop) >= 70
    assert value(metrics, "site_slow_seconds", **shop) == 2
    assert value(metrics, "site_slow_seconds", site="plain.example") is None
    assert value(metrics, "site_objective_ratio", **shop) == 0.999
    assert value(metrics, "site_objective_ratio", site="plain.example") is None
    assert value(metrics, "site_sentinel", site="uplink") == 1
    assert value(metrics, "site_sentinel", site="shop") is None


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        ("12:00:00", 1),
        ("18:59:25", 1),
        ("18:59:45", 0),
        ("19:00:00", 0),
        ("08:59:59", 0),
        ("09:00:00", 1),
    ],
)
def test_an_owner_is_reachable_only_if_still_so_in_half_a_minute(tmp_path, clock, expected):
    assert '"19:00-09:00"' in PEOPLE
    at = datetime.fromisoformat(f"2026-07-14T{clock}").replace(tzinfo=ZoneInfo("Europe/Paris"))
    metrics = people_metrics(config(tmp_path, SITES), at.astimezone(UTC))
    assert value(metrics, "owner_reachable", owner="marie") == expected


@pytest.mark.parametrize(
    ("clock", "quiet", "reachable_again"),
    [
        ("12:00:00", "14T19:00", None),
        ("08:59:59", None, "14T09:00"),
        ("19:00:00", None, "15T09:00"),
    ],
)
def test_when_quiet_time_begins_or_ends_is_published(tmp_path, clock, quiet, reachable_again):
    paris = ZoneInfo("Europe/Paris")
    at = datetime.fromisoformat(f"2026-07-14T{clock}").replace(tzinfo=paris)
    metrics = people_metrics(config(tmp_path, SITES), at.astimezone(UTC))
    for name, day in (("quiet", quiet), ("reachable", reachable_again)):
        found = value(metrics, f"owner_next_{name}_timestamp_seconds", owner="marie")
        expected = day and datetime.fromisoformat(f"2026-07-{day}").replace(tzinfo=paris)
        assert found == (expected and expected.timestamp())


@pytest.mark.parametrize(
    ("more", "expected"),
    [("", None), ("hears: [overdue]", 14400), ("overdue_after: 30m", 1800)],
)
def test_an_owner_who_wants_to_hear_of_it_has_a_time_after_which_an_incident_is_overdue(
    tmp_path, more, expected
):
    sites, people = files(tmp_path, "sites: [http://a.example]\n")
    people.write_text(f"{PEOPLE}    {more}\n")
    metrics = people_metrics(load(sites, people, KINDS, PLANNED), NOON)
    assert value(metrics, "owner_overdue_after_seconds", owner="marie") == expected


def test_a_second_provider_is_called_after_the_time_given(tmp_path):
    sites, people = files(tmp_path, "defaults: {provider: hosting}\nsites: [http://a.example]\n")
    second = "  - {name: second}\n  - {name: hosting, escalate: {to: second, after: 30m},"
    people.write_text(PEOPLE.replace("  - {name: hosting,", second))
    metrics = people_metrics(load(sites, people, KINDS, PLANNED), NOON)
    assert (
        value(metrics, "provider_escalate_after_seconds", provider="hosting", to="second") == 1800
    )
    assert value(metrics, "provider_escalate_after_seconds", provider="second") is None
