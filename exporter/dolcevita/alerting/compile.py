"""people.yml and the base file compiled into the plain file that Alertmanager runs on."""

import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from dolcevita.alerting.calendar import intervals
from dolcevita.alerting.receivers import KINDS_SINCE, Role, receiver, sign_of_life
from dolcevita.config import (
    Channel,
    Config,
    ConfigError,
    Owner,
    Person,
    Problem,
    Provider,
    UserError,
    did_you_mean,
)
from dolcevita.config.source import Source, Where, read

PROVIDER_ROLES = {"provider": False, "provider:warnings": True}
"""Receiver of the base file: whether it waits for a provider's working hours."""

OWNER_ROLES: dict[str, Callable[[Owner], tuple[bool, bool]]] = {
    "owner:resolved": lambda owner: ("resolved" in owner.hears, True),
    "owner:drill": lambda owner: (True, False),
    "owner:down": lambda owner: ("down" in owner.hears, True),
    "owner:warnings": lambda owner: ("warnings" in owner.hears, True),
    "owner:report": lambda owner: ("report" in owner.hears, True),
    "owner:overdue": lambda owner: (owner.overdue_after is not None, not owner.overdue_wakes),
}
"""Receiver of the base file: whether an owner hears it, and whether quiet time mutes it."""

WATCHDOG = "watchdog"
ROLES = (*PROVIDER_ROLES, *OWNER_ROLES, WATCHDOG)
NOBODY = "nobody"
AMTOOL_SECONDS = 30

LINKS = "links.tmpl"
"""A template beside the compiled file. Alertmanager shows its configuration to whoever asks, its
templates to nobody."""

REPORTS = "reports.tmpl"
"""Another one, with the pages of reports that are to be mailed (dolcevita.courier.reports)."""


def compile(
    config: Config,
    base: Path,
    templates: str | Path,
    courier_url: str,
    now: datetime,
    pages: Mapping[str, str] = {},
    reports: str = "",
) -> str:
    """The text of a file that `amtool check-config` accepts.

    `templates` is the folder of the message templates as Alertmanager sees it, `courier_url`
    where Alertmanager reaches the courier, `now` (aware) decides which years' holidays and
    which absences are in, `pages` are the secret addresses of owners' pages: `write_with_links`
    puts them beside the file, where `reports` is the text of REPORTS, '' for none. Raises
    ConfigError when the base file or a secret's file is at fault.
    """
    source = read(base)
    data = _checked(source)
    for role in ROLES:
        data["receivers"] = [entry for entry in data["receivers"] if entry.get("name") != role]
    if not any(entry.get("name") == NOBODY for entry in data["receivers"]):
        data["receivers"].append({"name": NOBODY})
    quiet = _quiet(config, now)
    data["route"] = _expanded(data["route"], "", config, set(quiet))
    data["receivers"] += _receivers(config, courier_url)
    if config.watchdog:
        data["receivers"].append(sign_of_life(WATCHDOG, config.watchdog))
    data["time_intervals"] = [
        *(data.get("time_intervals") or []),
        *({"name": name, "time_intervals": entries} for name, entries in quiet.items()),
    ]
    data["templates"] = [
        *(_template_path(str(entry), base, templates) for entry in data.get("templates") or []),
        *([LINKS] if pages else []),
        *([REPORTS] if reports else []),
    ]
    body = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )
    head = f"# Compiled by dolcevita from people.yml and {base.name}: edit those, not this.\n"
    if pages:
        # A new link is a new file to Alertmanager, and so a reload.
        head += f"# Links: {_short_hash(_links(pages))}\n"
    if reports:
        head += f"# Reports: {_short_hash(reports)}\n"
    return head + body


def write_with_links(path: Path, text: str, pages: Mapping[str, str]) -> None:
    """Put a compiled file in place, and beside it what it needs to know of owners' pages."""
    links = path.with_name(LINKS)
    if pages:
        write(links, _links(pages))
    write(path, text)
    if not pages:
        links.unlink(missing_ok=True)


def reports_beside(path: Path) -> str:
    """The text of REPORTS beside a compiled file, '' for none."""
    try:
        return path.with_name(REPORTS).read_text()
    except OSError:
        return ""


