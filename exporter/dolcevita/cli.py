"""The command line: each command a few lines over the part that does the work."""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from dolcevita import probes
from dolcevita.config import (
    Config,
    ConfigError,
    Owner,
    Site,
    UserError,
    did_you_mean,
    load,
    parse_duration,
)
from dolcevita.config.sites import check_url, parse_url
from dolcevita.config.status import load_status

app = typer.Typer(
    help="The monitoring stack that lets an independent enjoy dinner.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Sites = Annotated[Path, typer.Option(envvar="DOLCEVITA_SITES", help="What is watched.")]
People = Annotated[Path, typer.Option(envvar="DOLCEVITA_PEOPLE", help="Who is told, and when.")]
Base = Annotated[Path, typer.Option(help="The Alertmanager file that people.yml completes.")]
Templates = Annotated[
    str, typer.Option(help="The folder of the message templates, as Alertmanager sees it.")
]

Status = Annotated[
    Path,
    typer.Option(
        envvar="DOLCEVITA_STATUS", help="Pages of owners, maintenance and notes; may be missing."
    ),
]
PrometheusURL = Annotated[str, typer.Option(envvar="DOLCEVITA_PROMETHEUS_URL", help="URL")]
AlertmanagerURL = Annotated[str, typer.Option(envvar="DOLCEVITA_ALERTMANAGER_URL", help="URL")]

SITES = Path("sites.yml")
PEOPLE = Path("people.yml")
BASE = Path("alertmanager/alertmanager.yml")
STATUS = Path("status.yml")
PROMETHEUS = Path("prometheus/prometheus.yml")
EXPORTER_URL = "http://127.0.0.1:9714"
PROMETHEUS_URL = "http://127.0.0.1:9090"
ALERTMANAGER_URL = "http://127.0.0.1:9093"

MOST_EVERY = 60 * 86400.0
"""Seconds from one drill to the next; the rules look 90 days back."""

TIMEOUT = 10.0
"""Seconds for a URL that is not in sites.yml."""


@contextmanager
def user_errors() -> Iterator[None]:
    """A user's mistake is a sentence and exit code 1, never a traceback."""
    try:
        yield
    except UserError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


@app.command()
def init(
    site: Annotated[
        list[str] | None, typer.Option(metavar="URL", help="What to watch. May be given again.")
    ] = None,
    provider: Annotated[str | None, typer.Option(help="Who fixes it.")] = None,
    provider_notify: Annotated[
        list[str] | None,
        typer.Option(metavar="CHANNEL", help="A mail address, a webhook or an Apprise URL."),
    ] = None,
    provider_language: Annotated[str | None, typer.Option(help="en or fr")] = None,
    owner: Annotated[str | None, typer.Option(help="Who is left in peace.")] = None,
    owner_notify: Annotated[
        list[str] | None,
        typer.Option(metavar="CHANNEL", help="As of the provider. May be given again."),
    ] = None,
    owner_language: Annotated[str | None, typer.Option(help="en or fr")] = None,
    timezone: Annotated[str | None, typer.Option(help="Such as Europe/Paris.")] = None,
    quiet_hours: Annotated[str | None, typer.Option(help='Such as "19:00-09:00".')] = None,
    weekends: Annotated[
        bool | None, typer.Option("--weekends/--no-weekends", help="Whether they are quiet.")
    ] = None,
    public_holidays: Annotated[str | None, typer.Option(help="Of a country, such as FR.")] = None,
    away: Annotated[
        list[str] | None, typer.Option(help="Such as 2027-07-10..2027-07-25. May be given again.")
    ] = None,
    try_: Annotated[
        bool | None,
        typer.Option(
            "--try/--no-try", help="Send each channel a test message, or try nothing at all."
        ),
    ] = None,
    no_input: Annotated[bool, typer.Option("--no-input", help="Ask nothing.")] = False,
    sites: Sites = SITES,
    people: People = PEOPLE,
    base: Base = BASE,
) -> None:
    """Ask for sites, people and quiet times, try them, and write sites.yml and people.yml.

    What is given as an option is not asked for. Nothing is ever overwritten but the untouched
    examples that come with Dolce Vita. The exit code is 2 when something tried did not work.
    """
    from dolcevita.init import dialogue, files, run

    options = {
        "sites": site,
        "provider": provider,
        "provider_notify": provider_notify,
        "provider_language": provider_language,
        "owner": owner,
        "owner_notify": owner_notify,
        "owner_language": owner_language,
        "timezone": timezone,
        "quiet_hours": quiet_hours,
        "weekends": weekends,
        "public_holidays": public_holidays,
        "away": away,
    }
    given = {name: value for name, value in options.items() if value not in (None, [])}
    with user_errors():
        files.check_free(sites, people)
        try:
            answers = run.answered(given) if no_input else dialogue.ask(given)
            works = run.tried(answers, try_, not no_input, base)
            if not works and not no_input:
                typer.confirm("Write the files all the same?", default=True, abort=True)
        except typer.Abort:
            raise UserError("nothing was written") from None
        files.place(dict(zip((sites, people), answers.files(), strict=True)))
        typer.echo(f"wrote {sites} and {people}: edit them, the running stack follows")
    if not works:
        raise typer.Exit(2)


@app.command()
def up() -> None:
    """Run the whole stack in the foreground, in Docker where that works, else native."""
    from dolcevita.stack import up as stack

    with user_errors():
        stack.run()


@app.command()
def demo(
    auto: Annotated[
        bool, typer.Option("--auto", help="Crash and repair by itself, and end with the story.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="The page's port; any free one without it.")
    ] = 0,
) -> None:
    """Live the evening of 14 July in three minutes: the real stack, a shop, two phones."""
    from dolcevita.demo import run

    with user_errors():
        run.run(auto, port)


@app.command()
def serve(
    sites: Sites = SITES,
    people: People = PEOPLE,
    listen: Annotated[str, typer.Option(help="HOST:PORT")] = "127.0.0.1:9714",
    blackbox_config: Annotated[
        Path | None,
        typer.Option(help="blackbox_exporter's file, whose modules /probe?target= then has."),
    ] = None,
    allow_target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NETWORK-or-NAME",
            help="Answer /probe?target= for it: 10.0.0.0/8, www.example.com, *.example.com, "
            "or the folder of a unix socket. May be given again.",
        ),
    ] = None,
    allow_any_target: Annotated[
        bool,
        typer.Option(help="Answer it for all but link-local and cloud metadata addresses."),
    ] = False,
    status: Status = STATUS,
    prometheus: PrometheusURL = PROMETHEUS_URL,
    alertmanager: AlertmanagerURL = ALERTMANAGER_URL,
    external_url: Annotated[
        str,
        typer.Option(
            envvar="DOLCEVITA_EXTERNAL_URL",
            help="Where the provider reaches this exporter, for the links of pages.",
        ),
    ] = "",
) -> None:
    """Run the exporter."""
    from dolcevita.exporter import app as exporter
    from dolcevita.exporter.blackbox import allowed
    from dolcevita.pages.app import Sources

    with user_errors():
        host, port = _address(listen)
        targets = allowed.parse(allow_target or (), allow_any_target)
        sources = Sources(status, prometheus, alertmanager)
        external = _web_url("DOLCEVITA_EXTERNAL_URL", external_url) if external_url else ""
        exporter.run(sites, people, host, port, blackbox_config, targets, sources, external)


