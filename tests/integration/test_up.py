"""`dolcevita up` without Docker, for real: the shipped configuration on free ports."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from binaries import version_ends
from dolcevita.config import UserError
from waiting import free_port, until

ROOT = Path(__file__).parents[2]
COMPONENTS = ("exporter", "courier", "prometheus", "alertmanager")

SITES = """\
defaults: {every: 5s, timeout: 2s}
sites:
  - {name: nobody, url: "http://127.0.0.1:1/"}
"""
PEOPLE = """\
providers:
  - {name: infogerance, notify: [{webhook: "http://127.0.0.1:1/provider"}]}
owners:
  - {name: marie, timezone: Europe/Paris, notify: [{webhook: "http://127.0.0.1:1/owner"}]}
"""


class Up:
    """A project folder of its own, and `dolcevita up` in it."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self.folder = folder
        for name in ("prometheus", "alertmanager", "grafana"):
            shutil.copytree(ROOT / name, folder / name)
        (folder / "sites.yml").write_text(SITES)
        (folder / "people.yml").write_text(PEOPLE)
        self.ports = {name: free_port() for name in (*COMPONENTS, "grafana")}
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "DOLCEVITA_DATA"},
            **{f"{name.upper()}_PORT": str(port) for name, port in self.ports.items()},
            "DOLCEVITA_RUNTIME": "native",
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Up":
        with (self.folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("dolcevita"), "up"],
                cwd=self.folder,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        return self

    def output(self) -> str:
        return (self.folder / "output").read_text()

    def says(self, words: str, within: float = 60) -> None:
        until(lambda: words in self.output(), lambda: f"{words!r} in {self.output()}", within)

    def exit_code(self, within: float = 60) -> int:
        assert self.process
        return self.process.wait(within)

    def refused(self) -> list[str]:
        """What it said, after it has ended with exit code 1 and left nothing running."""
        assert self.start().exit_code() == 1, self.output()
        assert self.left() == {}
        assert "Traceback" not in self.output()
        return self.output().splitlines()

    def url(self, component: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[component]}{path}"

    def left(self) -> dict[str, int]:
        """Process id by component, of what runs now with one of our addresses to listen on."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            for name in COMPONENTS:
                address = f"127.0.0.1:{self.ports[name]}"
                if address in words or f"--web.listen-address={address}" in words:
                    found[name] = int(entry.parent.name)
        return found

    def clean_up(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)
        for pid in self.left().values():
            os.kill(pid, signal.SIGKILL)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.fixture(params=["oldest", "newest"])
def end(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Callable[[str], Up]]:
    made: list[Up] = []

    def make(end: str) -> Up:
        try:
            programs = version_ends()[end].prometheus.parent
        except UserError as error:
            pytest.skip(str(error))
        folder = tmp_path / f"project{len(made)}"
        folder.mkdir()
        made.append(Up(folder, programs))
        return made[-1]

    yield make
    for up in made:
        up.clean_up()


@pytest.fixture
def up(project: Callable[[str], Up]) -> Up:
    return project("oldest")


def test_everything_answers_and_a_signal_ends_everything(
    project: Callable[[str], Up], end: str
) -> None:
    up = project(end)
    (up.folder / ".env").write_text("DOLCEVITA_STATUS=pages.yml\n")
    (up.folder / "pages.yml").write_text(f"pages: [{{owner: marie, token: {'t' * 20}}}]\n")
    up.start().says("everything is well")
    for component in ("exporter", "prometheus", "alertmanager"):
        up.says(up.url(component, "/"))
    assert answers(up.url("exporter", f"/status/marie/{'t' * 20}"))
    targets = f"{up.url('prometheus', '/api/v1/query')}?query=up"

    def jobs() -> dict[str, str]:
        found = requests.get(targets, timeout=5).json()["data"]["result"]
        return {series["metric"]["job"]: series["value"][1] for series in found}

    expected = dict.fromkeys(("sites", "exporter", "courier", "alertmanager", "prometheus"), "1")
    until(lambda: jobs() == expected, "every scrape job up", within=30)
    assert up.process
    up.process.terminate()
    assert up.exit_code() == 0
    assert up.left() == {}


def test_two_stacks_run_side_by_side(project: Callable[[str], Up]) -> None:
    first, second = project("oldest").start(), project("newest").start()
    first.says("everything is well")
    second.says("everything is well")


def test_prometheus_killed_is_reported_and_runs_again(up: Up) -> None:
    up.start().says("everything is well")
    killed = up.left()["prometheus"]
    os.kill(killed, signal.SIGKILL)
    up.says("prometheus stopped (killed by SIGKILL), starting it again in 1s")
    until(
        lambda: (
            up.left().get("prometheus", killed) != killed
            and answers(up.url("prometheus", "/-/ready"))
        ),
        "Prometheus ready again",
    )


def test_a_killed_supervisor_leaves_nothing_running(up: Up) -> None:
    up.start().says("everything is well")
    assert up.process
    up.process.kill()
    until(lambda: up.left() == {}, "the end of every component")


def test_an_edited_prometheus_yml_is_followed_and_a_bad_one_is_refused(up: Up) -> None:
    up.start().says("everything is well")
    config = up.folder / "prometheus/prometheus.yml"
    shown = up.url("prometheus", "/api/v1/status/config")

    def running() -> str:
        return str(requests.get(shown, timeout=5).json()["data"]["yaml"])

    good = config.read_text()
    config.write_text(good.replace("job_name: courier", "job_name: renamed"))
    until(lambda: "job_name: renamed" in running(), "the new job name", within=10)
    config.write_text("nonsense: [")
    metrics = up.url("prometheus", "/metrics")
    until(
        lambda: (
            "\nprometheus_config_last_reload_successful 0" in requests.get(metrics, timeout=5).text
        ),
        "the refusal as a metric",
        within=10,
    )
    assert "job_name: renamed" in running()
    config.write_text(good)
    until(lambda: "job_name: courier" in running(), "the old job name", within=10)


def test_a_second_stack_on_the_same_data_is_refused(project: Callable[[str], Up]) -> None:
    first, second = project("oldest").start(), project("oldest")
    first.says("everything is well")
    data = first.folder / ".stack"
    second.environment["DOLCEVITA_DATA"] = str(data)
    assert first.process
    assert second.refused() == [
        f"{data} is in use by the stack of process {first.process.pid}: stop that one, or give "
        "this one a folder of its own in DOLCEVITA_DATA"
    ]


def test_a_taken_port_is_one_sentence(up: Up) -> None:
    with socket.create_server(("127.0.0.1", up.ports["alertmanager"])):
        assert up.refused()[1:] == [
            f"port {up.ports['alertmanager']} of 127.0.0.1, meant for alertmanager, cannot be "
            "used (address already in use): stop what holds it, or set ALERTMANAGER_PORT to "
            "another one"
        ]


def test_missing_files_are_a_sentence_each(up: Up) -> None:
    (up.folder / "people.yml").unlink()
    (up.folder / "prometheus/prometheus.yml").unlink()
    assert up.refused() == [
        "people.yml: no such file; create it, or name another in DOLCEVITA_PEOPLE",
        "prometheus/prometheus.yml: no such file; it comes with Dolce Vita, whose folder is "
        "where to run this",
    ]


def test_broken_yaml_is_one_sentence_with_its_line(up: Up) -> None:
    (up.folder / "sites.yml").write_text("sites:\n  - name: x\n   url: y\n")
    *_, last = up.refused()
    assert re.match(r".*sites\.yml:\d+: ", last)


def test_a_prometheus_configuration_that_promtool_refuses_is_one_sentence(up: Up) -> None:
    (up.folder / "prometheus/prometheus.yml").write_text("global: {scrape_interval: soon}\n")
    *_, last = up.refused()
    assert last.startswith("prometheus/prometheus.yml: promtool says: ")
    assert "soon" in last


def test_an_alertmanager_base_that_amtool_refuses_is_one_sentence(up: Up) -> None:
    base = up.folder / "alertmanager/alertmanager.yml"
    base.write_text(base.read_text() + "\nnonsense: 1\n")
    *_, last = up.refused()
    assert "alertmanager.yml" in last
    assert "nonsense" in last


def test_a_data_folder_that_cannot_be_written_is_one_sentence(up: Up) -> None:
    (up.folder / "file").touch()
    up.environment["DOLCEVITA_DATA"] = "file/data"
    assert up.refused() == [
        f"{up.folder}/file/data: cannot be written (not a directory): give the folder to the "
        "user who runs this, or name another in DOLCEVITA_DATA"
    ]


def test_a_component_that_cannot_start_leaves_nothing_running(up: Up) -> None:
    """Alertmanager's data folder is a file, which no check before the start looks at."""
    (up.folder / ".stack").mkdir()
    (up.folder / ".stack/alertmanager").touch()
    said = up.refused()
    assert said[-1].startswith("alertmanager stopped (exit code 1) before it was ready")
