"""`dolcevita up` in a real engine: the compose file as it stands, an edit, a scan, the end."""

import http.client
import json
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml

import doors
import images
from engine import Engine
from inbox import inbox
from project import SERVICES, Project
from waiting import until

SITES = {
    "defaults": {"every": "5s", "timeout": "2s"},
    "sites": [{"name": "shop", "url": "http://exporter:9714/-/healthy"}],
}
PEOPLE = {
    "providers": [
        {
            "name": "infogerance",
            "notify": [{"webhook_file": "secrets/owner"}, {"apprise_file": "secrets/apprise"}],
        }
    ],
    "owners": [
        {
            "name": "marie",
            "timezone": "Europe/Paris",
            "notify": [{"webhook_file": "secrets/owner"}],
        }
    ],
}
SECRET = "http://127.0.0.1:9/a-token-that-nobody-may-see"
STATUS = {"pages": [{"owner": "marie", "token": doors.TOKEN, "logo": "logo.png"}]}

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("compose")]


class Up(Project):
    """A project with `dolcevita up` running in it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        super().__init__(folder, environment, yaml.safe_dump(SITES), yaml.safe_dump(PEOPLE))
        for name, text in (("owner", SECRET), ("apprise", SECRET.replace("http", "json"))):
            secret = folder / "secrets" / name
            secret.write_text(text + "\n")
            secret.chmod(0o640)
        (folder / "status.yml").write_text(yaml.safe_dump(STATUS))
        (folder / "logo.png").write_bytes(b"a picture")
        self.process: subprocess.Popen[bytes] | None = None

    def up(self) -> None:
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("dolcevita"), "up"],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def output(self) -> str:
        return (self.folder / "output").read_text(errors="replace")

    def is_well(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.output()
        return "everything is well" in self.output()

    def end(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(120)
        self.remove()

    def inside(self, service: str) -> list[dict[str, Any]]:
        inspected: list[dict[str, Any]] = json.loads(
            self.docker("inspect", self.container(service))
        )
        return inspected


@pytest.fixture(scope="module")
def well(docker: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A stack that is well, the stand-in for Grafana and Caddy included."""
    made = Up(tmp_path_factory.mktemp("up"), {**docker, "COMPOSE_PROFILES": "public"})
    hashed = made.docker("run", "--rm", images.CADDY, *"caddy hash-password -p open".split())
    users = made.folder / "caddy/users"
    users.write_text(f"marie {hashed.strip()}\n")
    users.chmod(0o640)
    made.environment |= {"PUBLIC_HOST": "localhost", "PUBLIC_GRAFANA": "grafana.localhost"}
    try:
        began = time.monotonic()
        made.up()
        until(made.is_well, made.output, within=240)
        made.seconds = time.monotonic() - began  # type: ignore[attr-defined]
        yield made
    finally:
        made.end()


def test_the_stack_is_well_within_a_minute_and_says_where_to_look(well: Up) -> None:
    assert well.seconds <= 60  # type: ignore[attr-defined]
    for name in ("exporter", "prometheus", "alertmanager", "grafana"):
        assert well.url(name, "/") in well.output()


def test_the_exporters_image_is_small(well: Up) -> None:
    """Python's slim image takes some 120 MB of the 200 that it may have."""
    sizes = [
        int(well.docker("image", "inspect", "--format={{.Size}}", image))
        for image in (images.EXPORTER, images.PYTHON)
    ]
    assert sizes[0] - sizes[1] < 80e6


def test_the_exporters_image_has_the_locked_packages_and_no_others(well: Up) -> None:
    program = (
        "from importlib.metadata import distributions\n"
        "for d in distributions(): print(d.metadata['Name'].lower().replace('_', '-'), d.version)"
    )
    words = ("run", "--rm", "--network=none", "--entrypoint=python3", images.EXPORTER)
    found = {
        line.split()[0]: line.split()[1] for line in well.docker(*words, "-c", program).splitlines()
    }
    lock = (well.folder / "requirements.lock").read_text()
    locked = dict(re.findall(r"^([a-z0-9.-]+)==(\S+)", lock, re.MULTILINE))
    assert found.pop("dolcevita")
    assert found == locked


