"""What must be in order before anything starts, whatever the stack then runs in."""

import os
import socket
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime

from dolcevita import probes
from dolcevita.alerting import compile as alertmanager
from dolcevita.config import Config, load
from dolcevita.config.status_file import StatusFile
from dolcevita.stack.settings import Settings


def missing_files(settings: Settings) -> Iterator[str]:
    """A sentence for each file that the stack cannot do without and that is not there."""
    for variable, path in (
        ("DOLCEVITA_SITES", settings.sites),
        ("DOLCEVITA_PEOPLE", settings.people),
    ):
        if not path.is_file():
            yield f"{settings.shown(path)}: no such file; create it, or name another in {variable}"
    for path in (settings.prometheus_config, settings.alertmanager_base):
        if not path.is_file():
            yield (
                f"{settings.shown(path)}: no such file; it comes with Dolce Vita, whose folder "
                "is where to run this"
            )


def taken_ports(settings: Settings, components: Collection[str]) -> Iterator[str]:
    """A sentence for each port of `components` that cannot be listened on."""
    for component in components:
        port = settings.ports[component]
        with socket.socket() as probe:
            # As the components do: a port whose last connections are still closing is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError as error:
                yield (
                    f"port {port} of 127.0.0.1, meant for {component}, cannot be used "
                    f"({os.strerror(error.errno or 0).lower()}): stop what holds it, or set "
                    f"{component.upper()}_PORT to another one"
                )


def compiled_alertmanager(settings: Settings) -> tuple[Config, str]:
    """sites.yml and people.yml as loaded, and the Alertmanager file for a native stack.

    Raises ConfigError with every problem found.
    """
    config = load(settings.sites, settings.people, probes.KINDS, probes.PLANNED)
    text = alertmanager.compile(
        config,
        settings.alertmanager_base,
        settings.templates,
        settings.url("courier"),
        datetime.now(UTC),
        pages(settings, config),
        alertmanager.reports_beside(settings.compiled),
    )
    return config, text


def pages(settings: Settings, config: Config) -> Mapping[str, str]:
    """The addresses of owners' pages, as far as status.yml can be read."""
    return StatusFile(settings.status).look(config).addresses
