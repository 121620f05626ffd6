"""Fetches the real programs that the tests run: both ends of the supported versions."""

import fcntl
import os
import platform
import re
import subprocess
import tempfile
from pathlib import Path

from dolcevita.config import UserError
from dolcevita.stack import packages
from dolcevita.stack.packages import Programs

CACHE = Path(__file__).parent.parent / ".stack" / "tests" / "packages"
SUITES = {"oldest": "bookworm", "newest": "sid"}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def version_ends() -> dict[str, Programs]:
    """Prometheus and Alertmanager, oldest supported and newest packaged.

    The keys are "oldest" and "newest". Safe to call from several processes at once; only the
    first call downloads. Raises UserError where they are not to be had: tests skip with its text.
    """
    return {end: _programs(suite) for end, suite in SUITES.items()}


def debian_package(suite: str, *names: str) -> Path:
    """A folder with the Debian packages `names` of `suite` unpacked in it, cached.

    Raises UserError when this is not Debian or the packages cannot be downloaded.
    """
    CACHE.mkdir(parents=True, exist_ok=True)
    folder = CACHE / f"{suite}-{'-'.join(names)}"
    with (CACHE / f"{suite}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            sources = CACHE / f"{suite}.list"
            sources.write_text(f"deb [signed-by={KEYRING}] {debian_mirror()} {suite} main\n")
            optional = packages.OPTIONAL_PACKAGES if "prometheus" in names else ()
            packages.download(folder, CACHE / f"{suite}.apt", sources, names, optional)
    return folder


def debian_mirror() -> str:
    """The address that this machine's own package sources name for Debian."""
    if platform.freedesktop_os_release().get("ID") != "debian":
        raise UserError("both version ends come from Debian's packages, and this is not Debian")
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "lists/partial").mkdir(parents=True)
        listing = subprocess.run(
            ["apt-get", "-o", f"Dir::State={scratch}", "update", "--print-uris"],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
    match = re.search(r"^'(\S+?)/dists/", listing.stdout, re.MULTILINE)
    if not match:
        raise UserError(f"apt-get names no package source: {listing.stderr.strip()}")
    return match[1]


def _programs(suite: str) -> Programs:
    folder = debian_package(suite, *packages.PACKAGES)
    found = packages.programs_on(str(folder / "bin"))
    if isinstance(found, str):
        raise UserError(f"Debian's packages of {suite}: {found}")
    return found