@pytest.mark.soak
def test_an_image_that_is_built_twice_has_the_same_files(docker: dict[str, str]) -> None:
    words = ("build", "--quiet", "--no-cache", "--target=slim", "--file=exporter/Dockerfile")
    files = "find . -type f -exec sha256sum {} + ; find . -printf '%p %m %U:%G %l\\n'"
    listed = []
    for _ in range(2):
        built = subprocess.run(
            ["docker", *words, f"--build-arg=PYTHON_IMAGE={images.PYTHON}", "."],
            cwd=images.ROOT,
            env=docker,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        run = ("run", "--rm", "--workdir=/opt", "--entrypoint=sh", built, "-c", files)
        listing = subprocess.run(
            ["docker", *run], env=docker, capture_output=True, text=True, check=True
        )
        listed.append(sorted(listing.stdout.splitlines()))
    assert len(listed[0]) > 1000
    assert listed[0] == listed[1]


def test_the_compose_file_is_valid_with_each_variable_of_the_example(
    docker: dict[str, str], tmp_path: Path
) -> None:
    example = (images.ROOT / ".env.example").read_text()
    every = tmp_path / "env"
    every.write_text(re.sub(r"^# ([A-Z_]+=)", r"\1", example, flags=re.MULTILINE))
    files = (f"--env-file={every}", f"--project-directory={images.ROOT}")
    result = subprocess.run(
        ["docker", "compose", *files, "config", "--format=json"],
        # The environment would go before the file.
        env={name: value for name, value in docker.items() if name not in images.IMAGES},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    services = json.loads(result.stdout)["services"]
    assert set(services) == {*SERVICES, "grafana", "caddy", "caddy-data"}
    assert services["caddy"]["environment"]["PUBLIC_HOST"] == "status.example.com"


CADDY_MAY = 1 << 10
"""CAP_NET_BIND_SERVICE, in the bounding set alone."""

WRITABLE = {
    "exporter": {"/tmp", "/screenshots"},
    "courier": {"/var/lib/dolcevita"},
    "alertmanager": {"/alertmanager"},
    "prometheus": {"/prometheus"},
    "grafana": {"/var/lib/grafana", "/tmp"},
    "caddy": {"/var/lib/dolcevita", "/tmp"},
}
LISTENS = {
    "exporter": {9714},
    "courier": {9715},
    "alertmanager": {9093},
    "prometheus": {9090},
    "grafana": {3000},
    "caddy": {8080, 8081, 8443},
}
OF_THE_ENGINE = ("/proc", "/dev", "/sys")


@pytest.mark.parametrize("service", LISTENS)
def test_a_running_container_may_do_and_write_no_more_than_it_must(well: Up, service: str) -> None:
    process = Path("/proc") / str(well.program(service))
    status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines())
    user = "472" if service == "grafana" else "65534"
    assert set(status["Uid"].split()) == {user}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    for which in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        assert int(status[which], 16) == 0
    assert int(status["CapBnd"], 16) == (CADDY_MAY if service == "caddy" else 0)
    mounts = [line.split() for line in (process / "mountinfo").read_text().splitlines()]
    writable = {
        where
        for _, _, _, _, where, options, *_ in mounts
        if "rw" in options.split(",") and not where.startswith(OF_THE_ENGINE)
    }
    # Files that the engine makes for name resolution belong to root.
    assert writable - {"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"} == WRITABLE[service]
    listening = {
        int(columns[1].rpartition(":")[2], 16)
        for name in ("tcp", "tcp6")
        for columns in map(str.split, (process / "net" / name).read_text().splitlines()[1:])
        # 0A is LISTEN; 127.0.0.11 the engine's own name server.
        if columns[3] == "0A" and not columns[1].startswith("0B00007F")
    }
    assert listening == LISTENS[service]
    (inspected,) = well.inside(service)
    assert inspected["HostConfig"]["Memory"] > 0
    assert inspected["HostConfig"]["NanoCpus"] > 0
    for bindings in inspected["NetworkSettings"]["Ports"].values():
        if service != "caddy":
            assert {binding["HostIp"] for binding in bindings or ()} <= {"127.0.0.1"}


def test_no_secret_is_in_the_environment_the_inspection_or_the_logs(well: Up) -> None:
    """The logs are those of deliveries that fail, whose addresses are the secrets."""
    until(
        lambda: SECRET in well.alertmanager_runs_on() or "<secret>" in well.alertmanager_runs_on(),
        "the owner's address in Alertmanager",
    )
    labels = {"alertname": "SiteDown", "severity": "critical", "site": "shop", "since": "1"}
    end = (datetime.now(UTC) + timedelta(minutes=2)).isoformat()
    alert = {"labels": labels | {"provider": "infogerance"}, "endsAt": end}
    url = well.url("alertmanager", "/api/v2/alerts")
    requests.post(url, json=[alert], timeout=5).raise_for_status()
    for service, failure in (
        ("alertmanager", "connection refused"),
        ("courier", "did not take the message"),
    ):
        until(
            lambda service=service, failure=failure: failure in well.logs(service),  # type: ignore[misc]
            lambda service=service: well.logs(service),  # type: ignore[misc]
            within=90,
        )
    for service in (*SERVICES, "grafana", "caddy"):
        environment = (Path("/proc") / str(well.program(service)) / "environ").read_bytes().decode()
        everywhere = environment + json.dumps(well.inside(service)) + well.logs(service)
        assert "a-token-that-nobody-may-see" not in everywhere
        assert "$2a$" not in everywhere


def test_the_compiled_file_with_its_secrets_is_its_owners_alone(well: Up) -> None:
    file = "/var/lib/dolcevita/alertmanager.yml"
    mode = well.compose("exec", "-T", "courier", "stat", "--format=%a %u", file)
    assert mode.split() == ["600", "65534"]
    assert SECRET in well.compose("exec", "-T", "courier", "cat", file)


REACHES = {
    "exporter": {"prometheus", "alertmanager", "caddy"},
    "courier": {"prometheus", "alertmanager"},
    "alertmanager": {"prometheus", "courier", "exporter"},
    "prometheus": {"exporter", "courier", "alertmanager", "grafana"},
    "grafana": {"prometheus", "caddy"},
    "caddy": {"exporter", "grafana"},
}
"""Those that share a network, whoever of them asks."""

CONNECT = """
import socket, sys
for name, address, port in (word.split("/") for word in sys.argv[1:]):
    try:
        socket.create_connection((address, int(port)), 0.5)
        print(name)
    except OSError:
        pass
"""


@pytest.mark.parametrize("who", REACHES)
def test_a_container_reaches_its_neighbours_and_nobody_else(well: Up, who: str) -> None:
    """By their names, by their addresses, and by the ports that this machine has published."""
    doors = []
    for name, ports in LISTENS.items():
        networks = well.inside(name)[0]["NetworkSettings"]["Networks"].values()
        addresses = [name, *(network["IPAddress"] for network in networks)]
        if name != who:
            doors += [f"{name}/{address}/{max(ports)}" for address in addresses]
    for network in well.inside(who)[0]["NetworkSettings"]["Networks"].values():
        for name in ("exporter", "alertmanager", "prometheus", "grafana"):
            port = well.ports[name.upper()]
            doors.append(f"published {name}/{network['Gateway']}/{port}")
    said = well.compose("exec", "-T", who, "python3", "-c", CONNECT, *doors)
    assert set(said.splitlines()) == REACHES[who]


def _public(well: Up, host: str, path: str, method: str = "GET", **more: Any) -> requests.Response:
    url = f"https://127.0.0.1:{well.ports['PUBLIC_HTTPS']}{path}"
    with requests.Session() as session:
        session.mount("https://", _Named(host))
        return session.request(
            method, url, headers={"Host": host}, verify=False, timeout=60, **more
        )


class _Named(requests.adapters.HTTPAdapter):
    """Asks for a name other than the one in the URL."""

    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__()

    def init_poolmanager(self, *args: Any, **keywords: Any) -> None:
        super().init_poolmanager(  # type: ignore[no-untyped-call]
            *args, **keywords, server_hostname=self.host, assert_hostname=False
        )


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_the_world_sees_owners_pages_and_with_a_password_that_of_everything(well: Up) -> None:
    page = until(lambda: _served(well), "the page over HTTPS", within=20)
    assert page.headers["Content-Type"].startswith("text/html")
    assert "max-age" in page.headers["Strict-Transport-Security"]
    for path, judged in doors.PUBLIC.items():
        answer = _public(well, "localhost", path)
        if judged == "open":
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
            # What it says itself where it has no such job, month or badge.
            said = ("heartbeat", "month", "No such site")
            assert answer.ok or any(words in answer.text for words in said), path
        elif judged == "password":
            assert answer.status_code == 401, path
            assert _public(well, "localhost", path, auth=("marie", "open")).ok
        else:
            passed = _public(well, "localhost", path, auth=("marie", "open"))
            for refused in (answer, passed, _public(well, "localhost", path, method="POST")):
                assert (refused.status_code, refused.text) == (404, ""), path
    assert _public(well, "localhost", "/", auth=("marie", "shut")).status_code == 401
    for path in doors.TRICKS:
        assert _as_it_stands(well, path) in (400, 404), path


def _as_it_stands(well: Up, path: str) -> int:
    """The answer to a path that HTTP libraries would tidy up before they ask."""
    port = well.ports["PUBLIC_HTTPS"]
    context = ssl._create_unverified_context()
    connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=10)
    with closing(connection):
        connection.request("GET", path)
        return connection.getresponse().status


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
def test_the_world_sees_grafana_with_a_password(well: Up) -> None:
    until(lambda: _served(well), "the page over HTTPS", within=20)
    assert _public(well, "grafana.localhost", "/").status_code == 401
    assert _public(well, "grafana.localhost", "/", auth=("marie", "shut")).status_code == 401
    passed = _public(well, "grafana.localhost", "/", auth=("marie", "open"))
    assert passed.status_code == 200
    assert "Authorization" not in passed.json()
    plain = requests.get(
        f"http://127.0.0.1:{well.ports['PUBLIC_HTTP']}/",
        headers={"Host": "localhost"},
        allow_redirects=False,
        timeout=10,
    )
    assert plain.status_code in (301, 308)
    assert plain.headers["Location"].startswith("https://localhost")


