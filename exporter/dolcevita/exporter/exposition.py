"""Results and configuration as Prometheus metrics. The one place that turns data into text."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

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
    "site_drill": "1 while the site has a drill, a test of who is told; it is not down",
    "site_drill_passed_timestamp_seconds": "Unix time of the site's last drill that passed",
    "site_drill_due_timestamp_seconds": "Unix time by which the next is to pass; 0 for never",
    "site_slow_seconds": "A probe that takes longer is slow; only where it is set",
    "site_sentinel": "1 for sites that tell whether our own uplink works",
    "owner_reachable": "1 while messages may reach the owner, now and in half a minute",
    "owner_next_quiet_timestamp_seconds": "Unix time when quiet time begins; not during it",
    "owner_next_reachable_timestamp_seconds": "Unix time when quiet time ends; while it is",
    "owner_utc_offset_seconds": "What the owner's clock is ahead of UTC now",
    "owner_hears_report": "1 for owners who hear of the month's report",
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


class Gauges:
    """Gauges as text, by name in the order of their first sample.

    The format is Prometheus' own ("Exposition formats", text-based format 0.0.4). An encoder of a
    library takes longer for a probe's samples than libcurl for the probe.
    """

    def __init__(self, help_: Mapping[str, str] = HELP) -> None:
        self.help = help_
        self.lines: dict[str, list[str]] = {}

    def add(self, name: str, labels: str, value: float) -> None:
        """A sample; `labels` are from `as_text`."""
        lines = self.lines.get(name)
        if lines is None:
            lines = self.lines[name] = [_head(name, self.help[name])]
        series = f"{name}{{{labels}}}" if labels else name
        lines.append(f"{series} {value + 0.0!r}\n")

    def text(self) -> str:
        """All of them."""
        return "".join(["".join(lines) for lines in self.lines.values()])


@lru_cache(maxsize=1024)
def _head(name: str, help_: str) -> str:
    return f"# HELP {name} {_escaped(help_)}\n# TYPE {name} gauge\n"


def as_text(labels: Mapping[str, str]) -> str:
    """Labels as they stand between braces."""
    return _as_text(labels.items())


def _as_text(labels: Iterable[tuple[str, str]]) -> str:
    return ",".join([f'{name}="{_escaped(value, True)}"' for name, value in labels])


_known_text = lru_cache(maxsize=4096)(_as_text)


def _escaped(text: str, quoted: bool = False) -> str:
    text = text.replace("\\", r"\\").replace("\n", r"\n")
    return text.replace('"', r"\"") if quoted else text


def joined(labels: str, more: Mapping[str, str]) -> str:
    """Labels as text, with more of them."""
    if not more:
        return labels
    text = _known_text(tuple(more.items()))
    return f"{labels},{text}" if labels else text


def probe_metrics(results: Iterable[tuple[str, Result]]) -> str:
    """The metrics of probes; each result comes with the labels of its site as text."""
    gauges = Gauges()
    add = gauges.add
    for labels, result in results:
        if result.known:
            add("probe_success", labels, result.success)
        add("probe_duration_seconds", labels, result.duration)
        add("probe_attempts", labels, result.attempts)
        if result.reason:
            add("probe_failure_info", joined(labels, {"reason": result.reason}), 1)
        for name, value, more in result.samples:
            add(name, joined(labels, more) if more else labels, value)
    return gauges.text()


def site_metrics(sites: Iterable[Site], external_url: str) -> str:
    """Sites as metrics, so that rules name none; the exporter is reached at `external_url`."""
    gauges = Gauges()
    for site in sites:
        labels = as_text(site_labels(site))
        gauges.add("site_info", labels, 1)
        gauges.add("site_interval_seconds", labels, site.every)
        gauges.add("site_down_after_seconds", labels, site.down_after)
        gauges.add("site_recover_after_seconds", labels, site.recover_after)
        if isinstance(site.expect, Expectations) and site.expect.under:
            gauges.add("site_slow_seconds", labels, site.expect.under)
        if site.objective:
            gauges.add("site_objective_ratio", labels, site.objective)
        if site.sentinel:
            gauges.add("site_sentinel", labels, 1)
        where = {"url": evidence.url(external_url, site.name)}
        gauges.add("site_evidence_info", joined(labels, where), 1)
    return gauges.text()


def maintenance_metrics(sites: Iterable[Site], now: datetime, works: Iterable[Maintenance]) -> str:
    """The sites that are worked on at an aware instant."""
    under_way = [work for work in works if work.at(now.timestamp())]
    gauges = Gauges()
    for site in sites if under_way else ():
        if touching := [work for work in under_way if work.covers(site)]:
            counted = "yes" if all(work.counts for work in touching) else "no"
            labels = as_text({**site_labels(site), "counted": counted})
            gauges.add("site_maintenance", labels, 1)
    return gauges.text()


def people_metrics(config: Config, now: datetime) -> str:
    """Owners and providers at an aware instant."""
    gauges = Gauges()
    for owner in config.owners:
        labels = as_text({"owner": owner.name})
        gauges.add("owner_reachable", labels, _stays_reachable(owner, now))
        gauges.add("owner_utc_offset_seconds", labels, _utc_offset(owner, now))
        name, ahead = _NEXT[reachable(owner, now)]
        if change := ahead(owner, now):
            gauges.add(name, labels, change.timestamp())
        if "report" in owner.hears:
            gauges.add("owner_hears_report", labels, 1)
        if owner.overdue_after:
            gauges.add("owner_overdue_after_seconds", labels, owner.overdue_after)
    for provider in config.providers:
        labels = as_text({"provider": provider.name})
        gauges.add("provider_utc_offset_seconds", labels, _utc_offset(provider, now))
        if provider.escalate:
            to = joined(labels, {"to": provider.escalate.to})
            gauges.add("provider_escalate_after_seconds", to, provider.escalate.after)
    return gauges.text()


def drill_metrics(sites: Iterable[Site], audience: str, since: int) -> str:
    """The marked series of a drill, beside the results of its site."""
    gauges = Gauges()
    for site in sites:
        labels = {**site_labels(site), "audience": audience, "since": str(since)}
        gauges.add("site_drill", as_text(labels), 1)
    return gauges.text()


def drills_passed(by_site: Mapping[str, tuple[float, float | None]]) -> str:
    """For each site the unix times at which its drill passed and the next is due, if it is."""
    gauges = Gauges()
    for site, (passed, due) in by_site.items():
        labels = as_text({"site": site})
        gauges.add("site_drill_passed_timestamp_seconds", labels, passed)
        if due is not None:
            gauges.add("site_drill_due_timestamp_seconds", labels, due)
    return gauges.text()


def _stays_reachable(owner: Owner, now: datetime) -> bool:
    now = now.astimezone(UTC)
    return reachable(owner, now) and reachable(owner, now + FLUSH)


def _utc_offset(person: Person, now: datetime) -> float:
    offset = now.astimezone(ZoneInfo(person.timezone)).utcoffset()
    return offset.total_seconds() if offset else 0.0
