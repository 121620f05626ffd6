"""Sets the clock of one process apart from the machine's.

Go programs ask the kernel's code in their memory (vdso(7)) for the time, past every library that
could lie about it. So it is this code that is replaced, in the one process: by the system call
and a sum. Time namespaces do not have a wall clock of their own (time_namespaces(7)).
"""

import platform
import struct
from pathlib import Path

FUNCTION = b"__vdso_clock_gettime"

# mov eax, 228; syscall; test edi, edi; jne +7; add qword [rsi], seconds; ret
CODE = bytes.fromhex("b8e4000000 0f05 85ff 7507 488106 00000000 c3")
SECONDS = 14
"""Where in CODE the seconds are: 32 bits, signed."""


def possible() -> bool:
    """Whether this machine's processor is one that CODE is for."""
    return platform.machine() == "x86_64"


def jump(pid: int, seconds: int) -> None:
    """Let a process that stands still see the machine's clock `seconds` later (or earlier).

    Raises InterruptedError when it stands within the code that tells the time.
    """
    with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
        start, end = _region(pid)
        memory.seek(start)
        at = start + _offset(memory.read(end - start))
        _check_that_nobody_stands(pid, at)
        memory.seek(at)
        memory.write(CODE[:SECONDS] + struct.pack("<i", seconds) + CODE[SECONDS + 4 :])


def _check_that_nobody_stands(pid: int, at: int) -> None:
    """Raises InterruptedError when a thread is within the code: try again a little later."""
    for thread in Path(f"/proc/{pid}/task").iterdir():
        words = (thread / "syscall").read_text().split()
        if words[0] == "running" or at <= int(words[-1], 16) < at + 1024:
            raise InterruptedError(f"thread {thread.name} asks for the time just now")


def _region(pid: int) -> tuple[int, int]:
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        if line.endswith("[vdso]"):
            start, _, end = line.split()[0].partition("-")
            return int(start, 16), int(end, 16)
    raise LookupError(f"process {pid} has no vdso")


def _offset(image: bytes) -> int:
    """Where the function begins, by the image's dynamic symbols (elf(5), 64 bits)."""
    (sections,) = struct.unpack_from("<Q", image, 40)
    size, count = struct.unpack_from("<HH", image, 58)
    headers = [struct.unpack_from("<IIQQQQIIQQ", image, sections + n * size) for n in range(count)]
    for header in headers:
        _, kind, _, _, offset, length, link, _, _, entry = header
        if kind != 11:  # SHT_DYNSYM
            continue
        names = headers[link][4]
        for symbol in range(offset, offset + length, entry):
            name, _, _, _, value, _ = struct.unpack_from("<IBBHQQ", image, symbol)
            if image[names + name :].startswith(FUNCTION + b"\0"):
                return int(value)
    raise LookupError("the vdso names no function for the time")
