"""What would happen: who is told what of an outage, when, by which channel, and who is not."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

from dolcevita.alerting.compile import NOBODY
from dolcevita.alerting.maintenance import Maintenance, planned
from dolcevita.alerting.routing import Compiled, Route
from dolcevita.config import (
    Channel,
    Config,
    Owner,
    Person,
    Provider,
    Site,
    UserError,
    did_you_mean,
    format_duration,
    parse_duration,
)
from dolcevita.config.source import read
from dolcevita.config.status import Window

REACHABLE_FOR = timedelta(seconds=30)
"""The rules tell an incident when its owner is reachable for so long (owner_reachable)."""

Kind = Literal["happens", "told", "silent"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the timeline: at the latest at `at`, an instant in the owner's time zone.

    `at` is None for what does not happen at any one time. `who` is '' where something happens
    to the site.
    """

    at: datetime | None
    kind: Kind
    who: str
    text: str
    why: str = ""


@dataclass(frozen=True, slots=True)
class Outage:
    """A site that does not answer from `at` (UTC) on, for `lasts`."""

    site: Site
    at: datetime
    lasts: timedelta


def parse(config: Config, site: str, at: str, down_for: str) -> Outage:
    """An outage from a user's words; without `at` it begins now. Raises UserError."""
    sites = {known.name: known for known in config.sites}
    if site not in sites:
        raise UserError(f"--site: no site is named '{site}': {did_you_mean(site, sites)}")
    owner = next(owner for owner in config.owners if owner.name == sites[site].owner)
    try:
        begins = datetime.fromisoformat(at) if at else datetime.now(UTC)
    except ValueError:
        raise UserError(
            f"--at: found '{at}', expected a time such as \"2027-07-14 20:13\""
        ) from None
    if begins.tzinfo is None:
        begins = begins.replace(tzinfo=ZoneInfo(owner.timezone))
    if not 2000 <= begins.year <= 2900:
        raise UserError(f"--at: found '{at}', expected a year from 2000 to 2900")
    try:
        lasts = timedelta(seconds=parse_duration(down_for))
    except ValueError as error:
        raise UserError(f"--down-for: found '{down_for}', {error}") from None
    # In UTC, where an hour is an hour: on a wall clock it is not, when summer time begins or ends.
    return Outage(sites[site], begins.astimezone(UTC), lasts)


@dataclass(frozen=True, slots=True)
class _Alert:
    """An alert of the rules: firing from `start` to `end`, each at the latest."""

    name: str
    severity: str
    start: datetime
    end: datetime | None
    says: str
    ends: str = ""


def evaluation_intervals(prometheus: Path) -> defaultdict[str, float]:
    """How often the rule of each alert is evaluated, in seconds, as prometheus.yml has it.

    Raises ConfigError when a file is missing or not YAML.
    """
    data = read(prometheus).data
    common = parse_duration((data.get("global") or {}).get("evaluation_interval", "1m"))
    found: defaultdict[str, float] = defaultdict(lambda: common)
    for pattern in data.get("rule_files") or ():
        for file in sorted(prometheus.parent.glob(pattern)):
            for group in read(file).data["groups"]:
                if "interval" in group:
                    seconds = parse_duration(group["interval"])
                    found |= {rule["alert"]: seconds for rule in group["rules"] if "alert" in rule}
    return found


def timeline(
    outage: Outage,
    config: Config,
    compiled: Compiled,
    evaluations: Mapping[str, float],
    maintenance: tuple[Window, ...] = (),
) -> tuple[Entry, ...]:
    """What happens, in order; what does not comes last.

    `evaluations` are the evaluation intervals by alert, in seconds, `maintenance` the planned work
    of status.yml. Every time is the latest one: the first probe that fails may come at once, or as
    late as the next one is due. Raises UserError when amtool cannot be asked.
    """
    return _Timeline(outage, config, compiled, evaluations, maintenance).entries()