def _served(well: Up) -> requests.Response | None:
    try:
        answer = _public(well, "localhost", doors.MARIE)
    except requests.RequestException:
        return None
    return answer if answer.ok else None


@pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
@pytest.mark.parametrize("service", ["caddy", "grafana"])
def test_who_is_in_front_comes_back_after_a_crash(well: Up, service: str) -> None:
    """Those behind have an evening of their own (test_compose_evening.py)."""
    before = well.pid(service)
    well.kill(service)
    until(lambda: well.pid(service) not in (0, before), f"{service} back", within=30)
    until(lambda: _served(well), "the page over HTTPS", within=20)
    until(
        lambda: _public(well, "grafana.localhost", "/", auth=("marie", "open")).ok,
        "Grafana over HTTPS",
        within=20,
    )


def test_edits_are_followed_within_ten_seconds(well: Up) -> None:
    until(lambda: well.query("up"), "Prometheus' first scrape", within=60)
    sites = [*SITES["sites"], {"name": "second", "url": "http://exporter:9714/-/healthy?2"}]
    well.replace(well.sites, yaml.safe_dump({**SITES, "sites": sites}))
    rule = {"record": "edited", "expr": "vector(7)"}
    group = {"name": "own", "interval": "1s", "rules": [rule]}
    well.replace(well.folder / "prometheus/rules/own.yml", yaml.safe_dump({"groups": [group]}))
    until(lambda: well.query('probe_success{site="second"}'), "the new site", within=10)
    until(lambda: well.number("edited") == 7, "the new rule", within=5)
    status = well.url("alertmanager", "/api/v2/status")
    started = datetime.fromisoformat(requests.get(status, timeout=5).json()["uptime"])
    # Before its --dispatch.start-delay is over, Alertmanager does not answer a reload.
    until(
        lambda: datetime.now(UTC) - started > timedelta(seconds=30),
        "the end of Alertmanager's start",
        within=35,
    )
    people = json.loads(json.dumps(PEOPLE))
    people["owners"][0]["name"] = "jeanne"
    well.replace(well.people, yaml.safe_dump(people))
    until(
        lambda: "owner/jeanne" in well.alertmanager_runs_on(),
        "the new owner in Alertmanager",
        within=10,
    )


