"""Files that hold a secret, or what is sent to a site."""

from pathlib import Path

from dolcevita.probes.course import Broken
from dolcevita.probes.result import Reason


def read(file: Path) -> str:
    """The text of a file without the line break at its end. Raises Broken."""
    try:
        return file.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise Broken(Reason.LOCAL, f"The file {file} cannot be read: {why}.") from None
