"""The courier as a process: the stack follows the files, and nothing secret is written down."""

import asyncio
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, tzinfo
from pathlib import Path

import aiohttp
import pytest
import requests
from prometheus_client import CollectorRegistry

from alertmanagers import Receiver, Running, alert, alertmanager, programs, project, receiving
from dolcevita.config import ConfigError
from dolcevita.courier import configuration
from dolcevita.courier.alertmanager import Alertmanager
from dolcevita.courier.app import Files, prepare
from dolcevita.stack.packages import Programs
from waiting import free_port, until

FOLLOWS_WITHIN = 10.0
"""Seconds that the stack may take to follow an edit."""


@dataclass
class Courier:
    """A courier process, and where its files are."""

    folder: Path
    output: Path
    url: str
    log: Path
    process: subprocess.Popen[bytes]

    def metric(self, name: str) -> float | None:
        text = requests.get(f"{self.url}/metrics", timeout=5).text
        found = re.search(rf"^{name}(?:{{.*}})? (\S+)", text, re.MULTILINE)
        return float(found[1]) if found else None

    def edit(self, name: str, before: str, after: str) -> None:
        """Replace the file as editors do: a new one in its place."""
        path = self.folder / name
        text = path.read_text()
        assert before in text
        scratch = path.with_suffix(".new")
        scratch.write_text(text.replace(before, after))
        scratch.replace(path)


def files(folder: Path, output: Path) -> Files:
    base = folder / "alertmanager/alertmanager.yml"
    return Files(
        folder / "sites.yml",
        folder / "people.yml",
        base,
        str(base.parent / "templates"),
        output,
        folder / "prometheus",
        folder / "status.yml",
        None,
    )


@contextmanager
def courier(
    folder: Path,
    output: Path,
    alertmanager_url: str,
    prometheus_url: str,
    amtool: Path | None,
    *options: str,
) -> Iterator[Courier]:
    port = free_port()
    path = f"{amtool.parent}:{os.environ['PATH']}" if amtool else os.environ["PATH"]
    command = [str(Path(sys.executable).with_name("dolcevita")), "courier"]
    command += ["--listen", f"127.0.0.1:{port}", "--output", str(output)]
    command += ["--alertmanager", alertmanager_url, "--prometheus", prometheus_url, *options]
    log = folder / "courier.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, cwd=folder, stdout=out, stderr=out, env={**os.environ, "PATH": path}
        )
    running = Courier(folder, output, f"http://127.0.0.1:{port}", log, process)

    def healthy() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return requests.get(f"{running.url}/-/healthy", timeout=2).ok
        except requests.ConnectionError:
            return False

    try:
        until(healthy, "the courier is healthy")
        yield running
        assert process.poll() is None, log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, log.read_text()


@dataclass
class Stack:
    """An Alertmanager and its courier."""

    courier: Courier
    running: Running
    receiver: Receiver
    programs: Programs

    def edit(self, name: str, before: str, after: str) -> None:
        """Edit a file, and wait until Alertmanager runs on what became of it."""
        begun = self.running.last_reload()
        self.courier.edit(name, before, after)
        until(lambda: self.running.last_reload() > begun, "the reload", FOLLOWS_WITHIN)

    def tells_at(self, path: str) -> bool:
        """Whether a page posted now arrives at `path` of the receiver, and nowhere else."""
        name = f"Homemade{time.time_ns()}"
        self.running.post(alert(name, age=60))
        until(lambda: name in str(self.receiver.posts), "the page", 60)
        return [at for at, body in self.receiver.posts if name in str(body)] == [f"/{path}"]


@pytest.fixture
def amtool_at_hand() -> bool:
    """Whether the courier finds amtool on its PATH."""
    return True