@app.command()
def courier(
    output: Annotated[Path, typer.Option(help="The compiled file that Alertmanager runs on.")],
    sites: Sites = SITES,
    people: People = PEOPLE,
    base: Base = BASE,
    templates: Templates = "",
    listen: Annotated[str, typer.Option(help="HOST:PORT")] = "127.0.0.1:9715",
    alertmanager: Annotated[str, typer.Option(help="URL")] = "http://127.0.0.1:9093",
    prometheus: Annotated[str, typer.Option(help="URL")] = "http://127.0.0.1:9090",
    folder: Annotated[
        Path, typer.Option(help="The folder of Prometheus' files.")
    ] = PROMETHEUS.parent,
    courier_url: Annotated[
        str,
        typer.Option(help="Where Alertmanager reaches the courier, if not at --listen."),
    ] = "",
    status: Status = STATUS,
) -> None:
    """Run the courier: follows the files, delivers through Apprise, watches Prometheus."""
    from dolcevita.courier import app as courier_app
    from dolcevita.courier.configuration import Files

    with user_errors():
        host, port = _address(listen)
        files = Files(sites, people, base, templates or _templates(base), output, folder, status)
        courier_app.run(files, alertmanager, prometheus, host, port, courier_url)


@app.command(name="compile")
def compile_(
    sites: Sites = SITES,
    people: People = PEOPLE,
    base: Base = BASE,
    templates: Templates = "",
    courier_url: Annotated[str, typer.Option(help="Where Alertmanager reaches the courier.")] = (
        "http://127.0.0.1:9715"
    ),
    output: Annotated[
        Path | None, typer.Option(help="Write here, for its owner only, instead of printing.")
    ] = None,
) -> None:
    """Turn people.yml and the base file into a plain Alertmanager file."""
    from dolcevita.alerting import compile as compiler

    with user_errors():
        config = _load(sites, people)
        now = datetime.now(UTC)
        text = compiler.compile(config, base, templates or _templates(base), courier_url, now)
        if output:
            _write(output, text)
        else:
            typer.echo(text, nl=False)


