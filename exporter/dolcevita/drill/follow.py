"""Begins a drill on the live stack, and follows it from link to link."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiohttp

from dolcevita.alerting.routing import Compiled, Route
from dolcevita.config import Channel, Config, Person, Site, UserError, format_duration
from dolcevita.courier.alertmanager import Alertmanager, Unreachable
from dolcevita.drill import deliveries
from dolcevita.drill.deliveries import Counters
from dolcevita.drill.links import Broken, Link
from dolcevita.drill.servers import Exporter, Insight, no_alertmanager, no_prometheus
from dolcevita.history import NoAnswer, Prometheus, quoted

POLL = 0.25
"""Seconds between two looks."""

GIVE_UP = 3
"""Attempts of Alertmanager that fail; it goes on trying, with longer and longer pauses."""

GIVEN_SECONDS = 10.0
"""What Alertmanager gives a delivery, or the group's interval where that is longer."""

LEASE = 30.0
"""Seconds after which a drill whose command was killed ends by itself."""

EXPORTER_SECONDS = 5.0
"""How often Prometheus asks for the exporter's own metrics (prometheus/prometheus.yml)."""

ALERTS = {"provider": "SiteDown", "owner": "IncidentResolved"}
"""By audience, the alert that prometheus/rules/drill.yml makes of the mark."""

T = TypeVar("T")
Say = Callable[[float, str, str], None]
"""What has happened: seconds since the drill began, who, and what."""