@pytest.fixture(params=["oldest", "newest"])
def stack(request: pytest.FixtureRequest, amtool_at_hand: bool, tmp_path: Path) -> Iterator[Stack]:
    found = programs(request.param)
    output = tmp_path / "compiled/alertmanager.yml"
    with receiving() as receiver:
        folder = project(tmp_path / "project", receiver)
        prepare(files(folder, output), "http://127.0.0.1:9")
        amtool = found.amtool if amtool_at_hand else None
        prometheus = f"http://127.0.0.1:{free_port()}"
        with (
            alertmanager(found, output, tmp_path) as running,
            courier(folder, output, running.url, prometheus, amtool) as serving,
        ):
            yield Stack(serving, running, receiver, found)


def test_alertmanager_follows_an_edit_of_people_yml(stack: Stack) -> None:
    stack.edit("people.yml", "/provider'", "/elsewhere'")
    assert stack.tells_at("elsewhere")


def test_alertmanager_follows_an_edit_of_the_base_file(stack: Stack) -> None:
    base = "alertmanager/alertmanager.yml"
    stack.edit(base, "repeat_interval: 4h", "repeat_interval: 5h")
    assert "repeat_interval: 5h" in stack.courier.output.read_text()


def test_compiled_file_stays_secret(stack: Stack) -> None:
    stack.courier.edit("people.yml", "/provider'", "/elsewhere'")
    until(lambda: "elsewhere" in stack.courier.output.read_text(), "the edit", FOLLOWS_WITHIN)
    assert stat.S_IMODE(stack.courier.output.stat().st_mode) == 0o600


@pytest.mark.parametrize("stack", ["newest"], indirect=True)
@pytest.mark.parametrize(
    ("name", "before", "after", "says"),
    [
        ("people.yml", "owners:", "owner:", "people.yml:3: "),
        ("people.yml", "{name: marie", "{nam: marie", "people.yml:4: "),
        ("sites.yml", "https://", "https//", "sites.yml:1: "),
        ("alertmanager/alertmanager.yml", "receiver: owner:down", "receiver: owner:dwn",
         "did you mean 'owner:down'?"),
        ("people.yml", "{webhook: '", "{pagerduty_configs: {routing_ke: abc}}, {webhook: '",
         "people.yml:2: pagerduty_configs: Alertmanager refuses it: field routing_ke not found"),
    ],
)  # fmt: skip
def test_bad_edit_is_refused_and_the_last_good_configuration_stays(
    stack: Stack, name: str, before: str, after: str, says: str
) -> None:
    courier = stack.courier
    until(lambda: courier.metric("dolcevita_config_last_reload_successful") == 1, "a good start")
    good = courier.output.read_text()
    courier.edit(name, before, after)
    until(
        lambda: courier.metric("dolcevita_config_last_reload_successful") == 0,
        "the refusal",
        FOLLOWS_WITHIN,
    )
    answer = requests.post(f"{courier.url}/-/reload", timeout=10)
    assert answer.status_code == 400
    assert says in answer.text
    assert says in courier.log.read_text()
    assert "Traceback" not in courier.log.read_text()
    assert courier.output.read_text() == good
    courier.edit(name, after, before)
    until(
        lambda: courier.metric("dolcevita_config_last_reload_successful") == 1,
        "the mended file is in use",
        FOLLOWS_WITHIN,
    )
    assert requests.post(f"{courier.url}/-/reload", timeout=10).status_code == 200


@pytest.mark.parametrize("amtool_at_hand", [False], ids=["without-amtool"])
def test_what_alertmanager_itself_refuses_does_not_stay_on_disk(
    stack: Stack, amtool_at_hand: bool
) -> None:
    courier = stack.courier
    stack.edit("people.yml", "{webhook: '", "{apprise: 'json://127.0.0.1/x'}, {webhook: '")
    good = courier.output.read_text()
    courier.edit("people.yml", "{webhook: '", "{pagerduty_configs: {routing_ke: abc}}, {webhook: '")
    until(
        lambda: courier.metric("dolcevita_config_last_reload_successful") == 0,
        "the refusal",
        FOLLOWS_WITHIN,
    )
    until(lambda: courier.output.read_text() == good, "the last good file is back")
    assert "Alertmanager refuses it" in courier.log.read_text()
    stack.running.kill()
    stack.running.start()


