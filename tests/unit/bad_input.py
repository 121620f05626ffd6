"""The files of tests/bad_input and what a user reads about each; run it to write what they read.

    .venv/bin/python tests/unit/bad_input.py

Every `NAME.yml` has its text in `NAME.expected`, or in `NAME.oldest.expected` and
`NAME.newest.expected` where the two ends of the supported Alertmanagers use other words.
"""

import shutil
import sys
import tempfile
from contextlib import chdir
from datetime import UTC, date, datetime
from pathlib import Path

from dolcevita.alerting import compile as compiler
from dolcevita.config import ConfigError, load
from dolcevita.probes import http

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "tests/bad_input"
BASE = ROOT / "alertmanager/alertmanager.yml"
TODAY = date(2027, 7, 1)
NOW = datetime(2027, 7, 1, 12, tzinfo=UTC)

SITES = "sites: [https://www.example.com]\n"
PEOPLE = """\
providers:
  - {name: infogerance, notify: [{email: oncall@example.com}]}
owners:
  - {name: marie, notify: [{email: marie@example.com}]}
"""
SEVERAL_PEOPLE = """\
providers:
  - {name: infogerance, notify: [{email: oncall@example.com}]}
  - {name: nightwatch, notify: [{email: night@example.com}]}
owners:
  - {name: marie, notify: [{email: marie@example.com}]}
  - {name: pierre, notify: [{email: pierre@example.com}]}
"""

KINDS = {"http": http.KIND, "https": http.KIND}
PLANNED = ("smtp",)
"""Fixed, so that a new prober changes no message here."""

PARTNERS = {
    "sites": ("sites.yml", "people.yml", PEOPLE),
    "sites_of_several_people": ("sites.yml", "people.yml", SEVERAL_PEOPLE),
    "people": ("people.yml", "sites.yml", SITES),
}
"""By folder: what its files are, the other of the two files, and a good text for that."""


def cases(*folders: str) -> list[Path]:
    return [path for folder in folders for path in sorted((FOLDER / folder).glob("*.yml"))]


def label(path: Path) -> str:
    """A case's name in the list of tests."""
    return f"{path.parent.name}/{path.stem}"


def told(path: Path, project: Path) -> str:
    """What loading the file says in `project`, an empty folder: refusals, else warnings."""
    name, partner, text = PARTNERS[path.parent.name]
    shutil.copy(path, project / name)
    (project / partner).write_text(text)
    with chdir(project):
        try:
            config = load(Path("sites.yml"), Path("people.yml"), KINDS, PLANNED, TODAY)
        except ConfigError as error:
            return f"{error}\n"
    return "".join(f"warning: {warning}\n" for warning in config.warnings)


def told_by_alertmanager(path: Path, project: Path, amtool: Path) -> str:
    """What compiling people.yml says, with Alertmanager's own tool as the judge."""
    (project / "sites.yml").write_text(SITES)
    shutil.copy(path, project / "people.yml")
    shutil.copytree(ROOT / "alertmanager", project / "alertmanager")
    base = Path("alertmanager/alertmanager.yml")
    with chdir(project):
        config = load(Path("sites.yml"), Path("people.yml"), KINDS, PLANNED, TODAY)
        try:
            text = compiler.compile(
                config, base, "alertmanager/templates", "http://127.0.0.1:9715", NOW
            )
            compiler.check(text, amtool, config, base)
        except ConfigError as error:
            return f"{error}\n"
    return ""


def expected(path: Path, end: str = "") -> str:
    own = path.with_suffix(f".{end}.expected")
    return (own if end and own.exists() else path.with_suffix(".expected")).read_text()


def _write() -> None:
    sys.path.insert(0, str(ROOT / "tests"))
    from binaries import version_ends  # type: ignore[import-not-found]

    for path in FOLDER.rglob("*.expected"):
        path.unlink()
    for path in cases(*PARTNERS):
        with tempfile.TemporaryDirectory() as project:
            path.with_suffix(".expected").write_text(told(path, Path(project)))
    ends = version_ends()
    for path in cases("alertmanager"):
        texts = {}
        for end, programs in ends.items():
            with tempfile.TemporaryDirectory() as project:
                texts[end] = told_by_alertmanager(path, Path(project), programs.amtool)
        if len(set(texts.values())) == 1:
            path.with_suffix(".expected").write_text(texts["oldest"])
        else:
            for end, text in texts.items():
                path.with_suffix(f".{end}.expected").write_text(text)


if __name__ == "__main__":
    _write()
