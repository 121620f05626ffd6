"""Makes a folder of installed packages small: what only their builders and debuggers need goes.

Run by the Dockerfile: python3 slim.py FOLDER
"""

import shutil
import struct
import sys
from pathlib import Path

TESTS = ("tests", "test")
UNUSED = ("cel_expr_python/ext", "/LC_MESSAGES", "apprise/assets/themes")
"""Extensions of CEL, each with the whole library in it, which blackbox_exporter does not know;
translations, since of holidays only the dates count; pictures for desktops."""
LEXERS = "pygments/lexers"
"""Of hundreds of languages; what rich shows of Python's errors takes one."""
KEPT_LEXERS = ("__init__.py", "_mapping.py", "python.py")

SOURCES = (".c", ".h", ".hpp", ".po", ".pxd", ".pyi", ".pyx")

PT_LOAD = 1


def main(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and (path.name in TESTS or path.as_posix().endswith(UNUSED)):
            shutil.rmtree(path)
        elif path.is_symlink() or not path.is_file():
            continue
        elif path.suffix in SOURCES or (
            path.parent.as_posix().endswith(LEXERS) and path.name not in KEPT_LEXERS
        ):
            path.unlink()
        elif ".so" in path.suffixes:
            cut(path)


def cut(library: Path) -> None:
    """Cut off what is never loaded into memory: debug information, symbols, section headers.

    The layout is that of elf(5), for 64 bits, little endian: amd64 and arm64.
    """
    data = bytearray(library.read_bytes())
    if data[:6] != b"\x7fELF\x02\x01":
        return
    (headers,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    end = 0
    for index in range(count):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", data, headers + index * size)
        if kind == PT_LOAD:
            end = max(end, offset + length)
    struct.pack_into("<Q", data, 40, 0)
    struct.pack_into("<HHH", data, 58, 0, 0, 0)
    library.write_bytes(data[: max(end, headers + size * count)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
