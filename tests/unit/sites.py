"""Sites and their files, for tests."""

from pathlib import Path
from typing import Any

from dolcevita.config import Site
from dolcevita.probes import http

PEOPLE = """
providers:
  - {name: hosting, notify: [{webhook: "http://127.0.0.1:1/"}]}
owners:
  - name: marie
    timezone: Europe/Paris
    notify: [{email: marie@example.com}]
    quiet: {hours: "19:00-09:00"}
"""


def site(name: str, expect: dict[str, Any] | None = None, **fields: Any) -> Site:
    """A site as the loader makes it."""
    values: dict[str, Any] = {
        "url": "http://127.0.0.1:1/",
        "kind": "http",
        "owner": "marie",
        "provider": "hosting",
        "host": "",
        "every": 15.0,
        "timeout": 10.0,
        "down_after": 25.0,
        "recover_after": 70.0,
        "sentinel": False,
        "labels": {},
        "options": http.Options(),
        "expect": http.Expect(**(expect or {})),
    }
    return Site(name=name, **values | fields)


def files(folder: Path, sites: str) -> tuple[Path, Path]:
    """sites.yml with that text and an ordinary people.yml."""
    paths = folder / "sites.yml", folder / "people.yml"
    paths[0].write_text(sites)
    paths[1].write_text(PEOPLE)
    return paths
