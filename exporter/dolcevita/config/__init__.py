"""The two files a user edits, read, validated and joined."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from dolcevita.config.model import Duration, Strict, format_duration, one_or_many, parse_duration
from dolcevita.config.people import Channel, Escalation, Owner, PeopleReader, Person, Provider
from dolcevita.config.problems import ConfigError, Problem, UserError, did_you_mean
from dolcevita.config.quiet import Quiet
from dolcevita.config.sites import HERE, KindModels, Site, SitesReader

__all__ = [
    "HERE",
    "Channel",
    "Config",
    "ConfigError",
    "Duration",
    "Escalation",
    "KindModels",
    "Owner",
    "Person",
    "Problem",
    "Provider",
    "Quiet",
    "Site",
    "Strict",
    "UserError",
    "did_you_mean",
    "format_duration",
    "load",
    "one_or_many",
    "parse_duration",
]


@dataclass(frozen=True, slots=True)
class Config:
    """sites.yml and people.yml together, in file order, with what deserves a warning.

    `places` are the addresses of the exporters by place, none where this one is the only one.
    """

    sites: tuple[Site, ...]
    owners: tuple[Owner, ...]
    providers: tuple[Provider, ...]
    warnings: tuple[Problem, ...] = ()
    watchdog: Channel | None = None
    places: Mapping[str, str] = field(default_factory=dict)

    def calendars(self) -> tuple[Path, ...]:
        """The files and folders whose edits are edits of people.yml as well."""
        times = [owner.quiet for owner in self.owners] + [who.off for who in self.providers]
        return tuple(dict.fromkeys(path for quiet in times if quiet for path in quiet.files))


def load(
    sites: Path,
    people: Path,
    kinds: Mapping[str, KindModels],
    planned: Collection[str] = (),
    today: date | None = None,
) -> Config:
    """Read both files; `kinds` maps a URL's scheme to the models of its prober.

    Schemes in `planned` load with a warning and are not watched. Raises ConfigError with the
    problems of both files.
    """
    people_reader = PeopleReader(people, today or date.today())
    problems: tuple[Problem, ...] = ()
    files: tuple[Path, ...] = ()
    owners: tuple[Owner, ...] = ()
    providers: tuple[Provider, ...] = ()
    try:
        owners, providers = people_reader.read()
    except ConfigError as error:
        problems, files = error.problems, error.files
    sites_reader = SitesReader(
        sites, kinds, planned, tuple(o.name for o in owners), tuple(p.name for p in providers)
    )
    try:
        watched = sites_reader.read()
    except ConfigError as error:
        problems = (*error.problems, *problems)
    if problems:
        raise ConfigError(problems, files)
    warnings = (*sites_reader.warnings, *people_reader.warnings)
    watchdog, places = people_reader.watchdog, sites_reader.places
    return Config(watched, owners, providers, warnings, watchdog, places)