def write(path: Path, text: str) -> None:
    """Put the file in place at once and whole, readable by its owner only: it holds secrets."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def find_amtool() -> Path | None:
    """amtool of the PATH."""
    found = shutil.which("amtool")
    return Path(found) if found else None


def check(text: str, amtool: Path, config: Config, base: Path) -> None:
    """Let Alertmanager's own tool judge a compiled text.

    Raises ConfigError with Alertmanager's words: at the line of people.yml whose receiver block
    it refuses, else for the base file.
    """
    words = _refusal(text, amtool)
    if not words:
        return
    common = (yaml.safe_load(text) or {}).get("global") or {}
    problems = []
    for _, person in _people(config):
        for channel in person.notify:
            if not channel.kind.endswith("_configs"):
                continue
            alone = {
                "global": common,
                "route": {"receiver": "x"},
                "receivers": [{"name": "x", channel.kind: [channel.value]}],
            }
            refused = _refusal(yaml.dump(alone, Dumper=_Dumper), amtool)
            if refused:
                problems.append(_blame(channel, refused))
    raise ConfigError(problems or [Problem(str(base), 0, f"Alertmanager refuses it: {words}")])


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _links(pages: Mapping[str, str]) -> str:
    """The template that tells an owner where the report is."""
    chosen = "".join(
        f"{{{{ if eq .Labels.owner {json.dumps(owner, ensure_ascii=False)} }}}}"
        f". {url}/report/{{{{ .Annotations.month }}}}{{{{ end }}}}"
        for owner, url in sorted(pages.items())
    )
    return f'{{{{ define "dolcevita.report" }}}}{chosen}{{{{ end }}}}\n'


class _Dumper(yaml.SafeDumper):
    """Repeats what occurs twice: anchors are legible to nobody."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _people(config: Config) -> Iterator[tuple[Role, Person]]:
    for provider in config.providers:
        yield "provider", provider
    for owner in config.owners:
        yield "owner", owner


def _receivers(config: Config, courier_url: str) -> list[dict[str, Any]]:
    """Everybody's receiver. Raises ConfigError with the problems of all of them."""
    receivers, refused = [], []
    for role, person in _people(config):
        try:
            receivers.append(receiver(person, role, courier_url))
        except ConfigError as error:
            refused.append(error)
    if refused:
        raise ConfigError.all(refused)
    return receivers


def _quiet(config: Config, now: datetime) -> dict[str, list[dict[str, Any]]]:
    """Entries by time interval name, for the people who have any."""
    found = {}
    people: tuple[Owner | Provider, ...] = (*config.owners, *config.providers)
    for person in people:
        quiet = person.quiet if isinstance(person, Owner) else person.off
        today = now.astimezone(ZoneInfo(person.timezone)).date()
        entries = [i.as_yaml() for i in intervals(quiet, person.timezone, today)]
        if entries:
            found[_interval(person)] = entries
    return found


def _interval(person: Person) -> str:
    """The name of a person's time interval."""
    return f"{'quiet' if isinstance(person, Owner) else 'off'}/{person.name}"


def _expanded(
    route: dict[str, Any], inherited: str, config: Config, quiet: set[str]
) -> dict[str, Any]:
    """The route with its role receiver replaced by people, and so for all routes below it."""
    role = route.get("receiver") or inherited
    result = dict(route)
    result["routes"] = [
        _expanded(child, role, config, quiet) for child in route.get("routes") or []
    ]
    if role in PROVIDER_ROLES:
        waits = PROVIDER_ROLES[role]
        # What names no known provider is for the first: no alert may get lost.
        first, *others = config.providers
        for other in others:
            child = _child(route, "provider", other.name)
            result["routes"].append(_muted(child, other, quiet) if waits else child)
        result["receiver"] = f"provider/{first.name}"
        result = _muted(result, first, quiet) if waits else result
    elif role in OWNER_ROLES:
        result["receiver"] = NOBODY
        for owner in config.owners:
            hears, waits = OWNER_ROLES[role](owner)
            if hears:
                child = _child(route, "owner", owner.name)
                result["routes"].append(_muted(child, owner, quiet) if waits else child)
    elif role == WATCHDOG and not config.watchdog:
        result["receiver"] = NOBODY
    if not result["routes"]:
        del result["routes"]
    return result


def _child(parent: dict[str, Any], role: Role, name: str) -> dict[str, Any]:
    # Alertmanager does not hand time intervals down to child routes.
    kept = ("mute_time_intervals", "active_time_intervals")
    return {
        "matchers": [f"{role}={json.dumps(name, ensure_ascii=False)}"],
        "receiver": f"{role}/{name}",
        **{key: list(parent[key]) for key in kept if parent.get(key)},
    }


