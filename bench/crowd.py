"""Very many sites, on hosts and of owners in the proportions of a hosting provider."""

from collections.abc import Callable, Sequence
from typing import Any

PER_HOST = 20
PER_OWNER = 100


def sites(count: int, origin: Callable[[int], str]) -> list[dict[str, Any]]:
    """As in sites.yml; each is a path of its own on the server that `origin` names for it."""
    return [
        {
            "name": f"site{n}",
            "url": f"{origin(n)}/{n}",
            "host": f"host{n // PER_HOST}",
            "owner": f"owner{n // PER_OWNER}",
        }
        for n in range(count)
    ]


def people(count: int, address: Callable[[str], str]) -> dict[str, Sequence[dict[str, Any]]]:
    """As people.yml, for so many sites; `address` is the webhook of each name."""

    def called(name: str) -> dict[str, Any]:
        return {"name": name, "notify": [{"webhook": address(name)}]}

    owners = range(count // PER_OWNER + 1)
    return {"providers": [called("provider")], "owners": [called(f"owner{n}") for n in owners]}