@dataclass(frozen=True, slots=True)
class Servers:
    """Where the live stack answers, as URLs."""

    exporter: str
    prometheus: str
    alertmanager: str


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be proven. `every` is by when the next drill is to pass, in seconds: 0 for never.

    `patience` is how many seconds each step may take beyond what the configuration says.
    """

    site: Site
    tell_owner: bool
    every: float | None
    patience: float


def run(
    config: Config, wish: Wish, servers: Servers, amtool: Path | None, say: Say
) -> float | signal.Signals:
    """As `follow`, or the signal that ended it before."""

    async def interruptible() -> float | signal.Signals:
        task = asyncio.create_task(follow(config, wish, servers, amtool, say))
        caught: list[signal.Signals] = []

        def stop(number: signal.Signals) -> None:
            caught.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
        try:
            return await task
        except asyncio.CancelledError:
            return caught[0]

    return asyncio.run(interruptible())


async def follow(
    config: Config, wish: Wish, servers: Servers, amtool: Path | None, say: Say
) -> float:
    """The seconds until the provider was told; returns once everything is proven.

    Raises Broken for the first link that does not hold, UserError when there can be no drill now.
    Whatever happens, also when cancelled, the mark is taken away again.
    """
    # None of them is behind a proxy of the environment.
    async with aiohttp.ClientSession(trust_env=False) as session:
        drill = _Drill(
            config,
            wish,
            Exporter(session, servers.exporter),
            Prometheus(session, servers.prometheus),
            Insight(session, servers.prometheus),
            Alertmanager(session, servers.alertmanager),
            amtool,
            say,
        )
        try:
            return await drill.run()
        except NoAnswer as error:
            raise no_prometheus(servers.prometheus, str(error)) from None
        except Unreachable as error:
            raise no_alertmanager(servers.alertmanager, error) from None
        finally:
            await asyncio.shield(drill.end())


@dataclass
class _Drill:
    config: Config
    wish: Wish
    exporter: Exporter
    prometheus: Prometheus
    insight: Insight
    alertmanager: Alertmanager
    amtool: Path | None
    say: Say
    began: float = 0.0
    under_way: int | None = None
    keeper: asyncio.Task[None] | None = None
    routes: list[Route] = field(default_factory=list)
    channels: dict[str, dict[bool, dict[str, int]]] = field(default_factory=dict)

    async def run(self) -> float:
        site, people = self.wish.site, self._people()
        await self._refuse_while_down()
        self.began = asyncio.get_running_loop().time()
        since, page = await self._tell("provider", people["provider"])
        told = self._elapsed()
        await self._recover(people["provider"], since, page)
        if self.wish.tell_owner:
            owner, _ = await self._tell("owner", people["owner"])
            await self.exporter.end(owner)
            self.under_way = None
        await self._remember(site, since)
        return told

    async def end(self) -> None:
        """Take the mark away, if there is one; where that fails, it ends by its own deadline."""
        if self.keeper:
            self.keeper.cancel()
        if self.under_way is not None:
            since, self.under_way = self.under_way, None
            try:
                await self.exporter.end(since)
            except Broken:
                self.say(self._elapsed(), "exporter", "does not answer: the drill ends by itself")

    async def _keep(self) -> None:
        """Have the mark go on for as long as this runs."""
        while True:
            await asyncio.sleep(LEASE / 6)
            if self.under_way is not None:
                with suppress(Broken):
                    await self.exporter.keep(self.under_way, LEASE)

    # ---- The steps ---------------------------------------------------------------------------

    async def _refuse_while_down(self) -> None:
        site = quoted(self.wish.site.name)
        if await self.prometheus.instant(f"incident:open:timestamp_seconds{{site={site}}}"):
            text = f"{self.wish.site.name} is down at the moment: no drill until it is fixed"
            raise UserError(text)
        await self.alertmanager.state()

    async def _tell(self, audience: str, person: Person) -> tuple[int, Counters]:
        """Mark the site and follow until the person's channels took the message.

        Gives the drill's name, and what Alertmanager had delivered then.
        """
        site, patience = self.wish.site, self.wish.patience
        receiver = f"{audience}/{person.name}"
        before = await self._counters()
        since = self.under_way = await self.exporter.begin(site.name, audience, LEASE)
        self.keeper = self.keeper or asyncio.create_task(self._keep())
        self._tell_of("exporter", f"marks {site.name}")
        names = f"site={quoted(site.name)},since={quoted(str(since))}"

        async def scraped() -> bool:
            """Notes what was delivered before: once it is known, it may be told at once."""
            nonlocal before
            counters = await self._counters()
            if await self.prometheus.instant(f"site_drill{{{names}}}"):
                return True
            before = counters
            return False

        if not await self._until(scraped, site.every + site.timeout + patience):
            raise await self._not_scraped()
        known = datetime.now(UTC)
        self._tell_of("Prometheus", "has scraped it")
        name = ALERTS[audience]
        selector = f'ALERTS{{alertname="{name}",drill="true",alertstate="firing",{names}}}'
        if not await self._until(lambda: self.prometheus.instant(selector), patience):
            raise await self._not_evaluated(name, known)
        self._tell_of("Prometheus", f"{name} fires")
        alert = await self._until(lambda: self._alert(name, since), patience)
        if alert is None:
            raise await self._not_sent()
        await self._check_receivers(alert, audience, receiver)
        others = "" if audience == "owner" else f", not for {site.owner}"
        self._tell_of("Alertmanager", f"has it, for {person.name}{others}")
        wanted = self.channels[receiver][False]
        wait = max((route.group_wait for route in self.routes), default=0.0)

        async def held() -> Broken | None:
            current = await self._alert(name, since)
            return await self._held(current, receiver) if current else None

        await self._check_muted(receiver)
        await self._check_courier()
        after = await self._taken(person, receiver, wanted, before, wait, held)
        self._tell_of(person.name, f"was told: {_listed(person)}")
        return since, after

    async def _recover(self, person: Person, since: int, before: Counters) -> None:
        """End the drill and follow until the provider was told that it is over."""
        site, patience = self.wish.site, self.wish.patience
        if not await self.exporter.end(since):
            raise Broken(Link.EXPORTER, "the exporter was restarted during the drill: try again")
        self.under_way = None
        self._tell_of("exporter", "takes the mark away")
        seconds = site.every + site.timeout + 2 * patience

        async def over() -> bool:
            return await self._alert(ALERTS["provider"], since) is None

        if not await self._until(over, seconds):
            text = "the drill has ended, but its alert goes on in Alertmanager: see its log"
            raise Broken(Link.RECOVERY, text)
        self._tell_of("Alertmanager", "knows that it is over")
        receiver = f"provider/{person.name}"
        wanted = self.channels[receiver][True]
        if wanted:
            interval = max((route.group_interval for route in self.routes), default=0.0)
            await self._taken(person, receiver, wanted, before, interval, _nothing)
            self._tell_of(person.name, "was told of the recovery")

    async def _remember(self, site: Site, since: int) -> None:
        await self.exporter.passed(since, site.name, self.wish.every)
        name = f"drill:passed:timestamp_seconds{{site={quoted(site.name)}}}"
        query = f"last_over_time({name}[1h]) == {since}"
        if not await self._until(
            lambda: self.prometheus.instant(query), EXPORTER_SECONDS + 2 * self.wish.patience
        ):
            text = "Prometheus does not remember that the drill passed: see rules/drill.yml"
            raise Broken(Link.MEMORY, text)
        self._tell_of("Prometheus", "remembers that the drill passed")

    # ---- Alertmanager ------------------------------------------------------------------------

    async def _counters(self) -> Counters:
        return deliveries.parse(await self.alertmanager.metrics())

    async def _alert(self, name: str, since: int) -> dict[str, Any] | None:
        for alert in await self.alertmanager.alerts(name):
            labels = alert["labels"]
            if labels.get("drill") and labels.get("since") == str(since):
                return alert
        return None

    async def _check_receivers(self, alert: Mapping[str, Any], audience: str, wanted: str) -> None:
        """Whom the configuration that Alertmanager runs on sends it to, and when."""
        receivers = [entry["name"] for entry in alert["receivers"]]
        if wanted not in receivers:
            text = (
                f"Alertmanager's configuration sends it to {', '.join(receivers)}, not to "
                f"{wanted}: it is not what people.yml and alertmanager/alertmanager.yml make; "
                "`dolcevita check` judges them, and the courier, which compiles them, must run"
            )
            raise Broken(Link.ROUTE, text)
        wrong = [name for name in receivers if name.startswith("owner/")]
        if audience == "provider" and wrong:
            text = (
                f"the page goes to {', '.join(wrong)} as well: give that route of "
                'alertmanager/alertmanager.yml the matcher drill=""'
            )
            raise Broken(Link.OWNER, text)
        compiled = Compiled(await self.alertmanager.configuration(), self.amtool or Path())
        routes = compiled.routes(alert["labels"]) if self.amtool else compiled.to(wanted)
        self.routes = [route for route in routes if route.receiver == wanted]
        self.channels[wanted] = {
            resolved: deliveries.channels(compiled.data, wanted, resolved)
            for resolved in (False, True)
        }
        if not self.channels[wanted][False]:
            name = wanted.partition("/")[2]
            text = f"{name} has no channel: give them one in people.yml, under notify"
            raise Broken(Link.CHANNEL, text)

    async def _check_muted(self, receiver: str) -> None:
        """What amtool knows beforehand of time intervals."""
        now = datetime.now(UTC)
        muted = [route.muted_by(now) for route in self.routes]
        if self.amtool and muted and all(muted):
            raise self._muted(muted, receiver)

    def _muted(self, names: list[str], receiver: str) -> Broken:
        return Broken(
            Link.HELD,
            f"the route to {receiver} does not send now, because of the time interval "
            f"{', '.join(dict.fromkeys(names))}: mend it in alertmanager/alertmanager.yml",
        )

    async def _check_courier(self) -> None:
        """Whoever is told without it needs it, too: it makes Alertmanager's file of people.yml."""

        async def runs() -> bool:
            return not await self.prometheus.instant('up{job="courier"} == 0')

        if not await self._until(runs, self.wish.patience):
            text = (
                "the courier does not answer: what people.yml says of people and their quiet times "
                "does not reach Alertmanager any more, nor anybody a message through Apprise; "
                "start it"
            )
            raise Broken(Link.COURIER, text)

    async def _held(self, alert: Mapping[str, Any], receiver: str) -> Broken | None:
        """What holds the message back. Raises it where that is longer than is waited."""
        status = alert["status"]
        # Newer Alertmanagers say so of a group, once they have looked at it.
        for group in await self.alertmanager.groups(alert["labels"]["alertname"]):
            for other in group["alerts"] if group["receiver"]["name"] == receiver else ():
                if other["fingerprint"] == alert["fingerprint"] and other["status"].get("mutedBy"):
                    raise self._muted(other["status"]["mutedBy"], receiver)
        if status["inhibitedBy"]:
            names = {
                other["labels"]["alertname"]
                for other in await self.alertmanager.alerts()
                if other["fingerprint"] in status["inhibitedBy"]
            }
            text = (
                f"Alertmanager holds it back while {', '.join(sorted(names))} fires: see to that "
                "first"
            )
            return Broken(Link.HELD, text)
        # The courier's own pauses, after a restart, are shorter than what is waited for.
        patient = datetime.now(UTC) + timedelta(seconds=self.wish.patience)
        for silence in await self.alertmanager.silences() if status["silencedBy"] else ():
            ends = datetime.fromisoformat(silence["endsAt"])
            if silence["id"] in status["silencedBy"] and ends > patient:
                text = (
                    f'a silence by {silence["createdBy"]} ("{silence["comment"]}") holds it back '
                    f"until {ends.astimezone():%Y-%m-%d %H:%M}: `dolcevita maintain "
                    f"{self.wish.site.name} --over` ends maintenance, Alertmanager's page any other"
                )
                raise Broken(Link.HELD, text)
        return None

    async def _taken(
        self,
        person: Person,
        receiver: str,
        wanted: Mapping[str, int],
        before: Counters,
        wait: float,
        held: Callable[[], Awaitable[Broken | None]],
    ) -> Counters:
        """Wait until all channels took a message; gives the counters of then.

        `wanted` says how many channels of each kind there are, `wait` how long Alertmanager
        gathers before it sends.
        """
        loop = asyncio.get_running_loop()
        sent_by = loop.time() + wait
        hangs = max([GIVEN_SECONDS, *(route.group_interval for route in self.routes)])
        while True:
            now = await self._counters()
            counts = {kind: now.since(before, kind, receiver) for kind in wanted}
            named = now.names_receivers()
            # Without its name a receiver's success is told from another's by what is under way:
            # all is done that had begun by the time at which this one must have. What begins and
            # has nothing to send is not done ever, but then a request that hangs has failed.
            sure = named or loop.time() > sent_by + 2 * POLL
            settled = loop.time() > sent_by + hangs
            missing = [
                kind
                for kind, count in wanted.items()
                if (found := counts[kind]).taken < count
                or not (named or found.taken >= found.started or (settled and not found.failed))
            ]
            if sure and not missing:
                return now
            why = await held()
            late = loop.time() > sent_by + max(self.wish.patience, hangs + 2 * POLL)
            if late and why:
                raise why
            if late or any(counts[kind].failed >= GIVE_UP for kind in missing):
                raise await self._not_taken(person, missing or list(wanted))
            await asyncio.sleep(POLL)

    # ---- What is broken ----------------------------------------------------------------------

    async def _not_scraped(self) -> Broken:
        targets = await self.insight.targets("sites")
        if not targets:
            text = (
                "Prometheus scrapes no sites: it has no job `sites` with the exporter's /sd "
                "(prometheus/prometheus.yml), or cannot ask there"
            )
            return Broken(Link.SCRAPE, text)
        for target in targets:
            if target["health"] == "down":
                text = f"Prometheus cannot scrape {target['scrapeUrl']}: {target['lastError']}"
                return Broken(Link.SCRAPE, text)
        return Broken(
            Link.SCRAPE,
            f"Prometheus scrapes {targets[0]['scrapeUrl']} and does not find the drill there: is "
            f"that the exporter on {self.exporter.url}?",
        )

    async def _not_evaluated(self, name: str, known: datetime) -> Broken:
        """Why the mark, which Prometheus has known since `known`, did not become an alert."""
        groups = await self.insight.rules()
        for group in groups:
            for rule in group["rules"]:
                if rule["name"] == name and rule.get("labels", {}).get("drill"):
                    if rule["health"] == "err":
                        text = f"Prometheus cannot evaluate {name}: {rule['lastError']}"
                        return Broken(Link.RULES, text)
                    last = datetime.fromisoformat(group["lastEvaluation"])
                    if last < known:
                        when = f" since {last.astimezone():%H:%M:%S}" if last.year > 1 else ""
                        text = (
                            f"Prometheus has not evaluated {name}{when}, and does so every "
                            f"{format_duration(group['interval'])}: see evaluation_interval of "
                            "prometheus/prometheus.yml, and its log"
                        )
                        return Broken(Link.RULES, text)
                    text = (
                        f"Prometheus evaluates {name}, but knows nothing of the site "
                        f"(site:info of rules/availability.yml): see {self.insight.url}/rules"
                    )
                    return Broken(Link.RULES, text)
        return Broken(
            Link.RULES,
            f"Prometheus evaluates no rule that would make {name} of it: rule_files of "
            f"prometheus/prometheus.yml gives {len(groups)} groups, without rules/drill.yml",
        )

    async def _not_sent(self) -> Broken:
        urls = await self.insight.alertmanagers()
        sent = f"sends alerts to {', '.join(urls)}" if urls else "sends alerts to no Alertmanager"
        return Broken(
            Link.ALERTMANAGER,
            f"Prometheus {sent}, and they do not arrive on {self.alertmanager.url}: see alerting "
            "in prometheus/prometheus.yml",
        )

    async def _not_taken(self, person: Person, kinds: list[str]) -> Broken:
        found = [channel for channel in person.notify if _integration(channel) in kinds]
        if any(channel.kind == "apprise" for channel in found):
            up = await self.prometheus.instant('up{job="courier"} == 1')
            if not up:
                text = (
                    f"the courier does not answer, through which {person.name} is told "
                    f"({_listed(person)}): start it"
                )
                return Broken(Link.COURIER, text)
        which = ", ".join(map(_shown, found)) or ", ".join(kinds)
        return Broken(
            Link.CHANNEL,
            f"{person.name} was not told: {which} does not take what Alertmanager sends; its log "
            "says why",
        )

    # ---- Odds and ends -----------------------------------------------------------------------

    def _people(self) -> dict[str, Person]:
        site = self.wish.site
        return {
            "provider": next(p for p in self.config.providers if p.name == site.provider),
            "owner": next(o for o in self.config.owners if o.name == site.owner),
        }

    def _elapsed(self) -> float:
        return asyncio.get_running_loop().time() - self.began

    def _tell_of(self, who: str, what: str) -> None:
        self.say(self._elapsed(), who, what)

    async def _until(self, ask: Callable[[], Awaitable[T]], seconds: float) -> T | None:
        """The first true answer, None when there was none in time."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not (answer := await ask()):
            if loop.time() >= deadline:
                return None
            await asyncio.sleep(POLL)
        return answer


async def _nothing() -> None:
    """Once it is over, nothing holds it back."""


def _integration(channel: Channel) -> str:
    """Alertmanager's name for the kind of a channel."""
    return {"apprise": "webhook"}.get(channel.kind, channel.kind.removesuffix("_configs"))


def _shown(channel: Channel) -> str:
    """A channel without its secrets, and where it is written."""
    where = f"({Path(channel.source).name.replace(':', ' line ')})"
    if channel.file or channel.kind not in ("email", "webhook"):
        return f"{channel.kind.removesuffix('_configs')} {where}"
    if channel.kind == "email":
        return f"email to {channel.value} {where}"
    parts = urlsplit(str(channel.value))
    return f"webhook at {parts.hostname}{f':{parts.port}' if parts.port else ''} {where}"


def _listed(person: Person) -> str:
    return ", ".join(map(_shown, person.notify))


def verdict(wish: Wish, told: float) -> str:
    """The one line at the end."""
    site = wish.site
    text = f"You can go: a page for {site.name} reaches {site.provider}, here within {told:.0f} s"
    if wish.tell_owner:
        return f"{text}, and {site.owner} can be told."
    again = f" The next drill is due in {format_duration(wish.every)}." if wish.every else ""
    return f"{text}, and {site.owner} was left in peace.{again}"