def _muted(route: dict[str, Any], person: Person, quiet: set[str]) -> dict[str, Any]:
    """The route, muted while the person wants peace, if they ever do."""
    name = _interval(person)
    if name not in quiet:
        return route
    return route | {"mute_time_intervals": [*(route.get("mute_time_intervals") or []), name]}


def _template_path(entry: str, base: Path, templates: str | Path) -> str:
    folder, _, rest = entry.partition("/")
    if folder == "templates":
        return f"{str(templates).rstrip('/')}/{rest}"
    return str(base.resolve().parent / entry)


def _checked(source: Source) -> dict[str, Any]:
    """The base file's data, fit to be compiled. Raises ConfigError."""
    data = source.data
    if not isinstance(data, dict):
        raise ConfigError([source.problem((), "expected 'route:' and 'receivers:'")])
    data = copy.deepcopy(data)
    if not isinstance(data.get("route"), dict):
        raise ConfigError([source.problem(("route",), "'route' is missing or no mapping: add it")])
    receivers = data.setdefault("receivers", [])
    if not isinstance(receivers, list) or not all(isinstance(r, dict) for r in receivers):
        message = "receivers: expected a list of mappings, each with a 'name'"
        raise ConfigError([source.problem(("receivers",), message)])
    problems = []
    for i, entry in enumerate(receivers):
        name = str(entry.get("name"))
        if name in ROLES and len(entry) > 1:
            message = (
                f"the receiver '{name}' stands for people of people.yml and holds only a name: "
                "move its channels there, or to a receiver with another name"
            )
            problems.append(source.problem(("receivers", i), message))
        if name.startswith(("provider/", "owner/")):
            message = f"the receiver name '{name}' is made from people.yml: choose another"
            problems.append(source.problem(("receivers", i), message))
    names = {str(entry.get("name")) for entry in receivers}
    problems += _unknown_receivers(source, ("route",), data["route"], names)
    if problems:
        raise ConfigError(problems)
    return data


def _unknown_receivers(
    source: Source, where: Where, route: dict[str, Any], names: set[str]
) -> Iterator[Problem]:
    name = route.get("receiver")
    if name is not None and name not in names:
        message = f"unknown receiver '{name}': {did_you_mean(str(name), names)}"
        yield source.problem((*where, "receiver"), message)
    children = route.get("routes") or []
    if not isinstance(children, list) or not all(isinstance(child, dict) for child in children):
        yield source.problem((*where, "routes"), "routes: expected a list of mappings")
        return
    for i, child in enumerate(children):
        yield from _unknown_receivers(source, (*where, "routes", i), child, names)


def _refusal(text: str, amtool: Path) -> str:
    """amtool's objection in one line, '' when it has none. Raises UserError when it cannot run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "alertmanager.yml"
        write(path, text)
        try:
            done = subprocess.run(
                [amtool, "check-config", str(path)],
                capture_output=True,
                text=True,
                check=False,
                timeout=AMTOOL_SECONDS,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"{amtool} does not run: {error}") from None
    if done.returncode == 0:
        return ""
    output = f"{done.stdout}\n{done.stderr}".replace(str(path), "the file")
    words = re.search(r"FAILED:\s*(.+?)(?:\n\s*\n|\namtool:|\Z)", output, re.DOTALL)
    return " ".join((words[1] if words else output).split())


def _blame(channel: Channel, words: str) -> Problem:
    """The refusal at the line of people.yml, without line numbers and secrets of ours."""
    file, _, line = channel.source.rpartition(":")
    if f"field {channel.kind} not found" in words:
        since = KINDS_SINCE.get(channel.kind)
        hint = (
            f"needs Alertmanager {since} or later: update it, or choose another channel"
            if since
            else f"is no receiver of this Alertmanager: {did_you_mean(channel.kind, KINDS_SINCE)}"
        )
        return Problem(file, int(line), f"{channel.kind} {hint}")
    words = re.sub(r"yaml: unmarshal errors: |line \d+: ", "", words)
    for secret in _texts(channel.value):
        words = words.replace(secret, "...")
    return Problem(file, int(line), f"{channel.kind}: Alertmanager refuses it: {words}")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, str) and len(value) > 7:
        yield value