def test_apprise_message_goes_through_the_courier(stack: Stack) -> None:
    address = stack.receiver.url("apprise-secret").removeprefix("http://")
    stack.edit("people.yml", "{webhook: '", f"{{apprise: 'json://{address}'}}, {{webhook: '")
    stack.receiver.answer = lambda path: 200 if stack.receiver.at("failed") else fail(path)

    def fail(path: str) -> int:
        if "apprise" in path:
            stack.receiver.posts.append(("/failed", None))
            return 500
        return 200

    stack.running.post(alert("SiteDown", site="shop", reason="timeout", provider="infogerance"))
    until(lambda: stack.receiver.at("apprise-secret"), "the second attempt", 40)
    [message] = stack.receiver.at("apprise-secret")
    assert message["message"] == "DOWN shop: no answer in time"
    assert len(stack.receiver.at("failed")) == 1
    channel = "provider-infogerance-0"
    assert requests.post(f"{stack.courier.url}/notify/{channel}x", json={"alerts": []}, timeout=5
                         ).status_code == 404  # fmt: skip
    assert requests.post(f"{stack.courier.url}/notify/{channel}", data="x", timeout=5
                         ).status_code == 400  # fmt: skip
    assert stack.courier.metric("courier_notifications_failed_total") == 1
    for written in (stack.courier.log.read_text(), stack.courier.output.read_text()):
        assert "apprise-secret" not in written


def test_holidays_are_compiled_anew_when_those_that_are_known_come_to_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        year_now = 2027

        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Clock":
            return cls(cls.year_now, 1, 1, tzinfo=tz)

    monkeypatch.setattr(configuration, "datetime", Clock)
    monkeypatch.setattr(configuration, "CALENDAR_SECONDS", 0.2)
    monkeypatch.setattr(configuration, "POLL_SECONDS", 0.1)
    output = tmp_path / "alertmanager.yml"

    def last_year() -> int:
        return max(map(int, re.findall(r"years:\n *- '(\d+)'", output.read_text())))

    async def follow(folder: Path) -> None:
        async with aiohttp.ClientSession() as session:
            nobody = f"http://127.0.0.1:{free_port()}"
            followed = configuration.Configuration(
                files(folder, output),
                nobody,
                Alertmanager(session, nobody),
                session,
                nobody,
                CollectorRegistry(),
            )
            following = asyncio.create_task(followed.follow())
            await asyncio.to_thread(until, output.exists, "the first file")
            assert last_year() == 2029
            Clock.year_now = 2028
            await asyncio.to_thread(until, lambda: last_year() == 2030, "holidays of 2030")
            following.cancel()

    with receiving() as receiver:
        folder = project(tmp_path / "project", receiver)
        path = folder / "people.yml"
        holidays = "{name: marie, quiet: {public_holidays: FR},"
        path.write_text(path.read_text().replace("{name: marie,", holidays))
        asyncio.run(follow(folder))


def test_alertmanager_is_told_to_deliver_at_the_address_it_reaches(tmp_path: Path) -> None:
    output = tmp_path / "compiled.yml"
    nowhere = f"http://127.0.0.1:{free_port()}"
    with receiving() as receiver:
        folder = project(tmp_path / "project", receiver)
    people = folder / "people.yml"
    people.write_text(
        people.read_text().replace("{webhook: '", "{apprise: 'json://x'}, {webhook: '")
    )
    option = "--courier-url=http://courier.example.com:1234"
    with courier(folder, output, nowhere, nowhere, None, option):
        assert "http://courier.example.com:1234/notify/provider-infogerance-0" in output.read_text()


