"""Every test, as `make test` runs them: python tests/run.py [arguments of pytest].

The containers have a Docker engine of their own and mostly wait, and the rules' own tests only
compute: both begin at once and are told of last. Beside them runs first what both computes and
waits, then what waits, many at a time, on a machine that is quiet enough to keep the time.
"""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO

NO_TESTS = 5
"""pytest's exit code when its arguments leave none."""

COMPUTING = ("tests/unit/test_rules.py", "tests/unit/test_months.py")

MAKING_WAY = ("nice", "-n", "10")
MANY = ("--dist", "loadgroup", "--no-loadscope-reorder", "-n")


def main(arguments: Sequence[str]) -> int:
    """Run them; the worst exit code."""
    pytest = (sys.executable, "-m", "pytest", *arguments)
    others = [f"--ignore={file}" for file in COMPUTING]
    beside = (
        [*pytest, "tests/compose"],
        [*MAKING_WAY, *pytest, *MANY, "2", *COMPUTING],
    )
    stages = (
        [*MAKING_WAY, *pytest, *MANY, "6", "tests/unit", *others],
        [*pytest, *MANY, "12", "tests/integration", "tests/browser"],
    )
    with ExitStack() as at_the_end:
        begun = []
        for command in beside:
            output = at_the_end.enter_context(tempfile.TemporaryFile())
            process = subprocess.Popen(command, stdout=output, stderr=output)
            at_the_end.callback(_end, process, output)
            begun.append(process)
        codes = [subprocess.run(stage, check=False).returncode for stage in stages]
        codes += [process.wait() for process in begun]
    return max((abs(code) for code in codes if code != NO_TESTS), default=NO_TESTS)


def _end(process: "subprocess.Popen[bytes]", output: IO[bytes]) -> None:
    """Stop it, if need be, and tell what it said."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        process.wait()
    output.seek(0)
    sys.stdout.write(output.read().decode(errors="replace"))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
