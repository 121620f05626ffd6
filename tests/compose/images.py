"""Stand-ins for the official images, made of Debian's packages and laid out like them.

They let the compose file run for real where no image registry can be reached: its services, its
users, its volumes and its health checks are those of the official images.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from binaries import CACHE, debian_mirror, debian_package
from dolcevita.config import UserError

ROOT = Path(__file__).parents[2]
SUITE = "trixie"
PYTHON = f"dolcevita-test/python:{SUITE}"
PROMETHEUS = "dolcevita-test/prometheus:newest"
ALERTMANAGER = "dolcevita-test/alertmanager:newest"
CADDY = "dolcevita-test/caddy:newest"
VICTORIAMETRICS = "dolcevita-test/victoria-metrics:newest"
GRAFANA = "dolcevita-test/grafana:none"
EXPORTER = "dolcevita-test/exporter:this"
BROWSER = "dolcevita-test/exporter:browser"

IMAGES = {
    "PYTHON_IMAGE": PYTHON,
    "PROMETHEUS_IMAGE": PROMETHEUS,
    "ALERTMANAGER_IMAGE": ALERTMANAGER,
    "CADDY_IMAGE": CADDY,
    "GRAFANA_IMAGE": GRAFANA,
    "EXPORTER_IMAGE": EXPORTER,
}

# As in the official images: programs in /bin, run by nobody, data in a folder that nobody owns.
DOCKERFILE = """
FROM {base}
COPY . /opt/{name}
RUN ln -s /opt/{name}/bin/* /bin/ && mkdir /{name} && chown 65534:65534 /{name}
USER 65534
WORKDIR /{name}
ENTRYPOINT ["/bin/{name}"]
"""

# As in the official image: wget, and a program file with the right to low ports
# (capabilities(7): version 2, effective, CAP_NET_BIND_SERVICE).
CADDY_DOCKERFILE = """
FROM {base}
COPY busybox /bin/wget
COPY caddy /usr/bin/
RUN python3 -c "import os, struct; os.setxattr('/usr/bin/caddy', 'security.capability', \\
      struct.pack('<5I', 0x02000001, 1 << 10, 0, 0, 0))"
"""

# As in the official image: wget, and a program that is the entry point; no folder for its data.
STORE_DOCKERFILE = """
FROM {base}
COPY busybox /bin/wget
COPY victoria-metrics /victoria-metrics-prod
ENTRYPOINT ["/victoria-metrics-prod"]
"""

# No Grafana is to be had here: this listens, is healthy, keeps a database as Grafana does, and
# answers with what it was sent.
GRAFANA_DOCKERFILE = """
FROM {base}
COPY busybox /bin/wget
COPY grafana.py /opt/
RUN mkdir --mode=777 /var/lib/grafana && chown 472:0 /var/lib/grafana
USER 472
CMD ["python3", "-u", "/opt/grafana.py"]
"""
GRAFANA_PROGRAM = """
import http.server, json, os, signal, sqlite3, sys, time
os.umask(0o027)
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
with sqlite3.connect("/var/lib/grafana/grafana.db") as database:
    database.execute("create table if not exists star (made real)")
    database.execute("insert into star values (?)", [time.time()])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(dict(self.headers)).encode())
http.server.ThreadingHTTPServer(("", 3000), Handler).serve_forever()
"""


def compose_plugin(config: Path) -> None:
    """Put Compose v2 where a docker command with DOCKER_CONFIG=`config` finds it."""
    plugin = debian_package("sid", "docker-compose") / "usr/libexec/docker/cli-plugins"
    shutil.copytree(plugin, config / "cli-plugins", dirs_exist_ok=True)


def build(environment: Mapping[str, str]) -> None:
    """Make the images that the engine does not have yet. Raises UserError."""
    if os.geteuid():
        raise UserError("only root can make the stand-in images (debootstrap)")
    if not shutil.which("debootstrap"):
        raise UserError("there is no debootstrap to make the stand-in images with")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _build_python(environment)
        _build_prometheus(environment, "sid", IMAGES)
        busybox = debian_package("sid", "busybox-static") / "usr/bin/busybox"
        caddy = debian_package("sid", "caddy") / "usr/bin/caddy"
        with tempfile.TemporaryDirectory() as scratch:
            for program in (busybox, caddy):
                shutil.copy(program, scratch)
            (Path(scratch) / "grafana.py").write_text(GRAFANA_PROGRAM)
            _build(environment, CADDY, CADDY_DOCKERFILE.format(base=PYTHON), Path(scratch))
            _build(environment, GRAFANA, GRAFANA_DOCKERFILE.format(base=PYTHON), Path(scratch))
        _docker(environment, "compose", "--project-directory", ROOT, "build", "exporter")


def build_store(environment: Mapping[str, str]) -> None:
    """Make the image of the store for years."""
    package = debian_package("sid", "victoria-metrics")
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(package / "usr/bin/victoria-metrics", scratch)
        shutil.copy(debian_package("sid", "busybox-static") / "usr/bin/busybox", scratch)
        _build(environment, VICTORIAMETRICS, STORE_DOCKERFILE.format(base=PYTHON), Path(scratch))


def build_older(environment: Mapping[str, str]) -> dict[str, str]:
    """Make the images of the Prometheus and the Alertmanager of SUITE, and name them."""
    older = {
        name: IMAGES[name].replace("newest", "older")
        for name in ("PROMETHEUS_IMAGE", "ALERTMANAGER_IMAGE")
    }
    _build_prometheus(environment, SUITE, older)
    return older


def _build_prometheus(
    environment: Mapping[str, str], suite: str, images: Mapping[str, str]
) -> None:
    programs = debian_package(suite, "prometheus", "prometheus-alertmanager")
    for name in ("prometheus", "alertmanager"):
        dockerfile = DOCKERFILE.format(base=PYTHON, name=name)
        _build(environment, images[f"{name.upper()}_IMAGE"], dockerfile, programs)


def _build_python(environment: Mapping[str, str]) -> None:
    """Debian with Python, and what this machine needs to reach a package index."""
    archive = CACHE / f"{SUITE}-python.tar"
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            root = Path(scratch) / "root"
            packages = "--include=python3,python3-venv,python3-pip,ca-certificates"
            _run("debootstrap", "--variant=minbase", packages, SUITE, root, debian_mirror())
            partial = Path(scratch) / "partial.tar"
            _run("tar", "--create", "--file", partial, "--directory", root, ".")
            partial.rename(archive)
    if _docker(environment, "images", "--quiet", PYTHON).strip():
        return
    with tempfile.TemporaryDirectory() as scratch:
        overlay = Path(scratch)
        shutil.copy("/etc/ssl/certs/ca-certificates.crt", overlay)
        configuration = Path("/etc/pip.conf")
        (overlay / "pip.conf").write_text(
            configuration.read_text() if configuration.exists() else ""
        )
        _docker(environment, "import", archive, f"{PYTHON}-plain")
        dockerfile = (
            f"FROM {PYTHON}-plain\n"
            "RUN rm -f /usr/lib/python3*/EXTERNALLY-MANAGED\n"
            "COPY ca-certificates.crt /etc/ssl/certs/\n"
            "COPY pip.conf /etc/\n"
        )
        _docker(environment, "build", "--tag", PYTHON, "--file", "-", overlay, text=dockerfile)


def _build(environment: Mapping[str, str], tag: str, dockerfile: str, folder: Path) -> None:
    _docker(environment, "build", "--tag", tag, "--file", "-", folder, text=dockerfile)


def _docker(environment: Mapping[str, str], *words: str | Path, text: str = "") -> str:
    result = subprocess.run(
        ["docker", *words],
        input=text,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    if result.returncode:
        raise UserError(f"docker {words[0]}: {result.stderr.strip()[-500:]}")
    return result.stdout


def _run(*command: str | Path) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise UserError(f"{command[0]}: {(result.stderr or result.stdout).strip()[-500:]}")