@contextmanager
def prometheus(found: Programs, folder: Path) -> Iterator[str]:
    """The URL of a Prometheus on the rules in `folder`/prometheus/rules."""
    config = folder / "prometheus/prometheus.yml"
    config.write_text("rule_files: [rules/*.yml]\n")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [found.prometheus, f"--config.file={config}", "--web.enable-lifecycle"]
    command += [f"--storage.tsdb.path={folder}/tsdb", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "prometheus.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        until(lambda: _answers(f"{url}/-/ready"), "Prometheus is ready")
        yield url
    finally:
        process.terminate()
        process.wait(20)


def write_rule(folder: Path, record: str, value: int = 1) -> None:
    rules = f"[{{record: '{record}', expr: vector({value})}}]"
    (folder / "prometheus/rules/mine.yml").write_text(
        f"groups: [{{name: g, interval: 1s, rules: {rules}}}]\n"
    )


@pytest.mark.parametrize("end", ["oldest", "newest"])
def test_prometheus_follows_an_edit_of_its_rules(end: str, tmp_path: Path) -> None:
    with receiving() as receiver:
        folder = project(tmp_path / "project", receiver)
    nowhere = f"http://127.0.0.1:{free_port()}"
    with prometheus(programs(end), folder) as url:

        def rules() -> str:
            return requests.get(f"{url}/api/v1/rules", timeout=5).text

        with courier(folder, tmp_path / "compiled.yml", nowhere, url, None):
            write_rule(folder, "a_name")
            until(lambda: "a_name" in rules(), "the new rule", FOLLOWS_WITHIN)
        # An edit that was made while no courier ran is not missed.
        time.sleep(0.01)
        write_rule(folder, "another")
        with courier(folder, tmp_path / "compiled.yml", nowhere, url, None):
            until(lambda: "another" in rules(), "the edited rule", FOLLOWS_WITHIN)


def test_one_of_a_pair_of_prometheus_has_alertmanagers_while_it_leads(tmp_path: Path) -> None:
    with receiving() as receiver:
        folder = project(tmp_path / "project", receiver)
    nowhere = f"http://127.0.0.1:{free_port()}"

    def asked() -> requests.Response:
        return requests.get(f"{serving.url}/alertmanagers?at=a:9093&at=b:9093", timeout=10)

    def found() -> object:
        return asked().json() if asked().ok else None

    with (
        prometheus(programs("newest"), folder) as url,
        courier(folder, tmp_path / "compiled.yml", nowhere, url, None) as serving,
    ):
        assert found() == []
        write_rule(folder, "own:leads", 1)
        until(lambda: found() == [{"targets": ["a:9093", "b:9093"]}], "it leads", 30)
        write_rule(folder, "own:leads", 0)
        until(lambda: found() == [], "it does not lead", 30)
        write_rule(folder, "own:leads", 1)
        until(lambda: found() != [], "it leads again", 30)
        # What it said last says nothing of now.
        write_rule(folder, "something:else")
        until(lambda: found() == [], "it says nothing of it", 30)
    with courier(folder, tmp_path / "compiled.yml", nowhere, nowhere, None) as serving:
        assert asked().status_code == 503


def test_first_start_with_bad_files_is_one_sentence(tmp_path: Path) -> None:
    with receiving() as receiver:
        folder = project(tmp_path / "project", receiver)
    (folder / "people.yml").unlink()
    with pytest.raises(ConfigError, match=r"people\.yml: no such file"):
        prepare(files(folder, tmp_path / "compiled.yml"), "http://127.0.0.1:9")
    assert not (tmp_path / "compiled.yml").exists()


def test_port_that_is_taken_is_one_sentence(tmp_path: Path) -> None:
    with receiving() as receiver:
        folder = project(tmp_path / "project", receiver)
        command = [str(Path(sys.executable).with_name("dolcevita")), "courier"]
        command += ["--output", str(tmp_path / "compiled.yml")]
        command += ["--listen", f"127.0.0.1:{receiver.port}"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30)
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1 port {receiver.port}" in done.stderr
    assert "Traceback" not in done.stderr


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.ConnectionError:
        return False
