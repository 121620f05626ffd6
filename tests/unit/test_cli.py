"""A mistake on the command line or in the files is one sentence and exit code 1."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from dolcevita.stack.packages import Programs
from waiting import free_port

ROOT = Path(__file__).parents[2]
SITES = "sites:\n  - name: shop\n    url: https://127.0.0.1:1/\n"
PEOPLE = """\
providers:
  - {name: infogerance, notify: [{email: oncall@example.com}]}
owners:
  - {name: marie, notify: [{email: marie@example.com}]}
"""
READERS = {
    "check": ["check"],
    "serve": ["serve", "--listen", "127.0.0.1:1"],
    "up": ["up"],
    "compile": ["compile"],
    "courier": ["courier", "--output", "compiled.yml", "--listen", "127.0.0.1:1"],
    "probe": ["probe", "shop"],
    "drill": ["drill", "shop"],
}
"""The commands that read the two files, as one would type them."""

OURS = ("DOLCEVITA_", "EXPORTER_", "COURIER_", "PROMETHEUS_", "ALERTMANAGER_", "GRAFANA_")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "alertmanager", tmp_path / "alertmanager")
    shutil.copytree(ROOT / "prometheus", tmp_path / "prometheus")
    (tmp_path / "sites.yml").write_text(SITES)
    (tmp_path / "people.yml").write_text(PEOPLE)
    return tmp_path


def run(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`dolcevita WORDS` in that folder, as a user would run it."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
    return subprocess.run(
        [Path(sys.executable).with_name("dolcevita"), *words],
        cwd=folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def refusal(folder: Path, *words: str, **variables: str) -> list[str]:
    """The lines that a refused command says on standard error."""
    done = run(folder, *words, **variables)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()


@pytest.mark.parametrize("words", READERS.values(), ids=READERS)
def test_missing_files_are_named_one_a_line(project: Path, words: list[str]) -> None:
    (project / "sites.yml").unlink()
    (project / "people.yml").unlink()
    told = refusal(project, *words)
    assert [line.partition(";")[0] for line in told] == [
        "sites.yml: no such file",
        "people.yml: no such file",
    ]


@pytest.mark.parametrize("words", READERS.values(), ids=READERS)
def test_what_is_wrong_in_both_files_is_told_with_its_lines(
    project: Path, words: list[str]
) -> None:
    (project / "sites.yml").write_text("sites:\n\t- https://www.example.com\n")
    (project / "people.yml").write_text(PEOPLE.replace("email: marie", "emial: marie"))
    # Whatever `up` would run in, it must not get that far.
    told = refusal(project, *words, DOLCEVITA_RUNTIME="native")
    assert told == [
        "sites.yml:2: not YAML: found a tab at the beginning; "
        "indent the lines that belong together alike, with spaces",
        "people.yml:4: notify: unknown channel 'emial': did you mean 'email'?",
    ]


def test_files_may_be_named_by_option_and_variable(project: Path) -> None:
    told = refusal(project, "check", "--sites", "mine.yml", DOLCEVITA_PEOPLE="us.yml")
    assert [line.partition(":")[0] for line in told] == ["mine.yml", "us.yml"]


@pytest.mark.parametrize(
    "listen",
    [
        "", "9714", "localhost", ":9714", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536",
        "127.0.0.1:http", "127.0.0.1:-1", "127.0.0.1:\u00b2", "..:9714", "a..b:9714", "::1:9714",
        "[::1:9714", "my host:9714", "http://127.0.0.1:9714", "127.0.0.1:9714/metrics",
        "me@127.0.0.1:9714", "127.0.0.256:9714",
    ],
)  # fmt: skip
def test_bad_listen_address_is_one_sentence(project: Path, listen: str) -> None:
    assert refusal(project, "serve", "--listen", listen) == [
        f"--listen: found '{listen}', expected HOST:PORT such as 127.0.0.1:9714 or [::1]:9714"
    ]


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_address_that_cannot_be_listened_on_is_told(project: Path, host: str) -> None:
    port = free_port()
    *_, told = refusal(project, "serve", "--listen", f"{host}:{port}")
    assert told.startswith(f"Cannot listen on {host} port {port} (")


@pytest.mark.parametrize(
    ("output", "told"),
    [
        (".", "--output: . is a folder, expected the name of a file"),
        ("sites.yml/new.yml", "--output: sites.yml/new.yml cannot be written: "),
    ],
)
def test_compiled_file_that_cannot_be_written_is_told(
    project: Path, output: str, told: str
) -> None:
    before = sorted(project.parent.rglob("*"))
    [line] = refusal(project, "compile", "--output", output)
    assert line.startswith(told)
    assert sorted(project.parent.rglob("*")) == before


def test_base_file_that_is_missing_is_told(project: Path) -> None:
    [line] = refusal(project, "compile", "--base", "mine.yml")
    assert line == "mine.yml: no such file; create it, or name another one"


def test_site_that_does_not_exist_is_told_with_the_nearest_name(project: Path) -> None:
    assert refusal(project, "probe", "shp") == [
        "sites.yml: no site is named 'shp': did you mean 'shop'?"
    ]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("https://[::1", "whose host cannot be read"),
        ("https://exa mple", "which has a space or line break"),
        ("htps://example.com", "did you mean 'https'?"),
        ("https://example.com:99999", "whose port is not a number from 1 to 65535"),
        ("https://", "which has no host"),
        ("https://marie:s3cret@example.com", "holds a user name or password"),
    ],
)
def test_url_that_cannot_be_probed_is_told(project: Path, url: str, told: str) -> None:
    [line] = refusal(project, "probe", url)
    assert line.startswith("NAME-or-URL: ")
    assert told in line
    assert "s3cret" not in line


def test_probe_of_a_site_that_is_down_is_no_mistake(project: Path) -> None:
    done = run(project, "probe", "shop")
    assert done.returncode == 2
    assert "FAILED (connect)" in done.stdout
    assert done.stderr == ""


def test_check_says_what_it_checked(project: Path, programs: Programs) -> None:
    done = run(project, "check", PATH=f"{programs.amtool.parent}:{os.environ['PATH']}")
    assert done.returncode == 0, done
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "sites.yml",
        "people.yml",
        "alertmanager/alertmanager.yml",
        "prometheus/prometheus.yml",
    ]


def test_check_names_the_block_that_alertmanager_refuses(project: Path, programs: Programs) -> None:
    block = "pagerduty_configs: [{routing_ke: abcdefghij}]"
    (project / "people.yml").write_text(PEOPLE.replace("email: oncall@example.com", block))
    told = refusal(project, "check", PATH=f"{programs.amtool.parent}:{os.environ['PATH']}")
    assert told == [
        "people.yml:2: pagerduty_configs: Alertmanager refuses it: "
        "field routing_ke not found in type config.plain"
    ]


def test_check_outside_the_project_folder_says_where_to_go(project: Path) -> None:
    shutil.rmtree(project / "prometheus")
    [line] = refusal(project, "check")
    assert line.startswith("prometheus/prometheus.yml: no such file; it comes with Dolce Vita")


@pytest.mark.parametrize("command", ["check", "up"])
def test_bad_variable_is_named(project: Path, command: str) -> None:
    assert refusal(project, command, EXPORTER_PORT="http") == [
        "EXPORTER_PORT is 'http', expected a port number from 1 to 65535"
    ]


def test_warning_does_not_stop_a_command(project: Path) -> None:
    text = PEOPLE.replace("marie, ", 'marie, quiet: {away: "2020-01-02..2020-01-03"}, ')
    (project / "people.yml").write_text(text)
    done = run(project, "compile")
    assert done.returncode == 0
    assert (
        done.stderr
        == "warning: people.yml:4: away: '2020-01-02..2020-01-03' is over; take it out\n"
    )