@app.command()
def check(
    sites: Sites = SITES, people: People = PEOPLE, base: Base = BASE, status: Status = STATUS
) -> None:
    """Validate the two files, the rules (promtool) and the compiled Alertmanager file (amtool)."""
    from dolcevita.alerting import compile as compiler
    from dolcevita.stack.packages import find_programs
    from dolcevita.stack.settings import read_settings

    with user_errors():
        settings = read_settings(Path(), os.environ)
        config = _load(sites, people)
        count = f"{len(config.sites)} site{'s' if len(config.sites) != 1 else ''}"
        typer.echo(f"{sites}: {count}")
        try:
            load(sites, people, probes.on_this_machine(), probes.PLANNED)
        except ConfigError as error:
            # The exporter may run elsewhere, as in Docker.
            for problem in error.problems:
                typer.echo(f"warning, for an exporter on this machine: {problem}", err=True)
        typer.echo(f"{people}: {_names(config)}")
        if status.exists():
            page = load_status(status, config.sites, config.owners)
            typer.echo(
                f"{status}: {len(page.pages)} pages, {len(page.maintenance)} of maintenance, "
                f"{len(page.notes)} notes"
            )
        text = compiler.compile(
            config, base, _templates(base), "http://127.0.0.1:9715", datetime.now(UTC)
        )
        if not PROMETHEUS.is_file():
            raise UserError(
                f"{PROMETHEUS}: no such file; it comes with Dolce Vita, whose folder is where "
                "to run this"
            )
        programs = find_programs(settings.data, typer.echo)
        compiler.check(text, programs.amtool, config, base)
        typer.echo(f"{base}: compiles, and amtool accepts it")
        result = subprocess.run(
            [programs.promtool, "check", "config", PROMETHEUS],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            raise UserError(f"{PROMETHEUS}: promtool refuses it:\n{result.stdout}{result.stderr}")
        rules = sum(int(n) for n in re.findall(r"(\d+) rules? found", result.stdout))
        typer.echo(f"{PROMETHEUS}: promtool accepts it and its {rules} rules")


@app.command()
def backup(
    archive: Annotated[
        Path | None, typer.Argument(help="The file to write; else one in backups/.")
    ] = None,
) -> None:
    """Back up a stack in Docker: history, delivery, Grafana, configuration, secrets."""
    from dolcevita.stack import backup as backups
    from dolcevita.stack.settings import read_settings

    with user_errors():
        backups.backup(read_settings(Path(), os.environ), archive, typer.echo)


@app.command()
def restore(
    archive: Annotated[Path, typer.Argument(help="What `dolcevita backup` wrote.")],
) -> None:
    """Put a backup into a stack in Docker that has no data yet."""
    from dolcevita.stack import backup as backups
    from dolcevita.stack.settings import read_settings

    with user_errors():
        backups.restore(read_settings(Path(), os.environ), archive, typer.echo)


@app.command()
def probe(
    target: Annotated[str, typer.Argument(metavar="NAME-or-URL")],
    sites: Sites = SITES,
    people: People = PEOPLE,
) -> None:
    """Probe a site of sites.yml, or any URL, once and tell what happened.

    The exit code is 0 when the site is well and 2 when it is not.
    """
    from dolcevita.exporter.terminal import render

    with user_errors():
        name, kind, wanted, budget = _target(target, sites, people)
        result = asyncio.run(probes.once(kind, wanted, budget))
    from rich.console import Console

    Console().print(render(name, wanted.url, result))
    if not (result.success and result.known):
        raise typer.Exit(2)


@app.command()
def whatif(
    site: Annotated[str, typer.Option(help="The site that goes down.")] = "",
    at: Annotated[
        str, typer.Option(help='When, such as "2027-07-14 20:13", on the owner\'s clock.')
    ] = "",
    down_for: Annotated[str, typer.Option(help="For how long, such as 40m.")] = "10m",
    next_weeks: Annotated[
        int, typer.Option(min=0, max=52, help="Show when people can be reached, so many weeks.")
    ] = 0,
    html: Annotated[
        Path | None, typer.Option(help="Write the weeks to this page instead of printing them.")
    ] = None,
    sites: Sites = SITES,
    people: People = PEOPLE,
    base: Base = BASE,
    status: Status = STATUS,
) -> None:
    """Tell who would be told what of an outage, when and how, and who would not, and why."""
    from dolcevita.alerting import compile as compiler
    from dolcevita.alerting import picture, terminal
    from dolcevita.alerting import whatif as simulation
    from dolcevita.alerting.routing import Compiled
    from dolcevita.stack.packages import find_programs
    from dolcevita.stack.settings import read_settings

    with user_errors():
        if not site and not next_weeks:
            raise UserError("nothing to tell: name a site with --site, or give --next-weeks")
        config = _load(sites, people)
        from rich.console import Console

        console = Console()
        if site:
            outage = simulation.parse(config, site, at, down_for)
            # What will be compiled by then: calendars reach two years from any day.
            then = load(sites, people, probes.KINDS, probes.PLANNED, outage.at.date())
            text = compiler.compile(then, base, "templates", "http://127.0.0.1:9715", outage.at)
            amtool = find_programs(read_settings(Path(), {}).data, typer.echo).amtool
            compiler.check(text, amtool, then, base)
            entries = simulation.timeline(
                outage,
                then,
                Compiled(text, amtool),
                simulation.evaluation_intervals(PROMETHEUS),
                load_status(status, then.sites, then.owners).maintenance,
            )
            zone = next(o.timezone for o in then.owners if o.name == outage.site.owner)
            console.print(terminal.render(outage, zone, entries))
        if next_weeks:
            now = datetime.now(UTC)
            text = compiler.compile(config, base, "templates", "http://127.0.0.1:9715", now)
            rows = picture.rows(config, Compiled(text, Path()).mutings, now, next_weeks)
            if html:
                _write(html, picture.html(rows, now), "--html")
                typer.echo(f"wrote {html}")
            else:
                console.print(picture.text(rows))


@app.command()
def report(
    owner: Annotated[str, typer.Option(help="Whose month; the only owner's without it.")] = "",
    month: Annotated[
        str, typer.Option(help="Such as 2027-07; without it, the month that was over last.")
    ] = "",
    format_: Annotated[
        str, typer.Option("--format", help="html, markdown or json; else as --output ends.")
    ] = "",
    output: Annotated[
        Path | None, typer.Option(help="Write here (.html, .md, .json) instead of printing.")
    ] = None,
    sites: Sites = SITES,
    people: People = PEOPLE,
    prometheus: PrometheusURL = PROMETHEUS_URL,
) -> None:
    """Tell how an owner's sites fared in a month: availability, incidents, answer times."""
    from dolcevita import report as reports

    with user_errors():
        config = _load(sites, people)
        chosen = _owner(config, owner, people)
        wanted = format_ or (reports.format_of(output) if output else "") or "markdown"
        if wanted not in reports.FORMATS:
            expected = f"expected one of: {', '.join(reports.FORMATS)}"
            raise UserError(f"--format: found '{wanted}', {expected}")
        now = datetime.now(UTC).timestamp()
        first = reports.parse_month(month) if month else reports.last_month(chosen, now)
        found = asyncio.run(reports.asked(config, chosen, first, prometheus, now))
        text = reports.FORMATS[wanted](found)
        if output:
            _write(output, text)
            typer.echo(f"wrote {output}")
        else:
            typer.echo(text, nl=False)


@app.command()
def maintain(
    name: Annotated[str, typer.Argument(metavar="SITE-or-HOST", help="What is worked on.")],
    for_: Annotated[str, typer.Option("--for", help="For how long, such as 2h.")] = "",
    because: Annotated[str, typer.Option(help="What for; visitors of the page read it.")] = "",
    from_: Annotated[
        str, typer.Option("--from", help='When, such as "2027-07-10 22:00"; now without it.')
    ] = "",
    not_counted: Annotated[
        bool, typer.Option("--not-counted", help="Leave the time out of the availability.")
    ] = False,
    over: Annotated[bool, typer.Option("--over", help="It is over: alerts count again.")] = False,
    sites: Sites = SITES,
    people: People = PEOPLE,
    alertmanager: AlertmanagerURL = ALERTMANAGER_URL,
) -> None:
    """Tell that a site, or all sites of a host, may be down for a while: nobody is paged."""
    from dolcevita.courier import maintenance

    with user_errors():
        config = _load(sites, people)
        works = maintenance.parse(config, name, for_ or "1s", because, from_, not not_counted)
        if over:
            ended = asyncio.run(maintenance.end(alertmanager, works.label, works.value))
            if not ended:
                raise UserError(f"{name}: no maintenance is known that was begun by hand")
            typer.echo(f"{name}: maintenance is over")
            return
        if not for_ or not because:
            missing = "--for 2h" if not for_ else '--because "new theme"'
            raise UserError(f"maintain: say also {missing}, or --over to end one")
        asyncio.run(maintenance.begin(alertmanager, works))
        typer.echo(f"{name}: {works.label} in maintenance, {maintenance.told(config, works)}")


@app.command()
def drill(
    name: Annotated[str, typer.Argument(metavar="SITE", help="Whose provider is paged.")],
    tell_owner: Annotated[
        bool, typer.Option("--tell-owner", help="Send the owner a test message as well, now.")
    ] = False,
    every: Annotated[
        str,
        typer.Option(help="By when the next drill is to pass, such as 7d, or never."),
    ] = "",
    patience: Annotated[
        str, typer.Option(help="How long a step may take beyond what is configured.")
    ] = "20s",
    sites: Sites = SITES,
    people: People = PEOPLE,
    exporter: Annotated[
        str, typer.Option(envvar="DOLCEVITA_EXPORTER_URL", help="URL")
    ] = EXPORTER_URL,
    prometheus: PrometheusURL = PROMETHEUS_URL,
    alertmanager: AlertmanagerURL = ALERTMANAGER_URL,
) -> None:
    """Prove on the live stack that a page for a site reaches its provider: may one go?

    The exit code is 0 when it does, and else says which link is broken: docs/drill.md.
    """
    from dolcevita.alerting import compile as compiler
    from dolcevita.drill import follow
    from dolcevita.drill.links import Broken

    def say(seconds: float, who: str, what: str) -> None:
        typer.echo(f"{seconds:6.1f} s  {who:<12}  {what}")

    with user_errors():
        config = _load(sites, people)
        wish = follow.Wish(
            _watched(config, name, sites),
            tell_owner,
            _every(every),
            _seconds("--patience", patience),
        )
        servers = follow.Servers(exporter, prometheus, alertmanager)
        try:
            told = follow.run(config, wish, servers, _amtool(compiler.find_amtool()), say)
        except Broken as broken:
            typer.echo(f"Do not go yet: {broken}.", err=True)
            raise typer.Exit(broken.link) from None
        if isinstance(told, signal.Signals):
            typer.echo("Interrupted: the drill is over, nothing is proven.", err=True)
            raise typer.Exit(128 + told)
        typer.echo(follow.verdict(wish, told))


def _watched(config: Config, name: str, sites: Path) -> Site:
    """The site of that name whose outages page somebody. Raises UserError."""
    by_name = {site.name: site for site in config.sites if not site.sentinel}
    if name not in by_name:
        raise UserError(f"{sites}: no site is named '{name}': {did_you_mean(name, by_name)}")
    return by_name[name]


def _every(text: str) -> float | None:
    if text in ("", "never"):
        return 0.0 if text else None
    if (seconds := _seconds("--every", text)) > MOST_EVERY:
        raise UserError(
            f"--every: found '{text}', expected at most 60d: older drills are forgotten"
        )
    return seconds


def _seconds(option: str, text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UserError(f"{option}: found '{text}', {error}") from None


def _amtool(on_path: Path | None) -> Path | None:
    """amtool of the PATH or of the unpacked packages, None where there is none."""
    from dolcevita.stack.settings import read_settings

    unpacked = read_settings(Path(), os.environ).data / "packages/bin/amtool"
    return on_path or (unpacked if unpacked.exists() else None)


def _owner(config: Config, name: str, people: Path) -> Owner:
    """The owner of that name, or the only one."""
    by_name = {owner.name: owner for owner in config.owners}
    if name in by_name:
        return by_name[name]
    if name:
        raise UserError(f"{people}: no owner is named '{name}': {did_you_mean(name, by_name)}")
    if len(by_name) > 1:
        raise UserError(f"--owner: {people} has several: {did_you_mean('', by_name)}")
    return config.owners[0]


def _target(
    text: str, sites: Path, people: Path
) -> tuple[str, probes.Kind, probes.Target[Any, Any], float]:
    """(name, kind, target, budget in seconds) of a site, or of a URL that is in no file."""
    is_url = "://" in text
    kinds = probes.on_this_machine()
    configured = _load(sites, people, kinds).sites if sites.exists() or not is_url else ()
    for site in configured:
        if text in (site.name, site.url) and (kind := probes.kind_of(site.url)):
            wanted: probes.Target[Any, Any] = probes.Target(site.url, site.options, site.expect)
            return site.name, kind, wanted, site.timeout
    if not is_url:
        names = [site.name for site in configured]
        raise UserError(f"{sites}: no site is named '{text}': {did_you_mean(text, names)}")
    try:
        kind = kinds[check_url(text, kinds).scheme]
    except ValueError as error:
        raise UserError(f"NAME-or-URL: {error}") from None
    return text, kind, probes.Target(text, kind.options(), kind.expect()), TIMEOUT


def _load(sites: Path, people: Path, kinds: Mapping[str, probes.Kind] = probes.KINDS) -> Config:
    """Both files, with their warnings told. Raises ConfigError."""
    config = load(sites, people, kinds, probes.PLANNED)
    for warning in config.warnings:
        typer.echo(f"warning: {warning}", err=True)
    return config


def _names(config: Config) -> str:
    owners = ", ".join(owner.name for owner in config.owners)
    providers = ", ".join(provider.name for provider in config.providers)
    return f"owners {owners}; providers {providers}"


def _templates(base: Path) -> str:
    return str((base.parent / "templates").absolute())


def _write(path: Path, text: str, option: str = "--output") -> None:
    from dolcevita.alerting import compile as compiler

    if path.is_dir():
        raise UserError(f"{option}: {path} is a folder, expected the name of a file")
    try:
        compiler.write(path, text)
    except OSError as error:
        raise UserError(f"{option}: {path} cannot be written: {error.strerror}") from None


def _web_url(option: str, text: str) -> str:
    """Raises UserError."""
    try:
        parse_url(text, ["http", "https"])
    except ValueError as error:
        raise UserError(f"{option}: {error}") from None
    return text


def _address(listen: str) -> tuple[str, int]:
    """('HOST:PORT') to both. Raises UserError."""
    try:
        url = parse_url(f"http://{listen}", ["http"])
    except ValueError:
        url = None
    if url is None or url.netloc != listen or not (url.hostname and url.port):
        raise UserError(
            f"--listen: found '{listen}', expected HOST:PORT such as 127.0.0.1:9714 or [::1]:9714"
        )
    return url.hostname, url.port
