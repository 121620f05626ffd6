"""A made-up past of many sites, for the tests and the pictures: what the stack would have written.

Sites fail now and then and are repaired; owners have quiet evenings and weekends. The same
arguments make the same past.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TextIO

DAY = 86400
STEP = 300
"""Seconds between the samples of long series, as the group `dashboards` of the rules has it."""

FRESH = 900
"""Seconds before the end for which everything has a sample a minute."""

ALL_SITES = {
    "owner": ".*",
    "provider": ".*",
    "host": ".*",
    "site": ".*",
    "shown": "40",
    "site_owner": "paul",
}
ONE_SITE = {**ALL_SITES, "site": "shop-1"}
"""What the variables of the dashboards choose of this past; the one site is down at its end."""

OWNERS = ("marie", "paul", "atelier")
PROVIDERS = {"marie": "infogerance", "paul": "infogerance", "atelier": "nordhost"}
REASONS = ("status", "timeout", "connect", "dns", "content", "certificate")
OVERDUE = 4 * 3600
PHASES = {"resolve": 0.01, "connect": 0.02, "tls": 0.04, "processing": 0.15, "transfer": 0.05}
NAMES = "shop blog mail wiki docs api forum crm intranet static".split()

Labels = dict[str, str]
Value = Callable[[int], float | None]


class Incident(NamedTuple):
    """Unix seconds; `told` is 0 while the owner has not been told, `end` while it is open."""

    start: int
    end: int
    told: int
    reason: str


@dataclass(frozen=True)
class Site:
    labels: Labels
    incidents: tuple[Incident, ...]
    speed: float

    @property
    def name(self) -> str:
        return self.labels["site"]

    def down(self, at: float) -> bool:
        return any(i.start <= at < (i.end or at + 1) for i in self.incidents)

    def lost(self, since: int, until: int) -> int:
        """Seconds between the two in which it was down."""
        ends = ((i.start, i.end or until) for i in self.incidents)
        return sum(max(0, min(end, until) - max(start, since)) for start, end in ends)


def write(file: Path, sites: int, days: int, end: int) -> None:
    """A past of `days` up to the unix time `end`, as OpenMetrics for promtool's backfill."""
    watched = list(made(sites, days, end))
    with file.open("w") as out:
        # The time of a series goes up: what is written of the end comes after what is long.
        for family in (_states, _incidents, _owners, _in_depth, _fresh, _stack):
            for name, labels, times, value in family(watched, end - days * DAY, end):
                _series(out, name, labels, times, value)
        out.write("# EOF\n")


Family = Iterator[tuple[str, Labels, Iterable[int], Value]]


def _series(out: TextIO, name: str, labels: Labels, times: Iterable[int], value: Value) -> None:
    text = ",".join(f'{key}="{content}"' for key, content in labels.items() if content)
    head = f"{name}{{{text}}}"
    out.writelines(f"{head} {v:.12g} {at}\n" for at in times if (v := value(at)) is not None)


def _always(value: float | None) -> Value:
    return lambda _: value


