"""Backup and restore of the stack in Docker: all that cannot be made again, in one archive.

History is Prometheus' data, delivery is Alertmanager's, Grafana has a database, and the rest is
the configuration in the project's folder, the secrets included.
"""

import io
import json
import os
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from fnmatch import fnmatch
from importlib.metadata import version
from pathlib import Path, PurePosixPath

from dolcevita.config import UserError
from dolcevita.stack import docker
from dolcevita.stack.settings import Settings

DATA: Mapping[str, str] = {
    "prometheus": "/prometheus",
    "alertmanager": "/alertmanager",
    "grafana": "/var/lib/grafana",
}
"""Services with data, and where it lies in their containers; their volumes have their names."""

NO_CONFIGURATION = (
    *(".ci", ".dockerignore", ".env.example", ".git", ".gitignore", "Makefile", "README.md"),
    *(
        "backups",
        "bench",
        "build",
        "docker-compose.pair.yml",
        "docker-compose.yml",
        "docs",
        "exporter",
        "kubernetes",
        "kustomization.yaml",
        "pyproject.toml",
        "tests",
    ),
    *(".*_cache", ".hypothesis", ".stack", ".venv", "requirements*.lock"),
)
"""What comes with Dolce Vita or is made by it. All else in the folder is the user's: the files to
edit, the secrets, and what they name, such as calendars and logos."""

LAST = "dolcevita.json"
"""The archive's last member: without it the archive is not whole."""

COPY = "/prometheus/snapshots/backup"
MAKE_COPY = """
set -e
rm -rf "$0"
mkdir -p "$0"
cd /prometheus
for part in *; do
  case "$part" in
    0*) cp -rl "$part" "$0" ;;
    wal|chunks_head) cp -r "$part" "$0" ;;
  esac
done
"""
"""Blocks never change, so links to them will do: Prometheus stands still for a moment only."""