class _Timeline:
    def __init__(
        self,
        outage: Outage,
        config: Config,
        compiled: Compiled,
        evaluations: Mapping[str, float],
        maintenance: tuple[Window, ...],
    ) -> None:
        self.outage = outage
        self.maintenance = maintenance
        self.site = outage.site
        self.compiled = compiled
        self.owner = next(owner for owner in config.owners if owner.name == self.site.owner)
        self.provider = next(who for who in config.providers if who.name == self.site.provider)
        self.people: dict[str, Person] = {
            **{f"owner/{owner.name}": owner for owner in config.owners},
            **{f"provider/{provider.name}": provider for provider in config.providers},
        }
        self.evaluations = evaluations
        self.answers = outage.at + outage.lasts
        self.down = self._seen(outage.at, self.site.down_after, "SiteDown")
        self.recovered = self._seen(self.answers, self.site.recover_after, "SiteDown")

    def entries(self) -> tuple[Entry, ...]:
        zone = ZoneInfo(self.owner.timezone)
        found = list(self._entries())
        timed = sorted(
            (entry for entry in found if entry.at), key=lambda entry: entry.at or datetime.max
        )
        return tuple(
            Entry(entry.at.astimezone(zone) if entry.at else None, *_rest(entry))
            for entry in (*timed, *(entry for entry in found if not entry.at))
        )

    def _entries(self) -> Iterator[Entry]:
        yield Entry(self.outage.at, "happens", "", f"{self.site.name} stops answering")
        yield Entry(self.answers, "happens", "", f"{self.site.name} answers again")
        if self.site.sentinel:
            why = "it is a sentinel: it tells whether the monitoring machine is online"
            yield Entry(None, "silent", "nobody", "hears of it", why)
            return
        if self.outage.lasts <= timedelta(seconds=self.site.down_after):
            after = format_duration(self.site.down_after)
            why = f"it was away for no longer than its down_after, {after}"
            yield Entry(None, "silent", "nobody", "hears of it", why)
            return
        yield Entry(self.down, "happens", "", "it counts as down: an incident")
        yield Entry(
            self.recovered, "happens", "", "it has answered for long enough: the incident is over"
        )
        told: set[str] = set()
        for alert in self._alerts():
            for route in self.compiled.routes(self._labels(alert)):
                person = self.people.get(route.receiver)
                if person is None and route.receiver == NOBODY:
                    continue
                for entry in self._delivered(alert, route, person):
                    told.add(alert.name)
                    yield entry
        yield from self._not_told(told)

    def _alerts(self) -> Iterator[_Alert]:
        """What the rules make of the outage."""
        site = self.site.name
        yield _Alert(
            "SiteDown", "critical", self.down, self.recovered, f"{site} is down", f"{site} is up"
        )
        late = self._escalated()
        if late:
            yield _Alert(
                "SiteDownEscalated",
                "critical",
                late,
                self.recovered,
                f"{site} is still down",
                f"{site} is up",
            )
        overdue = self._overdue()
        if overdue:
            says = f"{site} is still down, {self.provider.name} is late"
            yield _Alert("ProviderOverdue", "critical", overdue, self.recovered, says)
        good_news = self._good_news()
        if good_news:
            says = f"{site} was down for {_span(self.outage.lasts)}, is fixed, nothing to do"
            yield _Alert("IncidentResolved", "info", good_news, None, says)

    def _seen(self, what: datetime, after: float, alert: str) -> datetime:
        """When the rule of `alert` has seen at the latest what goes on for `after` seconds."""
        return what + timedelta(seconds=self.site.every + after + self.evaluations[alert])

    def _escalated(self) -> datetime | None:
        """When the second provider is called, if there is one and it is not over by then."""
        escalate = self.provider.escalate
        return self._late(escalate.after, "SiteDownEscalated") if escalate else None

    def _overdue(self) -> datetime | None:
        """When the provider is late in the eyes of the owner, if the incident is not over then."""
        after = self.owner.overdue_after
        return self._late(after, "ProviderOverdue") if after is not None else None

    def _late(self, after: float, alert: str) -> datetime | None:
        at = max(self._seen(self.outage.at, after, alert), self.down)
        return at if at < self.recovered else None

    def _good_news(self) -> datetime | None:
        """When the rules tell the owner: once they can be reached for a while."""
        muting = self.compiled.mutings.get(f"quiet/{self.owner.name}")
        at: datetime | None = self.recovered
        while muting and at:
            at = muting.left(at)
            if at is None or not muting.contains(at + REACHABLE_FOR):
                break
            at += REACHABLE_FOR
        return at

    def _labels(self, alert: _Alert) -> dict[str, str]:
        provider = self.provider.name
        if alert.name == "SiteDownEscalated" and self.provider.escalate:
            provider = self.provider.escalate.to
        since = int(self.outage.at.astimezone(UTC).timestamp())
        labels = {
            **self.site.labels,
            "alertname": alert.name,
            "severity": alert.severity,
            "site": self.site.name,
            "owner": self.site.owner,
            "provider": provider,
            "host": self.site.host,
            "instance": self.site.url,
            "since": str(since),
        }
        if alert.name == "IncidentResolved":
            labels["digest"] = str(int(alert.start.timestamp()))
        return {name: value for name, value in labels.items() if value}

    def _delivered(self, alert: _Alert, route: Route, person: Person | None) -> Iterator[Entry]:
        who = person.name if person else route.receiver
        by = _by(person.notify) if person else ""
        if person and not person.notify:
            yield Entry(None, "silent", who, "is not told", "people.yml gives no way: 'notify'")
            return
        first = alert.start + timedelta(seconds=route.group_wait)
        if alert.end and first >= alert.end:
            why = f"it is over within the group_wait of its route, {_span(first - alert.start)}"
            yield Entry(None, "silent", who, f"is not told: {alert.says}", why)
            return
        at = self._free(route, first)
        held = self._held(route, first)
        if at is None or (alert.end and at >= alert.end and held):
            until = f" until {_clock(at, self.owner)}" if at else ""
            why = f"held back by {held}{until}" + (", when it is over" if at else "")
            yield Entry(None, "silent", who, f"is not told: {alert.says}", why)
            return
        waited = self._waited(alert, route, first, held)
        yield Entry(at, "told", who, f"{alert.says}{by}", waited)
        if alert.end is None:
            return
        repeat = timedelta(seconds=route.repeat_interval)
        times = int((alert.end - at) / repeat)
        if times:
            count = "once" if times == 1 else f"{times} times"
            again = f"is told again every {_span(repeat)} until it is over: {count}"
            yield Entry(at + repeat, "told", who, again)
        if isinstance(person, Provider):
            # A group is looked at once an interval: that is when its end is seen.
            end = alert.end + timedelta(seconds=route.group_interval)
            if late := self._held(route, end):
                why = f"held back by {late}"
                yield Entry(None, "silent", who, f"is not told: {alert.ends}", why)
            else:
                yield Entry(end, "told", who, f"{alert.ends}{by}")

    def _held(self, route: Route, at: datetime) -> str:
        """What holds a message back at `at`, '' for nothing."""
        work = self._work(at)
        return f"planned work ({work.because})" if work else route.muted_by(at)

    def _free(self, route: Route, at: datetime) -> datetime | None:
        """The first instant from `at` on at which nothing holds it back; None for not in a year."""
        free = route.free(at)
        while free and (work := self._work(free)):
            free = route.free(datetime.fromtimestamp(work.end, UTC))
            if free and free > at + timedelta(days=366):
                return None
        return free

    def _work(self, at: datetime) -> Maintenance | None:
        """The planned work on the site at `at`: a silence of Alertmanager for all about it."""
        now = at.timestamp()
        found = (work for work in planned(self.maintenance, now) if work.covers(self.site))
        return next((work for work in found if work.at(now)), None)

    def _waited(self, alert: _Alert, route: Route, first: datetime, held: str) -> str:
        if held:
            return f"held back by {held}"
        if alert.name == "IncidentResolved" and alert.start > self.recovered:
            return f"held back by quiet/{self.owner.name}"
        return ""

    def _not_told(self, told: set[str]) -> Iterator[Entry]:
        """Who could have been told, and why they are not."""
        owner, provider = self.owner, self.provider
        if "down" not in owner.hears:
            why = "has not asked for it (hears: down)"
            yield Entry(None, "silent", owner.name, "is not told that it is down", why)
        if owner.overdue_after is None:
            why = "has not asked for it (overdue_after)"
            yield Entry(None, "silent", owner.name, "is not told when it takes long", why)
        elif self._overdue() is None:
            why = f"it is over within their overdue_after, {format_duration(owner.overdue_after)}"
            yield Entry(None, "silent", owner.name, "is not told that it takes long", why)
        if provider.escalate and self._escalated() is None:
            after = format_duration(provider.escalate.after)
            why = f"it is over within the {after} that {provider.name} has"
            yield Entry(None, "silent", provider.escalate.to, "is not called", why)
        if "resolved" not in owner.hears:
            why = "has not asked for it (hears: resolved)"
            yield Entry(None, "silent", owner.name, "is not told that it is fixed", why)
        elif "IncidentResolved" not in told and self._good_news() is None:
            why = "cannot be reached within a year"
            yield Entry(None, "silent", owner.name, "is not told that it is fixed", why)


def _rest(entry: Entry) -> tuple[Kind, str, str, str]:
    return entry.kind, entry.who, entry.text, entry.why


def _by(channels: Sequence[Channel]) -> str:
    """The ways to a person, without the addresses that are secrets."""
    return " by " + ", ".join(dict.fromkeys(_channel(channel) for channel in channels))


def _channel(channel: Channel) -> str:
    match channel.kind:
        case "email" if not channel.file:
            return f"email to {channel.value}"
        case "apprise" if not channel.file:
            return f"apprise ({str(channel.value).partition('://')[0]})"
        case kind:
            return kind.removesuffix("_configs")


def _clock(at: datetime, owner: Owner) -> str:
    return f"{at.astimezone(ZoneInfo(owner.timezone)):%a %d %b %H:%M}"


def _span(time: timedelta) -> str:
    return format_duration(time.total_seconds())
