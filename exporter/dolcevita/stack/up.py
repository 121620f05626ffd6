"""`dolcevita up`: checks, chooses between Docker and native, runs, and tells where to look."""

import asyncio
import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from dolcevita.config import UserError
from dolcevita.stack import checks, docker, native
from dolcevita.stack.journal import Journal
from dolcevita.stack.settings import Settings, read_settings
from dolcevita.stack.supervisor import Component, supervise

TITLES: Mapping[str, str] = {
    "exporter": "Status page",
    "prometheus": "Prometheus",
    "alertmanager": "Alertmanager",
    "grafana": "Grafana",
}


def run(folder: Path = Path(), environ: Mapping[str, str] = os.environ) -> None:
    """Run the stack of the project in `folder` until SIGINT, SIGTERM or SIGHUP.

    Raises UserError, one sentence a line, when it cannot start; nothing is left running then.
    """
    settings = read_settings(folder, environ)
    if problems := [*checks.missing_files(settings)]:
        raise UserError("\n".join(problems))
    config, compiled = checks.compiled_alertmanager(settings)
    with alone(settings.data):
        obstacle = "DOLCEVITA_RUNTIME asks for that"
        if settings.runtime != "native":
            stack = docker.find(settings, _say)
            if isinstance(stack, docker.Stack):
                docker.run(stack, settings, _say, _report(settings, stack.services))
                return
            if settings.runtime == "docker":
                raise UserError(f"DOLCEVITA_RUNTIME is docker, but {stack}")
            obstacle = stack
        _say(f"running native, without Docker: {obstacle}")
        _run_native(settings, native.prepare(settings, config, compiled, _say))


def _run_native(settings: Settings, components: Sequence[Component]) -> None:
    names = [component.name for component in components]
    with Journal(settings.data / "logs", names, sys.stdout) as journal:
        asyncio.run(
            supervise(
                components,
                journal,
                _report(settings, names, journal.say),
                [native.follow_prometheus_config(settings, journal)],
            )
        )


def _report(
    settings: Settings, components: list[str], say: Callable[[str], None] | None = None
) -> Callable[[], None]:
    """What tells, once all is well, how long that took and where to look."""
    began = time.monotonic()

    def report() -> None:
        (say or _say)(f"everything is well after {time.monotonic() - began:.1f}s; Ctrl-C stops it")
        for name, title in TITLES.items():
            if name in components:
                (say or _say)(f"{title + ':':<14} {settings.url(name)}/")

    return report


def _say(text: str) -> None:
    print(text, flush=True)


@contextmanager
def alone(data: Path) -> Iterator[None]:
    """The data folder, made where needed, for one stack at a time.

    Raises UserError when it cannot be written to, or when another stack has it.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (data / "lock").open("a+")
    except OSError as error:
        raise UserError(
            f"{error.filename}: cannot be written ({(error.strerror or '').lower()}): give the "
            "folder to the user who runs this, or name another in DOLCEVITA_DATA"
        ) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise UserError(
                f"{data} is in use by the stack of process {lock.read().strip() or 'unknown'}: "
                "stop that one, or give this one a folder of its own in DOLCEVITA_DATA"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
