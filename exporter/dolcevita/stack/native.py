"""The stack as plain processes of this machine: what is checked first, then what is started."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import yaml

from dolcevita import probes
from dolcevita.alerting import compile as alertmanager
from dolcevita.config import Config, UserError, load
from dolcevita.stack import checks
from dolcevita.stack.journal import Journal
from dolcevita.stack.packages import Programs, find_programs
from dolcevita.stack.settings import Settings
from dolcevita.stack.supervisor import Component

PROMETHEUS_FLAGS = (
    "--storage.tsdb.retention.time=400d",
    "--web.enable-lifecycle",
    "--rules.alert.resend-delay=30s",
)
# The interval between snapshots: what a SIGKILL may lose of the notification log, and so what
# might be told twice.
ALERTMANAGER_FLAGS = (
    "--data.retention=1080h",
    "--data.maintenance-interval=250ms",
    "--cluster.listen-address=",
)
# Waits for Prometheus to send every alert again, so that a group is whole when it is told.
# Newer Alertmanagers have it.
START_DELAY_FLAG = "--dispatch.start-delay=30s"
# Which receiver a delivery was for, so that a failing one can be named. Newer ones have it too.
RECEIVER_FEATURE = "receiver-name-in-metrics"

# The names and ports that the components have inside the compose file's network, which
# prometheus.yml names.
COMPOSE_PORTS: Mapping[str, int] = {
    "exporter": 9714,
    "courier": 9715,
    "prometheus": 9090,
    "alertmanager": 9093,
    "grafana": 3000,
}


def prepare(
    settings: Settings,
    config: Config,
    compiled_text: str,
    say: Callable[[str], None],
    programs: Programs | None = None,
) -> list[Component]:
    """Check everything that a start needs, write the generated files, and list what to start.

    `config` is what people.yml and sites.yml say, `compiled_text` the Alertmanager file of it;
    `programs` are looked for where they are not given. Raises UserError with one line for
    each problem; nothing runs then.
    """
    load(settings.sites, settings.people, probes.on_this_machine(), probes.PLANNED)
    grafana = shutil.which("grafana") or shutil.which("grafana-server")
    components = [name for name in settings.ports if name != "grafana" or grafana]
    if problems := [*checks.taken_ports(settings, components)]:
        raise UserError("\n".join(problems))
    programs = programs or find_programs(settings.data, say)
    alertmanager.check(compiled_text, programs.amtool, config, settings.alertmanager_base)
    _promtool_check(settings, programs)
    compiled = settings.compiled
    alertmanager.write_with_links(compiled, compiled_text, checks.pages(settings, config))
    write_prometheus_config(settings)
    started = [
        _exporter(settings),
        _courier(settings, programs, compiled),
        _alertmanager(settings, programs, compiled),
        _prometheus(settings, programs),
    ]
    if grafana:
        started.append(_grafana(settings, Path(grafana)))
    else:
        say("no grafana on the PATH: Grafana is skipped")
    return started


def _promtool_check(settings: Settings, programs: Programs) -> None:
    """Raises UserError with promtool's own words."""
    result = subprocess.run(
        [programs.promtool, "check", "config", settings.prometheus_config],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        words = " ".join((result.stderr or result.stdout).split()).removeprefix("FAILED: ")
        raise UserError(f"{settings.shown(settings.prometheus_config)}: promtool says: {words}")


def _exporter(settings: Settings) -> Component:
    return Component(
        "exporter",
        (
            *_dolcevita("serve"),
            *("--listen", f"127.0.0.1:{settings.ports['exporter']}"),
            *("--sites", str(settings.sites)),
            *("--people", str(settings.people)),
            *("--status", str(settings.status)),
            *("--prometheus", settings.url("prometheus")),
            *("--alertmanager", settings.url("alertmanager")),
        ),
        settings.health("exporter"),
        {
            "DOLCEVITA_DATA": str(settings.data),
            "DOLCEVITA_EXTERNAL_URL": settings.external_url,
        },
    )


def _courier(settings: Settings, programs: Programs, compiled: Path) -> Component:
    return Component(
        "courier",
        (
            *_dolcevita("courier"),
            *("--listen", f"127.0.0.1:{settings.ports['courier']}"),
            *("--alertmanager", settings.url("alertmanager")),
            *("--prometheus", settings.url("prometheus")),
            *("--output", str(compiled)),
        ),
        settings.health("courier"),
        {
            "DOLCEVITA_SITES": str(settings.sites),
            "DOLCEVITA_PEOPLE": str(settings.people),
            "DOLCEVITA_STATUS": str(settings.status),
            "PATH": f"{programs.amtool.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        },
    )


def _alertmanager(settings: Settings, programs: Programs, compiled: Path) -> Component:
    help_text = subprocess.run(
        [programs.alertmanager, "--help"], capture_output=True, text=True, check=False
    )
    flags = list(ALERTMANAGER_FLAGS)
    if START_DELAY_FLAG.partition("=")[0] in help_text.stdout + help_text.stderr:
        flags.append(START_DELAY_FLAG)
    if RECEIVER_FEATURE in help_text.stdout + help_text.stderr:
        flags.append(f"--enable-feature={RECEIVER_FEATURE}")
    return Component(
        "alertmanager",
        (
            str(programs.alertmanager),
            f"--config.file={compiled}",
            f"--storage.path={settings.data / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{settings.ports['alertmanager']}",
            *flags,
        ),
        settings.health("alertmanager"),
    )


def _prometheus(settings: Settings, programs: Programs) -> Component:
    return Component(
        "prometheus",
        (
            str(programs.prometheus),
            f"--config.file={settings.data / 'prometheus.yml'}",
            f"--storage.tsdb.path={settings.data / 'prometheus'}",
            f"--web.listen-address=127.0.0.1:{settings.ports['prometheus']}",
            *PROMETHEUS_FLAGS,
        ),
        settings.health("prometheus"),
    )


def _grafana(settings: Settings, program: Path) -> Component:
    """Grafana needs to know its installation: a package's share folder, or the archive it is in."""
    packaged = Path("/usr/share/grafana")
    home = packaged if packaged.is_dir() else program.resolve().parent.parent
    data = settings.data / "grafana"
    command = (str(program), "server") if program.name == "grafana" else (str(program),)
    return Component(
        "grafana",
        (*command, f"--homepath={home}"),
        settings.health("grafana"),
        {
            "GF_PATHS_DATA": str(data),
            "GF_PATHS_LOGS": str(data / "log"),
            "GF_PATHS_PLUGINS": str(data / "plugins"),
            "GF_PATHS_PROVISIONING": str(settings.folder / "grafana/provisioning"),
            "GF_SERVER_HTTP_ADDR": "127.0.0.1",
            "GF_SERVER_HTTP_PORT": str(settings.ports["grafana"]),
            "GF_AUTH_ANONYMOUS_ENABLED": "true",
            "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
            "GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION": "true",
            "GF_ANALYTICS_REPORTING_ENABLED": "false",
            "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
            "PROMETHEUS_URL": settings.url("prometheus"),
            "DASHBOARDS": str(settings.dashboards),
            "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": str(settings.dashboards / "overview.json"),
        },
    )


def _dolcevita(command: str) -> tuple[str, ...]:
    return (str(Path(sys.executable).with_name("dolcevita")), command)


def write_prometheus_config(settings: Settings) -> None:
    """prometheus.yml as a native Prometheus needs it, into the data folder.

    A file that is no YAML goes as it stands, for Prometheus itself to refuse: that keeps the last
    good configuration running, and `prometheus_config_last_reload_successful` tells of it.
    """
    text = settings.prometheus_config.read_text(encoding="utf-8", errors="replace")
    with suppress(yaml.YAMLError):
        text = native_prometheus_config(text, settings)
    target = settings.data / "prometheus.yml"
    scratch = target.with_suffix(".new")
    scratch.write_text(text, encoding="utf-8")
    scratch.replace(target)


def native_prometheus_config(text: str, settings: Settings) -> str:
    """`text` with the compose file's host names as local addresses, and absolute paths."""
    addresses = {
        f"{component}:{port}": f"127.0.0.1:{settings.ports[component]}"
        for component, port in COMPOSE_PORTS.items()
    }
    addresses[f"localhost:{COMPOSE_PORTS['prometheus']}"] = addresses[
        f"prometheus:{COMPOSE_PORTS['prometheus']}"
    ]
    config = _rewritten(yaml.safe_load(text), "", addresses, settings.prometheus_config.parent)
    return (
        f"# Generated from {settings.prometheus_config} by dolcevita up; edit that file.\n"
        + yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    )


def _rewritten(node: Any, key: str, addresses: Mapping[str, str], folder: Path) -> Any:
    """A copy of a YAML tree; `key` is the nearest mapping key above `node`.

    Prometheus takes relative paths from the folder of its configuration file, in the keys
    rule_files, scrape_config_files, files and those that end in _file.
    """
    match node:
        case dict():
            return {k: _rewritten(v, str(k), addresses, folder) for k, v in node.items()}
        case list():
            return [_rewritten(item, key, addresses, folder) for item in node]
        case str() if key in ("rule_files", "scrape_config_files", "files") or key.endswith(
            "_file"
        ):
            return str(folder / node)
        case str() if "://" in node:
            parts = urlsplit(node)
            return urlunsplit(parts._replace(netloc=addresses.get(parts.netloc, parts.netloc)))
        case str():
            return addresses.get(node, node)
        case _:
            return node


async def follow_prometheus_config(settings: Settings, journal: Journal) -> None:
    """Whenever the user's prometheus.yml changes, generate it anew and have it loaded."""
    seen = _signature(settings.prometheus_config)
    timeout = aiohttp.ClientTimeout(total=5)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        while True:
            await asyncio.sleep(1)
            now = _signature(settings.prometheus_config)
            if now == seen or now is None:
                continue
            try:
                write_prometheus_config(settings)
                async with session.post(f"{settings.url('prometheus')}/-/reload") as answer:
                    refused = await answer.text() if answer.status != 200 else ""
            except (OSError, aiohttp.ClientError, TimeoutError):
                continue
            seen = now
            name = settings.shown(settings.prometheus_config)
            journal.say(f"{name}: {refused.strip() or 'loaded again'}")


def _signature(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