def quiet(owner: str, at: float) -> bool:
    """Evenings and nights, and weekends, an hour east of Greenwich. The last owner has none."""
    local = at + 3600
    weekday = (local // DAY + 3) % 7
    morning, evening = (9, 19) if owner == OWNERS[0] else (7, 21)
    return owner != OWNERS[-1] and (weekday >= 5 or not morning <= local % DAY / 3600 < evening)


def made(count: int, days: int, end: int) -> Iterator[Site]:
    """The sites with their incidents."""
    begin = end - days * DAY
    dice = random.Random(1407)
    for number in range(count):
        owner = OWNERS[number % len(OWNERS)]
        kind = NAMES[number % len(NAMES)]
        name = kind if number < len(NAMES) else f"{kind}-{number // len(NAMES)}"
        scheme = "domain" if number % 25 == 7 else "https"
        labels = {
            "site": name,
            "owner": owner,
            "provider": PROVIDERS[owner],
            "host": f"srv{number % (count // 8 + 1) + 1}" if number % 9 else "",
            "instance": f"{scheme}://{name}.example.com",
        }
        incidents = []
        for _ in range(12 if number in (0, 10) else dice.choice((0, 0, 0, 1, 1, 2, 3))):
            start = dice.randrange(begin, end - 8 * 3600)
            length = int(min(dice.lognormvariate(7.2, 1.0), 8 * 3600))
            told = start + length + 120
            while quiet(owner, told):
                told += 60
            reason = dice.choice(REASONS)
            incidents.append(Incident(start, start + length, told if told < end else 0, reason))
        if number in (3, 10, 31):
            incidents.append(Incident(end - 2100 * (number % 4 + 1), 0, 0, dice.choice(REASONS)))
        incidents.sort()
        apart = [i for i, before in zip(incidents[1:], incidents, strict=False)
                 if i.start > before.end + 600 or not before.end]  # fmt: skip
        yield Site(labels, (*incidents[:1], *apart), dice.lognormvariate(-1.2, 0.6))


def _states(sites: list[Site], begin: int, end: int) -> Family:
    times = range(begin, end + 1, STEP)
    for site in sites:
        touched = {
            at // STEP for i in site.incidents for at in range(i.start, i.end or end + STEP, STEP)
        }
        shaky = {at // STEP for at in random.Random(site.name).sample(times, 5)}

        def state(at: int, touched: set[int] = touched, shaky: set[int] = shaky) -> float:
            return 0 if at // STEP in touched else 1 if at // STEP in shaky else 2

        yield "site:state", site.labels, times, state


def _fresh(sites: list[Site], begin: int, end: int) -> Family:
    times = range(end - FRESH, end + 1, 60)
    # A timeline of a month ends on a whole step, up to three hours before.
    longer = range(end - 3 * 3600, end + 1, 120)
    for number, site in enumerate(sites):
        only = {"site": site.name}
        down = site.down(end)
        objective = (0.999, 0.995, 0.99, 0)[number % 4]
        values: list[tuple[str, Labels, float | None]] = [
            ("site:info", site.labels, 1),
            ("site_info", site.labels, 1),
            ("site:probe_success:min", only, not down),
            ("probe_success", site.labels, not down),
            ("site_slow_seconds", site.labels, 1.5 if number % 2 else None),
            ("site_objective_ratio", site.labels, objective or None),
            ("site:probe_duration_seconds:median5m", only, None if down else site.speed),
            ("site:probe_duration_seconds:usual", only, site.speed * (0.6, 1, 1.1)[number % 3]),
            ("site:error_budget:ratio", site.labels,
             1 - site.lost(end - 30 * DAY, end) / (30 * DAY * (1 - objective))
             if objective else None),
        ]  # fmt: skip
        for window, days in (("24h", 1), ("7d", 7), ("30d", 30), ("90d", 90)):
            since = end - days * DAY
            missed = site.lost(since, end) / (end - max(since, begin))
            ratio = {**site.labels, "window": window}
            values.append(("site:availability:ratio", ratio, 1 - missed))
        if site.labels["instance"].startswith("https"):
            values.append(("site:certificate:days", only, (number * 7 + 3) % 89 + 0.5))
            values.append(("probe_tls_version_info", {**site.labels, "version": "TLS 1.3"}, 1))
            cipher = {**site.labels, "cipher": "TLS_AES_256_GCM_SHA384"}
            values.append(("probe_tls_cipher_info", cipher, 1))
            chain = {**site.labels, "issuer": "CN=R11,O=Let's Encrypt,C=US"}
            values.append(("probe_ssl_last_chain_info", chain, 1))
        else:
            values.append(("site:domain:days", only, (number * 13) % 360 + 2.5))
            domain = {**site.labels, "registrar": "Gandi SAS", "server": "rdap.example"}
            values.append(("probe_domain_info", domain, 1))
        if site.speed > 0.8:
            alert = {"alertname": "SiteSlow", "alertstate": "firing", "severity": "warning"}
            values.append(("ALERTS", {**alert, **site.labels}, 1))
        for name, labels, value in values:
            yield name, labels, longer if labels.get("window") == "24h" else times, _always(value)


def _incidents(sites: list[Site], begin: int, end: int) -> Family:
    for site in sites:
        for incident in site.incidents:
            since = {"site": site.name, "since": str(incident.start)}
            labels = {**site.labels, **since, "reason": incident.reason}
            opened = incident.start + 25

            def event(
                name: str, more: Labels, at: int, value: float
            ) -> tuple[str, Labels, Iterable[int], Value]:
                return name, more, (at,), _always(value)

            yield event("incident:opened:timestamp_seconds", labels, opened, incident.start)
            while_open = range(opened, incident.end or end + 1, 60)
            yield ("incident:open:timestamp_seconds", labels, while_open,
                   _always(incident.start))  # fmt: skip
            if not incident.end:
                continue
            ended = {**since, "outcome": "recovered"}
            at = incident.end + 70
            yield event("incident:ended:timestamp_seconds", ended, at, incident.end)
            if incident.told:
                digest = str(incident.told // 60 * 60)
                told = {**labels, "until": str(incident.end), "digest": digest}
                length, held = incident.end - incident.start, incident.told - incident.end
                yield event("incident:told:duration_seconds", told, incident.told, length)
                yield event("incident:held:duration_seconds", told, incident.told + 30, held)


def _owners(sites: list[Site], begin: int, end: int) -> Family:
    times = range(begin, end + 1, STEP)
    fresh = range(end - FRESH, end + 1, 60)
    for owner in OWNERS:
        labels = {"owner": owner}
        theirs = [site for site in sites if site.labels["owner"] == owner]
        trouble = {
            at // STEP
            for site in theirs
            for i in site.incidents
            for at in range(i.start, i.end or end + STEP, STEP)
        }

        def state(at: int, owner: str = owner, trouble: set[int] = trouble) -> float:
            return quiet(owner, at) + 2 * (at // STEP in trouble)

        yield "owner:state", labels, times, state
        for part, hour in (("night", 3), ("day", 12)):
            moments = range(begin // DAY * DAY + DAY + (hour - 1) * 3600, end, DAY)
            peaceful = [at for at in moments if quiet(owner, at)]
            yield "owner:in_peace", {**labels, "part": part}, peaceful, _always(1)
        change = end
        while quiet(owner, change) == quiet(owner, end) and change < end + 7 * DAY:
            change += 60
        if change < end + 7 * DAY:
            which = "reachable" if quiet(owner, end) else "quiet"
            name = f"owner_next_{which}_timestamp_seconds"
            yield name, labels, fresh, _always(change)
        yield "owner_overdue_after_seconds", labels, fresh, _always(OVERDUE)


def _in_depth(sites: list[Site], begin: int, end: int) -> Family:
    """The site with the most incidents that is open now, with a sample a minute."""
    site = sites[10]
    times = range(begin, end + 1, 60)
    dice = random.Random(3)
    noise = [dice.lognormvariate(0, 0.25) for _ in range(1009)]

    def spent(seconds: float, while_down: float | None = 0) -> Value:
        def value(at: int) -> float | None:
            rush = 1.6 if 9 <= at % DAY / 3600 < 18 else 1.0
            return while_down if site.down(at) else seconds * rush * noise[at // 60 % 1009]

        return value

    codes = {i.start: 503.0 if i.reason == "status" else 0.0 for i in site.incidents}

    def code(at: int) -> float:
        began = [i.start for i in site.incidents if i.start <= at < (i.end or at + 1)]
        return codes[began[0]] if began else 200

    yield "probe_http_status_code", site.labels, times, code
    yield "probe_http_version", site.labels, times, lambda at: 2 if code(at) else 0
    for phase, seconds in PHASES.items():
        labels = {**site.labels, "phase": phase}
        yield "probe_http_duration_seconds", labels, times, spent(seconds)
    older = range(begin, end - FRESH, 60)
    only = {"site": site.name}
    yield "site:probe_duration_seconds:median5m", only, older, spent(0.27, None)
    yield "site_slow_seconds", site.labels, older, _always(1.5)
    for incident in site.incidents:
        reason = {**site.labels, "reason": incident.reason}
        while_failing = range(incident.start, incident.end or end + 1, 60)
        yield "probe_failure_info", reason, while_failing, _always(1)

    def budget(at: int) -> float:
        return 1 - site.lost(at - 30 * DAY, at) / (30 * DAY * 0.01)

    yield "site:error_budget:ratio", site.labels, range(begin, end - FRESH, 120), budget
    for window, seconds in (("1h", 3600), ("6h", 6 * 3600), ("3d", 3 * DAY)):

        def rate(at: int, seconds: int = seconds) -> float:
            return site.lost(at - seconds, at) / seconds / 0.01

        labels = {**site.labels, "window": window}
        yield "site:error_budget:burn_rate", labels, range(begin, end + 1, 120), rate


def _stack(sites: list[Site], begin: int, end: int) -> Family:
    # As often as they are scraped at the end, or nothing grows within four scrapes.
    times = [*range(begin, end - DAY // 2, STEP), *range(end - DAY // 2, end + 1, 15)]
    dice = random.Random(5)
    noise = [dice.lognormvariate(0, 0.3) for _ in range(997)]

    def around(value: float, much: float = 1) -> Value:
        return lambda at: value * noise[at // 60 % 997] ** much

    def counted(a_minute: float, every: int = 0) -> Value:
        """Grows all the time, or in steps `every` so many seconds."""
        return lambda at: (at - begin) // (every or 1) * (every or 1) / 60 * a_minute

    # By job: seconds for a scrape, bytes of memory, version.
    jobs = {
        "exporter": (0.02, 140e6, "0.1.0"),
        "courier": (0.004, 60e6, ""),
        "alertmanager": (0.006, 45e6, "0.34.0"),
        "prometheus": (0.015, 420e6, "3.14.0"),
    }
    for job, (scrape, memory, version) in jobs.items():
        labels = {"job": job, "instance": f"{job}:1"}
        yield "up", labels, times, _always(1)
        yield "scrape_duration_seconds", labels, times, around(scrape)
        yield "process_resident_memory_bytes", labels, times, around(memory, 0.1)
        yield "process_start_time_seconds", labels, times, _always(begin)
        prefix = job if version and job != "exporter" else "dolcevita"
        if version:
            yield f"{prefix}_build_info", {**labels, "version": version}, times, _always(1)
        yield f"{prefix}_config_last_reload_successful", labels, times, _always(1)
        reload = f"{prefix}_config_last_reload_success_timestamp_seconds"
        yield reload, labels, times, lambda at: at // 20000 * 20000
    for batch in range(max(1, len(sites) // 25)):
        labels = {"job": "sites", "instance": "exporter:9714", "batch": str(batch)}
        yield "up", labels, times, _always(1)
        yield "scrape_duration_seconds", labels, times, around(0.9)
    groups = {"availability": 0.06, "slo": 0.08, "performance": 0.03, "dashboards": 0.12}
    for group, seconds in groups.items():
        labels = {"job": "prometheus", "rule_group": f"/etc/prometheus/rules/x.yml;{group}"}
        yield "prometheus_rule_group_last_duration_seconds", labels, times, around(seconds)
    exporter = {"job": "exporter", "instance": "exporter:1"}
    for result, a_minute in (("success", 4.0 * len(sites)), ("failure", 0.03 * len(sites))):
        yield "dolcevita_probes_total", {**exporter, "result": result}, times, counted(a_minute)
    yield "dolcevita_data_free_bytes", exporter, times, lambda at: 4e10 - (at - begin) * 5000
    yield "dolcevita_data_size_bytes", exporter, times, _always(1e11)
    sent = {"email": 1800, "webhook": 900}
    for integration, every in sent.items():
        labels = {"job": "alertmanager", "integration": integration}
        yield "alertmanager_notifications_total", labels, times, counted(60 / every, every)
        yield (
            "alertmanager_notifications_failed_total",
            labels,
            times,
            counted(6 / every, 10 * every),
        )
    courier = {"job": "courier", "channel": "ntfy"}
    yield "courier_notifications_total", courier, times, counted(1 / 60, 3600)
    yield "courier_notifications_failed_total", courier, times, counted(1 / 600, 36000)
    prometheus = {"job": "prometheus", "instance": "prometheus:1"}
    yield ("prometheus_tsdb_storage_blocks_bytes", prometheus, times,
           lambda at: 2e8 + (at - begin) * 900)  # fmt: skip
    yield "prometheus_tsdb_head_series", prometheus, times, around(60 * len(sites), 0.05)
    yield "uplink:down", {}, range(end - FRESH, end + 1, 60), _always(0)
