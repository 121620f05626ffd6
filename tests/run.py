"""Every test, as `make test` runs them: python tests/run.py [arguments of pytest].

The containers have a Docker engine of their own and mostly wait: they begin at once, and their
output comes last. Beside them first runs what mostly computes and makes way for them, then what
waits, many at a time, on a machine that is quiet enough to keep the time.
"""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence

NO_TESTS = 5
"""pytest's exit code when its arguments leave none."""

COMPUTING = ("nice", "-n", "10")
MANY = ("--dist", "loadgroup", "-n")


def main(arguments: Sequence[str]) -> int:
    """Run them; the worst exit code."""
    pytest = (sys.executable, "-m", "pytest", *arguments)
    with tempfile.TemporaryFile() as output:
        containers = subprocess.Popen([*pytest, "tests/compose"], stdout=output, stderr=output)
        try:
            stages = (
                [*COMPUTING, *pytest, *MANY, "6", "tests/unit"],
                [*pytest, *MANY, "12", "tests/integration", "tests/browser"],
            )
            codes = [subprocess.run(stage, check=False).returncode for stage in stages]
            codes.append(containers.wait())
        finally:
            if containers.poll() is None:
                containers.send_signal(signal.SIGINT)
                containers.wait()
            output.seek(0)
            sys.stdout.write(output.read().decode(errors="replace"))
    worst = [abs(code) for code in codes if code != NO_TESTS]
    return max(worst, default=NO_TESTS)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
