"""Where Prometheus and Alertmanager come from: the PATH, or unpacked Debian packages."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dolcevita.config import UserError

Version = tuple[int, int]

# Debian's builds read their message templates and pages from here, and Alertmanager does not
# start without. In an unpacked copy the name is written over with one of the same length that
# begins at the current folder, which a wrapper sets.
INSTALLED_SHARE = b"/usr/share/prometheus"
UNPACKED_SHARE = b".//./share/prometheus"
WRAPPED = {"prometheus": "prometheus", "alertmanager": "prometheus-alertmanager"}
WRAPPER = """#!/bin/sh
cd "$(dirname "$(readlink -f "$0")")/../usr" && exec bin/{program} "$@"
"""

OLDEST_PROMETHEUS: Version = (2, 42)
OLDEST_ALERTMANAGER: Version = (0, 25)

# Newer releases of Debian ship promtool apart from prometheus, older ones know no such package.
PACKAGES = ("prometheus", "prometheus-alertmanager")
OPTIONAL_PACKAGES = ("promtool",)


@dataclass(frozen=True, slots=True)
class Programs:
    """The stock programs of the stack, each as an absolute path."""

    prometheus: Path
    promtool: Path
    alertmanager: Path
    amtool: Path


def find_programs(
    data: Path,
    say: Callable[[str], None] = lambda line: None,
    search: str | None = None,
) -> Programs:
    """Programs of a supported version from the PATH `search`, else from the distribution.

    Packages are unpacked under `data`/packages once and used again after that. Raises UserError
    when neither way gives them; `say` gets a line before anything is downloaded.
    """
    found = programs_on(os.environ.get("PATH", os.defpath) if search is None else search)
    if isinstance(found, Programs):
        return found
    unpacked = data / "packages"
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        raise UserError(
            f"{found}, and this is neither Debian nor Ubuntu: install Prometheus "
            f"{dotted(OLDEST_PROMETHEUS)} and Alertmanager {dotted(OLDEST_ALERTMANAGER)} or later "
            "with promtool and amtool, so that they are on the PATH"
        )
    if not unpacked.is_dir():
        say(f"{found}; downloading the distribution's packages into {unpacked}")
        download(unpacked, data / "apt")
    packaged = programs_on(str(unpacked / "bin"))
    if isinstance(packaged, Programs):
        return packaged
    raise UserError(
        f"{found}, and this distribution's packages do not help ({packaged}): install newer ones "
        "so that they are on the PATH, or use Docker"
    )


def programs_on(search: str) -> Programs | str:
    """The four programs on the PATH `search`, or in a few words what is missing or too old."""
    prometheus = shutil.which("prometheus", path=search)
    promtool = shutil.which("promtool", path=search)
    alertmanager = shutil.which("alertmanager", path=search) or shutil.which(
        "prometheus-alertmanager", path=search
    )
    amtool = shutil.which("amtool", path=search)
    if not prometheus:
        return "there is no prometheus on the PATH"
    if not promtool:
        return "there is no promtool on the PATH"
    if not alertmanager:
        return "there is no alertmanager on the PATH"
    if not amtool:
        return "there is no amtool on the PATH"
    for program, oldest in (
        (prometheus, OLDEST_PROMETHEUS),
        (alertmanager, OLDEST_ALERTMANAGER),
    ):
        version = version_of(Path(program))
        if version is None:
            return f"{program} does not tell its version"
        if version < oldest:
            return f"{program} is {dotted(version)}, older than {dotted(oldest)}"
    return Programs(
        *(Path(program).absolute() for program in (prometheus, promtool, alertmanager, amtool))
    )


def version_of(program: Path) -> Version | None:
    """Major and minor of what `program --version` says, None when it says nothing of the kind."""
    try:
        answer = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    match = re.search(r"version (\d+)\.(\d+)", answer.stdout + answer.stderr)
    return (int(match[1]), int(match[2])) if match else None


def dotted(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def download(
    target: Path,
    apt: Path,
    sources: Path | None = None,
    packages: Sequence[str] = PACKAGES,
    optional: Sequence[str] = OPTIONAL_PACKAGES,
) -> None:
    """Unpack distribution packages into the new folder `target`, as any user.

    Programs that can be run are in `target`/bin; paths in their arguments must be absolute.
    apt keeps its own state under `apt`, away from the system's, and reads the machine's package
    sources, or only the file `sources`. `optional` names packages that not every release has.
    Nothing half-done is left at `target`. Raises UserError with apt's own words.
    """
    apt, target = apt.absolute(), target.absolute()
    for folder in (apt / "state/lists/partial", apt / "cache/archives/partial", target.parent):
        folder.mkdir(parents=True, exist_ok=True)
    options = [
        f"Dir::State={apt / 'state'}",
        "Dir::State::status=/var/lib/dpkg/status",
        f"Dir::Cache={apt / 'cache'}",
        # apt as root would fetch as the user _apt, who may not enter a folder of ours.
        "APT::Sandbox::User=root",
        "Acquire::Retries=2",
        "Acquire::http::Timeout=30",
        "Acquire::https::Timeout=30",
    ]
    if sources:
        options += [f"Dir::Etc::sourcelist={sources.absolute()}", "Dir::Etc::sourceparts=-"]
    flags = [word for option in options for word in ("-o", option)]
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.") as scratch:
        folder = Path(scratch)
        _run(["apt-get", *flags, "--quiet=2", "update"], folder)
        wanted = {*packages, *(name for name in optional if _knows(name, flags))}
        unpacked, fetched = folder / "unpacked", set[str]()
        while missing := wanted - fetched:
            _run(["apt-get", *flags, "--quiet=2", "download", *sorted(missing)], folder)
            fetched |= missing
            for package in folder.glob("*.deb"):
                wanted |= _page_parts(package)
                _run(["dpkg-deb", "--extract", str(package), str(unpacked)], folder)
                package.unlink()
        # 200 MB of sources that no page loads.
        shutil.rmtree(unpacked / "usr/share/javascript/moment-timezone/data", ignore_errors=True)
        _make_runnable(unpacked)
        unpacked.rename(target)


def _page_parts(package: Path) -> set[str]:
    """The scripts and fonts that a package's web pages need, which Debian packages apart."""
    field = subprocess.run(
        ["dpkg-deb", "--field", package, "Depends"], capture_output=True, text=True, check=False
    )
    return set(re.findall(r"(?<![\w-])(?:libjs|fonts)-[a-z0-9.+-]+", field.stdout))


def _make_runnable(unpacked: Path) -> None:
    """Fill `unpacked`/bin with what runs from there, wherever `unpacked` is moved to."""
    (unpacked / "bin").mkdir(exist_ok=True)
    for binary in (unpacked / "usr/bin").iterdir():
        if binary.name not in WRAPPED.values():
            (unpacked / "bin" / binary.name).symlink_to(f"../usr/bin/{binary.name}")
    for name, program in WRAPPED.items():
        binary = unpacked / "usr/bin" / program
        if binary.is_file():
            binary.write_bytes(binary.read_bytes().replace(INSTALLED_SHARE, UNPACKED_SHARE))
            wrapper = unpacked / "bin" / name
            wrapper.write_text(WRAPPER.format(program=program))
            wrapper.chmod(0o755)


def _knows(package: str, flags: Sequence[str]) -> bool:
    command = ["apt-cache", *flags, "show", "--no-all-versions", package]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _run(command: Sequence[str], folder: Path) -> None:
    result = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        errors = [line for line in result.stderr.splitlines() if line.startswith(("E:", "dpkg"))]
        words = " ".join(errors or result.stderr.splitlines()[-1:]) or f"exit {result.returncode}"
        raise UserError(f"{command[0]} could not get the packages: {words}")