def test_a_refused_edit_names_file_and_line_and_changes_nothing(well: Up) -> None:
    before = well.alertmanager_runs_on()
    good = {path: path.read_text() for path in (well.sites, well.people)}
    well.replace(well.sites, good[well.sites] + "colour: red\n")
    well.replace(well.people, good[well.people] + "colour: red\n")
    rules = well.folder / "prometheus/rules/own.yml"
    well.replace(rules, "groups: [{name: own, rules: [{record: edited, expr: 'vector('}]}]\n")
    try:
        for service, file in (("exporter", "sites.yml:"), ("courier", "people.yml:")):
            until(
                lambda service=service, file=file: file in well.logs(service),  # type: ignore[misc]
                lambda service=service: well.logs(service),  # type: ignore[misc]
                within=10,
            )
        refused = (
            '{__name__=~"(dolcevita|prometheus)_config_last_reload_successful",'
            'job=~"exporter|courier|prometheus"} == 0'
        )
        until(lambda: len(well.query(refused)) == 3, lambda: str(well.query(refused)), within=30)
        assert well.number("edited") == 7
        assert well.query('probe_success{site="second"} == 1')
        assert well.alertmanager_runs_on() == before
    finally:
        for path, text in good.items():
            well.replace(path, text)
        rules.unlink()