def backup(settings: Settings, archive: Path | None, say: Callable[[str], None]) -> Path:
    """Write everything into `archive` (default: backups/ and the time), and give its path.

    Prometheus and Grafana are stopped one after the other, for seconds. Raises UserError.
    """
    stack = docker.stack_of(settings)
    container = _container(stack, "prometheus")
    if not container:
        raise UserError(
            "there is no container of Prometheus to back up: `docker compose up` makes it; a stack "
            f"without Docker has everything in {settings.shown(settings.data)}, to copy while it "
            "is stopped"
        )
    now = datetime.now().astimezone()
    target = archive or settings.folder / f"backups/dolcevita-{now:%Y%m%dT%H%M%S}.tar.gz"
    scratch = target.with_name(f"{target.name}.part")
    counts: dict[str, int] = {}
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # There are secrets in it.
        with (
            os.fdopen(os.open(scratch, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "wb") as file,
            tarfile.open(fileobj=file, mode="w:gz", compresslevel=1) as out,
        ):
            with _copy_of_prometheus(stack, container, say):
                counts["prometheus"] = _add(stack, out, container, COPY, "prometheus")
            if container := _container(stack, "alertmanager"):
                folder = DATA["alertmanager"]
                counts["alertmanager"] = _add(stack, out, container, folder, "alertmanager")
            if container := _container(stack, "grafana"):
                with _stopped(stack, "grafana", say):
                    counts["grafana"] = _add(stack, out, container, DATA["grafana"], "grafana")
            counts["configuration"] = _add_configuration(settings, out)
            last = {"made": now.isoformat(), "dolcevita": version("dolcevita"), "files": counts}
            _add_bytes(out, LAST, json.dumps(last, indent=2).encode(), now.timestamp())
        scratch.replace(target)
    except OSError as error:
        raise UserError(f"{settings.shown(target)}: cannot be written: {error.strerror}") from None
    finally:
        scratch.unlink(missing_ok=True)
    size = target.stat().st_size / 1e6
    say(f"{settings.shown(target)}: {size:.1f} MB, {_told(counts)}; there are secrets in it")
    return target


def restore(settings: Settings, archive: Path, say: Callable[[str], None]) -> None:
    """Put an archive's data into new volumes and its configuration into the project's folder.

    Files of the folder that differ are kept aside. Raises UserError, before anything is changed,
    when the archive is not whole or there are data already.
    """
    counts = verify(archive)
    stack = docker.stack_of(settings)
    if volumes := _volumes(stack):
        raise UserError(
            f"there are data already, in the volume {volumes[0]}: `docker compose down --volumes` "
            "removes all containers and data of before"
        )
    aside = settings.data / f"before-restore-{datetime.now():%Y%m%dT%H%M%S}"
    kept = _put_configuration(settings, archive, aside)
    say(f"configuration: {counts['configuration']} files")
    if kept:
        say(f"{kept} files of before that differed are in {settings.shown(aside)}")
    # people.yml and .env may be others now.
    stack = docker.stack_of(settings)
    for service in (name for name in DATA if counts.get(name)):
        try:
            _compose(stack, "create", service)
        except UserError as error:
            if service != docker.OPTIONAL:
                raise
            say(f"Grafana is left out, its container cannot be made: {error}")
            continue
        _put(stack, archive, service)
        say(f"{service}: {counts[service]} files")
    say("restored; `make up` or `docker compose up --detach` starts the stack")


def verify(archive: Path) -> dict[str, int]:
    """Read an archive to its end: how many files of each part it has. Raises UserError."""
    found: dict[str, int] = {}
    expected: dict[str, int] | None = None
    try:
        with tarfile.open(archive) as source:
            for member in source:
                if member.name == LAST:
                    content = source.extractfile(member)
                    expected = json.load(content)["files"] if content else None
                elif member.isfile():
                    part = member.name.partition("/")[0]
                    found[part] = found.get(part, 0) + 1
    except FileNotFoundError:
        raise UserError(f"{archive}: no such file; `make backup` makes one") from None
    except (OSError, EOFError, tarfile.TarError, ValueError, KeyError) as error:
        raise UserError(f"{archive}: not a whole backup ({error}): take another one") from None
    if expected is None or found != {part: count for part, count in expected.items() if count}:
        raise UserError(
            f"{archive}: not a whole backup (found {_told(found)}, expected "
            f"{_told(expected or {})}): take another one"
        )
    return expected


@contextmanager
def _copy_of_prometheus(
    stack: docker.Stack, container: str, say: Callable[[str], None]
) -> Iterator[None]:
    """A copy at COPY, made while Prometheus is stopped, removed at the end."""
    image = _docker(stack, "inspect", "--format={{.Image}}", container).strip()
    shell = (
        *("run", "--rm", "--network=none", "--cap-drop=ALL", "--user=65534:65534"),
        *("--volumes-from", container, "--entrypoint=/bin/sh", image, "-c"),
    )
    with _stopped(stack, "prometheus", say):
        _docker(stack, *shell, MAKE_COPY, COPY)
    try:
        yield
    finally:
        _docker(stack, *shell, 'rm -rf "$0"', COPY)


@contextmanager
def _stopped(stack: docker.Stack, service: str, say: Callable[[str], None]) -> Iterator[None]:
    """A service at rest, started again at the end if it ran."""
    if not _compose(stack, "ps", "--quiet", "--status", "running", service).strip():
        yield
        return
    began = time.monotonic()
    _compose(stack, "stop", service)
    try:
        yield
    finally:
        _compose(stack, "start", service)
        say(f"{service} was stopped for {time.monotonic() - began:.1f}s")


def _add(stack: docker.Stack, out: tarfile.TarFile, container: str, folder: str, part: str) -> int:
    """Add a folder of a container to the archive as `part`/; how many files these are."""
    count = 0
    with (
        _piped(stack, "cp", f"{container}:{folder}/.", "-") as process,
        tarfile.open(fileobj=process.stdout, mode="r|") as source,
    ):
        for member in source:
            # Alertmanager writes a file under a passing name, then gives it the lasting one.
            passing = part == "alertmanager" and "." in PurePosixPath(member.name).name
            if passing or not (member.isfile() or member.isdir()):
                continue
            member.name = str(PurePosixPath(part, member.name))
            out.addfile(member, source.extractfile(member) if member.isfile() else None)
            count += member.isfile()
    return count


def _put(stack: docker.Stack, archive: Path, service: str) -> None:
    """Fill the volume of a service whose container has just been made."""
    container = _container(stack, service)
    with (
        _piped(stack, "cp", "-", f"{container}:{DATA[service]}") as process,
        tarfile.open(archive) as source,
        tarfile.open(fileobj=process.stdin, mode="w|") as out,
    ):
        for member in source:
            part, _, name = member.name.partition("/")
            if part == service and name:
                member.name = name
                out.addfile(member, source.extractfile(member) if member.isfile() else None)


def _add_configuration(settings: Settings, out: tarfile.TarFile) -> int:
    count = 0
    for root in sorted(settings.folder.iterdir()):
        if any(fnmatch(root.name, pattern) for pattern in NO_CONFIGURATION):
            continue
        for path in (root, *sorted(root.rglob("*"))):
            if path.is_file() and "__pycache__" not in path.parts:
                out.add(path, f"configuration/{path.relative_to(settings.folder)}")
                count += 1
    return count


def _put_configuration(settings: Settings, archive: Path, aside: Path) -> int:
    """Write the files, and keep those of before that differ; how many these are."""
    kept = 0
    with tarfile.open(archive) as source:
        for member in source:
            part, _, name = member.name.partition("/")
            content = source.extractfile(member) if part == "configuration" else None
            if not content:
                continue
            new, target = content.read(), settings.folder / name
            if not target.resolve().is_relative_to(settings.folder.resolve()):
                raise UserError(f"{archive}: {name} would lie outside of {settings.folder}")
            if target.exists():
                if target.read_bytes() == new:
                    continue
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                target.rename(aside / name)
                kept += 1
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch(mode=0o600)
            target.write_bytes(new)
            target.chmod(member.mode & 0o777)
            if not os.geteuid():
                os.chown(target, member.uid, member.gid)
    return kept


def _add_bytes(out: tarfile.TarFile, name: str, content: bytes, mtime: float) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(content), int(mtime)
    out.addfile(member, io.BytesIO(content))


def _volumes(stack: docker.Stack) -> list[str]:
    """The volumes that a start of the stack would use, and that are there already."""
    project = json.loads(_compose(stack, "config", "--format=json"))["name"]
    label = f"label=com.docker.compose.project={project}"
    return _docker(stack, "volume", "ls", "--quiet", "--filter", label).split()


def _container(stack: docker.Stack, service: str) -> str:
    """The id of a service's container, running or not; '' without one."""
    return _compose(stack, "ps", "--all", "--quiet", service).strip()


def _compose(stack: docker.Stack, *words: str) -> str:
    return _checked(stack, [*stack.compose, *words])


def _docker(stack: docker.Stack, *words: str) -> str:
    return _checked(stack, ["docker", *words])


def _checked(stack: docker.Stack, command: list[str]) -> str:
    """Run to the end, give what it prints. Raises UserError with its last words."""
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, env=stack.environment, check=False
        )
    except FileNotFoundError:
        raise UserError("there is no docker command: only a stack in Docker is backed up") from None
    if result.returncode:
        raise UserError(f"docker {command[-1]}: {_last(result.stderr)}")
    return result.stdout


@contextmanager
def _piped(stack: docker.Stack, *words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A docker command with its streams. Raises UserError when it fails in the end."""
    with subprocess.Popen(
        ["docker", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=stack.environment,
    ) as process:
        failure: Exception | None = None
        try:
            yield process
        except (OSError, tarfile.TarError) as error:
            failure = error
        _, said = process.communicate()
        if process.returncode or failure:
            raise UserError(f"docker {words[0]}: {_last(said.decode(errors='replace'))}")


def _last(text: str) -> str:
    return (text.strip().splitlines() or ["it says nothing"])[-1]


def _told(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{part} {count} files" for part, count in counts.items()) or "nothing"
