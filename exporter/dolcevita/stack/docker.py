"""The stack in Docker: whether the engine can run it, and running the compose file."""

import asyncio
import json
import os
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from dolcevita.config import UserError
from dolcevita.stack import checks
from dolcevita.stack.settings import Settings

ANSWER_WITHIN = 20.0
PULL_WITHIN = 600.0
BUILD_WITHIN = 900.0
STOP_WITHIN = 60.0
POLL = 0.5

BUILT = "exporter"
OPTIONAL = "grafana"
ONCE = ("caddy-data",)
"""Services that do their work and end."""
PUBLISHED = ("exporter", "alertmanager", "prometheus", "grafana")
READS_CONFIGURATION = ("exporter", "courier", "alertmanager")


@dataclass(frozen=True, slots=True)
class Stack:
    """What Docker can run: the command up to the subcommand, its environment, the services."""

    compose: tuple[str, ...]
    environment: dict[str, str]
    services: list[str]


def find(settings: Settings, say: Callable[[str], None]) -> Stack | str:
    """The stack when an engine has, pulls or builds all it needs, else why not, in a few words.

    Grafana is left out, with a word about it, when only its image is not to be had.
    """
    if not shutil.which("docker"):
        return "there is no docker command"
    if _run(["docker", "version", "--format", "{{.Server.Version}}"], ANSWER_WITHIN):
        return "no Docker engine answers"
    if _run(["docker", "compose", "version"], ANSWER_WITHIN):
        return "docker has no compose plugin"
    stack = stack_of(settings)
    listing = subprocess.run(
        [*stack.compose, "config", "--format", "json"],
        capture_output=True,
        text=True,
        env=stack.environment,
        check=False,
    )
    if listing.returncode:
        return f"docker compose refuses the compose file: {_last_line(listing.stderr)}"
    images = {
        name: entry["image"] for name, entry in json.loads(listing.stdout)["services"].items()
    }
    say("building the exporter's image")
    if reason := _run([*stack.compose, "build", BUILT], BUILD_WITHIN, stack.environment):
        if not _has(images[BUILT]):
            return f"the exporter's image cannot be built: {reason}"
        say(f"it cannot be built again, the one built before is used: {reason}")
    services = []
    for name, image in images.items():
        if not _has(image):
            say(f"pulling {image}")
            if reason := _run(["docker", "pull", "--quiet", image], PULL_WITHIN):
                if name != OPTIONAL:
                    return f"the image {image} cannot be pulled: {reason}"
                say(f"Grafana is skipped, its image cannot be pulled: {reason}")
                continue
        services.append(name)
    return Stack(stack.compose, stack.environment, services)


def run(
    stack: Stack, settings: Settings, say: Callable[[str], None], on_ready: Callable[[], None]
) -> None:
    """Check what a start needs, then `docker compose up` until a signal asks to stop.

    Raises UserError when something is in the way, or when the containers end by themselves.
    """
    problems = [*_unreadable(settings, int(stack.environment["DOLCEVITA_GROUP"]))]
    if not _is_running(stack):
        problems += checks.taken_ports(settings, [s for s in stack.services if s in PUBLISHED])
    if problems:
        raise UserError("\n".join(problems))
    asyncio.run(_up(stack, say, on_ready))