def test_a_drill_passes_from_within_the_exporters_container(well: Up, own_engine: Engine) -> None:
    address = own_engine.address()
    with inbox(address) as received:
        people = json.loads(json.dumps(PEOPLE))
        hook = received.address("provider").replace(address, "host.docker.internal")
        people["providers"][0]["notify"] = [{"webhook": hook}]
        people["owners"][0]["name"] = "paulette"
        well.replace(well.people, yaml.safe_dump(people))
        until(
            lambda: "owner/paulette" in well.alertmanager_runs_on(),
            "the new people in Alertmanager",
            within=60,
        )
        # The line of docs/drill.md.
        said = well.compose("exec", "-T", *"exporter dolcevita drill shop --every 7d".split())
        told = [message.status for message in received.to("provider") if any(message.of("drill"))]
    assert said.splitlines()[-1].startswith("You can go: a page for shop reaches infogerance")
    assert told == ["firing", "resolved"]


def test_a_signal_stops_every_container(well: Up) -> None:
    assert well.process
    well.process.send_signal(signal.SIGTERM)
    assert well.process.wait(60) == 0
    assert well.compose("ps", "--quiet", "--status", "running").split() == []


def test_an_engine_without_the_images_falls_back_and_says_why(
    docker: dict[str, str], tmp_path: Path
) -> None:
    """The native stack then stops at a port that is taken: it need not run here."""
    missing = {"PYTHON_IMAGE": "dolcevita-test/none-such:1", "EXPORTER_IMAGE": "none-such:1"}
    made = Up(tmp_path, {**docker, **missing})
    made.environment["DOLCEVITA_RUNTIME"] = "auto"
    with socket.create_server(("127.0.0.1", made.ports["EXPORTER"])):
        made.up()
        assert made.process
        assert made.process.wait(300) == 1
    said = made.output().splitlines()
    reason = "running native, without Docker: the exporter's image cannot be built: "
    assert any(line.startswith(reason) for line in said)
    assert said[-1].startswith(f"port {made.ports['EXPORTER']} of 127.0.0.1")
