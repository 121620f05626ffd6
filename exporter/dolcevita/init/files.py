"""Puts the two files in place, both or none, and never over what somebody wrote."""

import hashlib
import os
from pathlib import Path

from dolcevita.config import UserError

EXAMPLES = {
    "8c966244274d92c2004723ba59bd726188931268a8059b5a8f9d7f87511c93d4",
    "3c34b5a535c9c8ac62a227f6373b0c684fd880714bd0a13d8fd5e6a75744880f",
}
"""SHA-256 of the sites.yml and people.yml that Dolce Vita comes with: nobody's own yet."""


def check_free(*paths: Path) -> None:
    """Raises UserError for each path with a file that is not an untouched example."""
    taken = [path for path in paths if not _is_free(path)]
    if taken:
        names = " and ".join(map(str, taken))
        raise UserError(
            f"{names}: there already, and never overwritten: move it away, or name another with "
            "--sites and --people"
        )


def place(texts: dict[Path, str]) -> None:
    """Write all of them. Raises UserError, and leaves everything as it was, when one cannot be."""
    check_free(*texts)
    before = {path: path.read_bytes() if path.exists() else None for path in texts}
    done: list[Path] = []
    try:
        for path, text in texts.items():
            _place(path, text)
            done.append(path)
    except OSError as error:
        for written in done:
            content = before[written]
            if content is None:
                written.unlink()
            else:
                written.write_bytes(content)
        raise UserError(f"{path}: cannot be written: {error.strerror}") from None


def _place(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(text, encoding="utf-8")
        if path.exists() and _is_free(path):
            scratch.replace(path)
        else:
            # Unlike a rename, this fails where somebody else was quicker.
            path.hardlink_to(scratch)
    finally:
        scratch.unlink(missing_ok=True)


def _is_free(path: Path) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() in EXAMPLES
    except FileNotFoundError:
        return True
    except OSError:
        return False