async def _up(stack: Stack, say: Callable[[str], None], on_ready: Callable[[], None]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    process = await asyncio.create_subprocess_exec(
        *stack.compose,
        "up",
        *stack.services,
        env=stack.environment,
        stdin=asyncio.subprocess.DEVNULL,
        # Ctrl-C is for us: Compose is asked to stop once, and then waited for.
        start_new_session=True,
    )
    ended = asyncio.create_task(process.wait())
    asked = asyncio.create_task(stop.wait())
    ready = asyncio.create_task(_wait_until_well(stack, on_ready))
    await asyncio.wait({ended, asked}, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    asked.cancel()
    if ended.done():
        _run([*stack.compose, "stop"], STOP_WITHIN, stack.environment)
        raise UserError(f"docker compose up ended by itself (exit code {ended.result()})")
    process.send_signal(signal.SIGTERM)
    done, _ = await asyncio.wait({ended}, timeout=STOP_WITHIN)
    if not done:
        say(f"the containers did not stop within {STOP_WITHIN:.0f}s: killed")
        process.kill()
        _run([*stack.compose, "kill"], STOP_WITHIN, stack.environment)


async def _wait_until_well(stack: Stack, on_ready: Callable[[], None]) -> None:
    while True:
        if await asyncio.to_thread(_is_well, stack):
            on_ready()
            return
        await asyncio.sleep(POLL)


def _is_well(stack: Stack) -> bool:
    """Whether every container that should run does, and is healthy."""
    containers = _lines([*stack.compose, "ps", "--quiet", *stack.services], stack.environment)
    if not containers:
        return False
    state = "{{.State.Status}} {{with .State.Health}}{{.Status}}{{end}}"
    states = _lines(["docker", "inspect", "--format", state, *containers], stack.environment)
    running = [name for name in stack.services if name not in ONCE]
    return states.count("running healthy") == len(running)


def stack_of(settings: Settings) -> Stack:
    """Compose for this project, without services yet.

    Files outside its folder are mounted where they are; a docker-compose.override.yml counts.
    """
    compose = ["docker", "compose", "--file", str(settings.folder / "docker-compose.yml")]
    own = settings.folder / "docker-compose.override.yml"
    if own.is_file():
        compose += ["--file", str(own)]
    files = [path.resolve() for path in (settings.sites, settings.people, settings.status)]
    outside = sorted({str(f.parent) for f in files if not f.is_relative_to(settings.folder)})
    if outside:
        mounts = {"volumes": [f"{folder}:{folder}:ro" for folder in outside]}
        override = settings.data / "compose.yml"
        override.write_text(
            yaml.safe_dump({"services": dict.fromkeys(READS_CONFIGURATION, mounts)})
        )
        compose += ["--file", str(override)]
    environment = {
        **os.environ,
        **{f"{name.upper()}_PORT": str(port) for name, port in settings.ports.items()},
        "DOLCEVITA_SITES": settings.shown(files[0]),
        "DOLCEVITA_PEOPLE": settings.shown(files[1]),
        "DOLCEVITA_STATUS": settings.shown(files[2]),
        "DOLCEVITA_GROUP": str(settings.people.stat().st_gid),
    }
    return Stack(tuple(compose), environment, [])


def _unreadable(settings: Settings, group: int) -> Iterator[str]:
    """A sentence for each file that the containers' user, in `group`, may not read."""
    for path in (
        settings.folder,
        settings.sites,
        settings.people,
        *_tree(settings.prometheus_config.parent),
        *_tree(settings.alertmanager_base.parent),
        *_tree(settings.folder / "secrets"),
    ):
        status = path.stat()
        needed = 0o5 if stat.S_ISDIR(status.st_mode) else 0o4
        by_group = status.st_gid == group and (status.st_mode >> 3) & needed == needed
        if not by_group and status.st_mode & needed != needed:
            yield (
                f"{settings.shown(path)}: the containers' user may not read it; "
                f"chmod g+rX {path} (group {group}), or let everybody read it"
            )


def _tree(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield folder
    yield from sorted(folder.rglob("*"))


def _is_running(stack: Stack) -> bool:
    return bool(_lines([*stack.compose, "ps", "--quiet"], stack.environment))


def _lines(command: Sequence[str], environment: dict[str, str]) -> list[str]:
    """What a command prints, a line each; none when it fails."""
    result = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    return [line.strip() for line in result.stdout.splitlines() if line.strip()]


def _has(image: str) -> bool:
    return not _run(["docker", "image", "inspect", image], ANSWER_WITHIN)


def _run(command: Sequence[str], within: float, environment: dict[str, str] | None = None) -> str:
    """Run to the end: '' when it worked, else why not, in its own words."""
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=within,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"not done after {within:.0f}s"
    return _last_line(result.stderr or result.stdout) if result.returncode else ""


def _last_line(text: str) -> str:
    """What a command said last, the bare message of a log line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"
