"""The variables that place the stack (files, ports, runtime), each default written once."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dolcevita.config import UserError

DEFAULTS: Mapping[str, str] = {
    "DOLCEVITA_SITES": "sites.yml",
    "DOLCEVITA_PEOPLE": "people.yml",
    "DOLCEVITA_STATUS": "status.yml",
    "DOLCEVITA_DATA": ".stack",
    "DOLCEVITA_RUNTIME": "auto",
    "DOLCEVITA_EXTERNAL_URL": "",
    "EXPORTER_PORT": "9714",
    "COURIER_PORT": "9715",
    "PROMETHEUS_PORT": "9090",
    "ALERTMANAGER_PORT": "9093",
    "GRAFANA_PORT": "3000",
    "GRAFANA_LANGUAGE": "en",
}

HEALTH: Mapping[str, str] = {
    "exporter": "/-/healthy",
    "courier": "/-/healthy",
    "prometheus": "/-/ready",
    "alertmanager": "/-/ready",
    "grafana": "/api/health",
}

RUNTIMES = ("auto", "native", "docker")
LANGUAGES = ("en", "fr")
"""Those of the dashboards: each has a folder in grafana/dashboards."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Where everything is. Paths are absolute; `ports` has a key for each component.

    `external_url` is where others reach the exporter, '' where nobody said.
    """

    folder: Path
    sites: Path
    people: Path
    status: Path
    data: Path
    runtime: str
    external_url: str
    language: str
    ports: Mapping[str, int]

    @property
    def prometheus_config(self) -> Path:
        return self.folder / "prometheus/prometheus.yml"

    @property
    def alertmanager_base(self) -> Path:
        return self.folder / "alertmanager/alertmanager.yml"

    @property
    def compiled(self) -> Path:
        """What Alertmanager runs on."""
        return self.data / "alertmanager.yml"

    @property
    def dashboards(self) -> Path:
        return self.folder / "grafana/dashboards" / self.language

    @property
    def templates(self) -> Path:
        return self.folder / "alertmanager/templates"

    def url(self, component: str) -> str:
        """Where a component answers, without a slash at the end."""
        return f"http://127.0.0.1:{self.ports[component]}"

    def health(self, component: str) -> str:
        """The URL that answers 200 when a component is well."""
        return self.url(component) + HEALTH[component]

    def shown(self, path: Path) -> str:
        """A path as the user would type it in the project's folder."""
        return str(path.relative_to(self.folder) if path.is_relative_to(self.folder) else path)


def read_settings(folder: Path, environ: Mapping[str, str]) -> Settings:
    """Settings from `environ`, else from `folder`/.env, else the defaults.

    Raises UserError naming the variable, what was found and what was expected.
    """
    folder = folder.absolute()
    values = {**DEFAULTS, **_read_env_file(folder / ".env"), **_ours(environ)}
    for variable, choices in (("DOLCEVITA_RUNTIME", RUNTIMES), ("GRAFANA_LANGUAGE", LANGUAGES)):
        if values[variable] not in choices:
            raise UserError(
                f"{variable} is '{values[variable]}', expected one of: {', '.join(choices)}"
            )
    ports: dict[str, int] = {}
    for variable in (name for name in DEFAULTS if name.endswith("_PORT")):
        port = _port(variable, values[variable])
        for component, other in ports.items():
            if other == port:
                raise UserError(
                    f"{variable} and {component.upper()}_PORT are both {port}: "
                    "give each component a port of its own"
                )
        ports[variable.removesuffix("_PORT").lower()] = port
    return Settings(
        folder=folder,
        sites=folder / values["DOLCEVITA_SITES"],
        people=folder / values["DOLCEVITA_PEOPLE"],
        status=folder / values["DOLCEVITA_STATUS"],
        data=folder / values["DOLCEVITA_DATA"],
        runtime=values["DOLCEVITA_RUNTIME"],
        external_url=values["DOLCEVITA_EXTERNAL_URL"],
        language=values["GRAFANA_LANGUAGE"],
        ports=ports,
    )


def _ours(values: Mapping[str, str]) -> dict[str, str]:
    """The variables of the stack; an empty one counts as not set, as it does for Compose."""
    return {name: values[name] for name in DEFAULTS if values.get(name)}


def _read_env_file(path: Path) -> dict[str, str]:
    """The variables of the stack in Compose's .env file: NAME=value lines, comments, quotes."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path.name}: cannot be read: {error}") from None
    values: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.fullmatch(
            r"\s*(?:export\s+)?(\w+)\s*=\s*(?:'([^']*)'|\"([^\"]*)\"|(.*?))(?:\s+#.*)?\s*", line
        )
        if not match:
            raise UserError(f"{path.name}:{number}: found '{line.strip()}', expected NAME=value")
        values[match[1]] = match[2] or match[3] or match[4] or ""
    return _ours(values)


def _port(variable: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 65535):
        raise UserError(f"{variable} is '{value}', expected a port number from 1 to 65535")
    return int(value)
