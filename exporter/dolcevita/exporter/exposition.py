"""Results and configuration as Prometheus metrics. The one place that turns data into text."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from dolcevita.alerting.calendar import next_quiet, next_reachable, reachable
from dolcevita.alerting.maintenance import Maintenance
from dolcevita.config import Config, Owner, Person, Site
from dolcevita.exporter import evidence
from dolcevita.probes import KINDS, Expectations, Result

HELP: Mapping[str, str] = {
    "probe_attempts": "Attempts that were made, 2 when the first failed",
    "probe_duration_seconds": "Time of the whole probe, all attempts together",
    "probe_failure_info": "Why the probe failed, in one word; only when it failed",
    "probe_success": "1 if the site answered as expected; absent while nothing is known",
    "site_info": "Every site that is watched",
    "site_evidence_info": "The address of the page with what was seen when the site failed",
    "site_interval_seconds": "Time from one probe to the next",
    "site_down_after_seconds": "How long a site must fail to be down",
    "site_recover_after_seconds": "How long a site must be fine to be up again",
    "site_objective_ratio": "The part of the time that a site should answer; only where it is set",
    "site_maintenance": "1 while a site is worked on; `counted` says whether that is availability",
    "site_slow_seconds": "A probe that takes longer is slow; only where it is set",
    "site_sentinel": "1 for sites that tell whether our own uplink works",
    "owner_reachable": "1 while messages may reach the owner, now and in half a minute",
    "owner_next_quiet_timestamp_seconds": "Unix time when quiet time begins; not during it",
    "owner_next_reachable_timestamp_seconds": "Unix time when quiet time ends; while it is",
    "owner_utc_offset_seconds": "What the owner's clock is ahead of UTC now",
    "owner_hears_report": "1 for owners who hear of the month's report",
    "owner_page_info": "Where an owner's visitors find their page; the url is their secret",
    "owner_overdue_after_seconds": "An incident that takes longer is overdue to the owner",
    "provider_escalate_after_seconds": "An incident that takes longer is for the provider `to`",
    "provider_utc_offset_seconds": "What the provider's clock is ahead of UTC now",
} | {name: text for kind in KINDS.values() for name, text in kind.help.items()}

_NEXT = {
    True: ("owner_next_quiet_timestamp_seconds", next_quiet),
    False: ("owner_next_reachable_timestamp_seconds", next_reachable),
}
"""What is told by whether the owner is reachable now."""

FLUSH = timedelta(seconds=30)
"""An owner counts as reachable only if still so when Alertmanager sends."""


def site_labels(site: Site) -> dict[str, str]:
    """What every series of a site carries. An empty label is none to Prometheus: left out."""
    labels = {
        **site.labels,
        "site": site.name,
        "owner": site.owner,
        "provider": site.provider,
        "host": site.host,
        "instance": site.url,
    }
    return {name: value for name, value in labels.items() if value}


@dataclass(frozen=True)
class Families(Collector):
    """Metrics that are there already, for the encoders of prometheus-client."""

    metrics: Iterable[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.metrics


class _Gauges:
    """Gauges by name, in the order of their first sample."""

    def __init__(self) -> None:
        self.metrics: dict[str, Metric] = {}

    def add(self, name: str, labels: Mapping[str, str], value: float) -> None:
        metric = self.metrics.get(name)
        if metric is None:
            metric = self.metrics[name] = Metric(name, HELP[name], "gauge")
        metric.add_sample(name, dict(labels), value)


def probe_metrics(results: Iterable[tuple[Mapping[str, str], Result]]) -> Iterable[Metric]:
    """The metrics of probes; each result comes with the labels of its site."""
    gauges = _Gauges()
    for labels, result in results:
        if result.known:
            gauges.add("probe_success", labels, result.success)
        gauges.add("probe_duration_seconds", labels, result.duration)
        gauges.add("probe_attempts", labels, result.attempts)
        if result.reason:
            gauges.add("probe_failure_info", {**labels, "reason": result.reason}, 1)
        for name, value, more in result.samples:
            gauges.add(name, {**labels, **more}, value)
    return gauges.metrics.values()


def site_metrics(
    config: Config,
    now: datetime,
    works: Iterable[Maintenance] = (),
    pages: Mapping[str, str] = {},
) -> Iterator[Metric]:
    """The configuration as metrics, so that rules name no site.

    `now` is an aware instant, `pages` the addresses of the owners' pages by owner.
    """
    under_way = [work for work in works if work.at(now.timestamp())]
    gauges = _Gauges()
    for site in config.sites:
        labels = site_labels(site)
        gauges.add("site_info", labels, 1)
        gauges.add("site_interval_seconds", labels, site.every)
        gauges.add("site_down_after_seconds", labels, site.down_after)
        gauges.add("site_recover_after_seconds", labels, site.recover_after)
        if isinstance(site.expect, Expectations) and site.expect.under:
            gauges.add("site_slow_seconds", labels, site.expect.under)
        if site.objective:
            gauges.add("site_objective_ratio", labels, site.objective)
        if touching := [work for work in under_way if work.covers(site)]:
            counted = "yes" if all(work.counts for work in touching) else "no"
            gauges.add("site_maintenance", {**labels, "counted": counted}, 1)
        if site.sentinel:
            gauges.add("site_sentinel", labels, 1)
    for owner in config.owners:
        gauges.add("owner_reachable", {"owner": owner.name}, _stays_reachable(owner, now))
        gauges.add("owner_utc_offset_seconds", {"owner": owner.name}, _utc_offset(owner, now))
        name, ahead = _NEXT[reachable(owner, now)]
        if change := ahead(owner, now):
            gauges.add(name, {"owner": owner.name}, change.timestamp())
        if "report" in owner.hears:
            gauges.add("owner_hears_report", {"owner": owner.name}, 1)
        if url := pages.get(owner.name):
            gauges.add("owner_page_info", {"owner": owner.name, "url": url}, 1)
        if owner.overdue_after:
            labels = {"owner": owner.name}
            gauges.add("owner_overdue_after_seconds", labels, owner.overdue_after)
    for provider in config.providers:
        labels = {"provider": provider.name}
        gauges.add("provider_utc_offset_seconds", labels, _utc_offset(provider, now))
        if provider.escalate:
            to = {**labels, "to": provider.escalate.to}
            gauges.add("provider_escalate_after_seconds", to, provider.escalate.after)
    yield from gauges.metrics.values()


def evidence_metrics(config: Config, external_url: str) -> Iterable[Metric]:
    """Where to read what was seen of each site, for the links of alerts."""
    gauges = _Gauges()
    for site in config.sites:
        labels = {**site_labels(site), "url": evidence.url(external_url, site.name)}
        gauges.add("site_evidence_info", labels, 1)
    return gauges.metrics.values()


def _stays_reachable(owner: Owner, now: datetime) -> bool:
    now = now.astimezone(UTC)
    return reachable(owner, now) and reachable(owner, now + FLUSH)


def _utc_offset(person: Person, now: datetime) -> float:
    offset = now.astimezone(ZoneInfo(person.timezone)).utcoffset()
    return offset.total_seconds() if offset else 0.0


def encode(metrics: Collector, accept: str) -> tuple[bytes, str]:
    """Text and content type, in the format that an Accept header asks for."""
    encoder, content_type = choose_encoder(accept)
    return encoder(metrics), content_type
