"""From what the command line gives to answers that were tried, told line by line."""

import asyncio
from pathlib import Path
from typing import Any

import typer

from dolcevita import probes
from dolcevita.config import Config, ConfigError, Person, Site, UserError
from dolcevita.init import trial
from dolcevita.init.answers import Answers, read
from dolcevita.init.dialogue import fault, machine_zone

NEEDED = {
    "sites": "--site",
    "provider_notify": "--provider-notify",
    "owner_notify": "--owner-notify",
}


def answered(given: dict[str, Any]) -> Answers:
    """The answers of the command line alone. Raises UserError for one that is missing or wrong."""
    missing = [option for name, option in NEEDED.items() if name not in given]
    if missing:
        raise UserError(f"say also {', '.join(missing)}, or leave out --no-input to be asked")
    for name, value in given.items():
        if problem := fault(name, value):
            raise UserError(f"--{NEEDED.get(name, name).lstrip('-').replace('_', '-')}: {problem}")
    return Answers(**{"timezone": machine_zone(), **given})


def tried(answers: Answers, wanted: bool | None, asking: bool, base: Path) -> bool:
    """Probe the sites and, with consent, send each channel a test; whether all of it works.

    `wanted` is what --try and --no-try say. Raises UserError for answers that do not go together.
    """
    try:
        config = read(answers)
    except ConfigError as error:
        raise UserError("; ".join(problem.message for problem in error.problems)) from None
    if wanted is False:
        return True
    works = [_probed(site) for site in config.sites]
    people: tuple[Person, ...] = (*config.providers, *config.owners)
    for person in people:
        works += _told(config, person, wanted, asking, base)
    return all(works)


def _probed(site: Site) -> bool:
    kind = probes.kind_of(site.url)
    if kind is None:
        return True
    target: probes.Target[Any, Any] = probes.Target(site.url, site.options, site.expect)
    result = asyncio.run(probes.once(kind, target, site.timeout))
    if not result.known:
        typer.echo(f"{site.name}: not known yet")
        return True
    verdict = f"is well, after {result.duration:.2f} s"
    if not result.success:
        verdict = f"is not well: {result.detail or result.reason}"
    typer.echo(f"{site.name}: {verdict}")
    return result.success


def _told(
    config: Config, person: Person, wanted: bool | None, asking: bool, base: Path
) -> list[bool]:
    works = []
    for number, channel in enumerate(person.notify, 1):
        what = f"{channel.kind} {number} of {person.name}"
        if wanted or (
            asking and typer.confirm(f"Send a test message by {what} now?", default=True)
        ):
            refusal = trial.deliver(channel, trial.message(config, person), base)
            typer.echo(f"{what}: {f'does not work: {refusal}' if refusal else 'took it'}")
            works.append(not refusal)
    return works
