"""`dolcevita init` with a real site, channels that record, and a terminal."""

import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message as MessageHandler

from alertmanagers import Receiver, receiving
from dolcevita import probes
from dolcevita.config import Config, load
from dolcevita.init.files import EXAMPLES
from waiting import free_port

ROOT = Path(__file__).parents[2]
DOLCEVITA = Path(sys.executable).with_name("dolcevita")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Takes what is posted to it, and is a site as well."""
    with receiving() as receiver:
        yield receiver


def options(receiver: Receiver, *more: str) -> list[str]:
    return [
        *("--site", f"tcp://127.0.0.1:{receiver.port}", "--no-input"),
        *("--provider", "infogerance", "--provider-notify", receiver.url("provider")),
        *("--provider-language", "fr", "--owner", "marie"),
        *("--owner-notify", f"json://127.0.0.1:{receiver.port}/owner"),
        *("--timezone", "Europe/Paris", "--quiet-hours", "19:00-09:00", "--weekends"),
        *("--public-holidays", "FR", "--away", "2099-07-10..2099-07-25"),
        *more,
    ]


def init(folder: Path, *words: str, typed: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DOLCEVITA, "init", *words],
        cwd=folder,
        input=typed,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "LANG": "C.UTF-8"},
    )


def loaded(folder: Path) -> Config:
    return load(folder / "sites.yml", folder / "people.yml", probes.KINDS, probes.PLANNED)


def test_options_become_two_files_that_load_with_nothing_tried_unasked(
    receiver: Receiver, tmp_path: Path
) -> None:
    done = init(tmp_path, *options(receiver))
    assert done.returncode == 0, done.stderr
    assert receiver.posts == []
    config = loaded(tmp_path)
    [site], [provider], [owner] = config.sites, config.providers, config.owners
    assert site.url == f"tcp://127.0.0.1:{receiver.port}"
    assert (provider.name, provider.language) == ("infogerance", "fr")
    assert [channel.kind for channel in provider.notify] == ["webhook"]
    assert [channel.kind for channel in owner.notify] == ["apprise"]
    assert owner.timezone == "Europe/Paris"
    assert owner.quiet is not None
    assert (owner.quiet.weekends, owner.quiet.public_holidays) == (True, "FR")
    assert [first.isoformat() for first, _ in owner.quiet.away] == ["2099-07-10"]
    assert "# On call round the clock" in (tmp_path / "people.yml").read_text()


def test_site_is_probed_and_each_channel_gets_one_message_that_says_it_is_a_test(
    receiver: Receiver, tmp_path: Path
) -> None:
    done = init(tmp_path, *options(receiver, "--try"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is well" in done.stdout
    [page] = receiver.at("provider")
    assert page["alerts"][0]["annotations"]["summary"].startswith("Dolce Vita : ceci est un essai")
    [message] = receiver.at("owner")
    assert "this is a test, nothing is down" in message["message"]


def test_what_does_not_work_is_said_and_the_files_are_written_all_the_same(
    receiver: Receiver, tmp_path: Path
) -> None:
    receiver.answer = lambda path: 500 if path == "/provider" else 200
    dead = f"http://127.0.0.1:{free_port()}/"
    done = init(tmp_path, *options(receiver, "--try", "--site", dead))
    assert done.returncode == 2
    assert "is not well" in done.stdout
    assert "webhook 1 of infogerance: does not work: it answers with status 500" in done.stdout
    assert len(loaded(tmp_path).sites) == 2


def test_nothing_is_tried_where_that_is_not_wanted(receiver: Receiver, tmp_path: Path) -> None:
    done = init(tmp_path, *options(receiver, "--no-try"))
    assert done.returncode == 0
    assert receiver.posts == []
    assert "is well" not in done.stdout


def test_names_that_yaml_might_take_for_something_else_are_quoted(
    receiver: Receiver, tmp_path: Path
) -> None:
    words = ("--provider", "no", "--owner", "1234", "--public-holidays", "NO", "--no-try")
    assert init(tmp_path, *options(receiver, *words)).returncode == 0
    people = yaml.safe_load((tmp_path / "people.yml").read_text())
    assert people["providers"][0]["name"] == "no"
    assert people["owners"][0]["name"] == "1234"
    assert people["owners"][0]["quiet"]["public_holidays"] == "NO"
    assert loaded(tmp_path).owners[0].name == "1234"


@pytest.mark.parametrize("name", ["sites.yml", "people.yml"])
def test_a_file_that_is_there_is_kept_and_nothing_is_written(
    receiver: Receiver, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).write_text("mine\n")
    done = init(tmp_path, *options(receiver, "--try"))
    assert done.returncode == 1
    assert f"{name}: there already, and never overwritten" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_text() == "mine\n"
    assert receiver.posts == []


def test_untouched_examples_make_room_and_edited_ones_do_not(
    receiver: Receiver, tmp_path: Path
) -> None:
    for name in ("sites.yml", "people.yml"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    assert init(tmp_path, *options(receiver)).returncode == 0
    assert loaded(tmp_path).owners[0].name == "marie"
    assert init(tmp_path, *options(receiver)).returncode == 1


def test_examples_are_known_by_what_they_are_now() -> None:
    from hashlib import sha256

    shipped = {
        sha256((ROOT / name).read_bytes()).hexdigest() for name in ("sites.yml", "people.yml")
    }
    assert shipped <= EXAMPLES, "list the new digest in init/files.py, and keep the old one"


def test_what_is_missing_or_wrong_is_one_sentence_and_writes_nothing(
    receiver: Receiver, tmp_path: Path
) -> None:
    for words, expected in (
        (["--no-input"], "say also --site, --provider-notify, --owner-notify"),
        (options(receiver, "--site", "shop example"), "--site: "),
        (options(receiver, "--public-holidays", "France"), "did you mean 'FR'?"),
        (options(receiver, "--owner-notify", "+33 6"), "expected a mail address"),
        (options(receiver, "--away", "2099-07-25..2099-07-10"), "is reversed"),
        (options(receiver, "--away", "2020-07-10..2020-07-25"), "is over"),
    ):
        done = init(tmp_path, *words)
        assert done.returncode == 1
        assert expected in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert list(tmp_path.iterdir()) == []


def test_mail_is_tried_through_the_server_that_alertmanager_uses(
    receiver: Receiver, tmp_path: Path
) -> None:
    class Handler(MessageHandler):
        def handle_message(self, message) -> None:  # type: ignore[no-untyped-def]
            mails.append(message)

    mails: list[object] = []
    controller = Controller(Handler(), hostname="127.0.0.1", port=free_port())
    controller.start()
    try:
        base = tmp_path / "base.yml"
        smarthost = f"127.0.0.1:{controller.port}"
        base.write_text(f"global: {{smtp_smarthost: '{smarthost}', smtp_require_tls: false}}\n")
        words = options(receiver, "--try", "--owner-notify", "marie@example.com")
        assert init(tmp_path, *words, "--base", str(base)).returncode == 0
    finally:
        controller.stop()
    [mail] = mails
    assert mail["To"] == "marie@example.com"  # type: ignore[index]
    (tmp_path / "sites.yml").unlink()
    (tmp_path / "people.yml").unlink()
    done = init(tmp_path, *words, "--base", str(base))
    assert done.returncode == 2
    assert f"the mail server {smarthost}" in done.stdout


def test_questions_are_asked_again_until_the_answer_is_good(
    receiver: Receiver, tmp_path: Path
) -> None:
    site = f"tcp://127.0.0.1:{receiver.port}"
    answers = [
        *("nonsense", site, "infogerance", "a phone", receiver.url("provider"), "de", "FR"),
        *("marie", receiver.url("owner"), "", "Paris", "Europe/Paris", "evenings", ""),
        *("y", "France", "FR", "2099-07-25..2099-07-10", "-", "y", "n"),
    ]
    done = init(tmp_path, typed="".join(f"{answer}\n" for answer in answers))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "did you mean 'Europe/Paris'?" in done.stderr
    assert "is reversed; taken as 2099-07-10..2099-07-25, write it so" in done.stderr
    owner = loaded(tmp_path).owners[0]
    assert owner.language == "fr"
    assert owner.quiet is not None
    assert owner.quiet.public_holidays == "FR"
    assert len(receiver.at("provider")) == 1
    assert receiver.at("owner") == []


def test_input_that_ends_early_writes_nothing(tmp_path: Path) -> None:
    done = init(tmp_path, typed="http://127.0.0.1/\n")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "nothing was written"
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_enter_takes_what_is_proposed(receiver: Receiver, tmp_path: Path) -> None:
    site = f"tcp://127.0.0.1:{receiver.port}"
    given = [
        "--site",
        site,
        "--provider-notify",
        "a@example.com",
        "--owner-notify",
        "b@example.com",
    ]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [DOLCEVITA, "init", *given, "--timezone", "UTC", "--no-try"],
        cwd=tmp_path, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, b"\n" * 8)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    assert process.wait(30) == 0, shown.decode()
    assert b"Quiet hours, - for none [19:00-09:00]" in shown
    owner = loaded(tmp_path).owners[0]
    assert owner.quiet is not None
    assert owner.quiet.weekends


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:
        # The other side has ended (Linux).
        return b""
