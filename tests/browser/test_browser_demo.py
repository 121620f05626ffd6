"""The demo as a visitor lives it: the button, both phones, the transcript, and the end."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
import yaml
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from binaries import version_ends
from dolcevita.alerting.routing import Compiled
from dolcevita.config import UserError
from waiting import free_port, until

ROOT = Path(__file__).parents[2]
LOOK_AT = {"paged": "demo-paged", "recovered": "demo-night", "over": "demo-over"}


class Demo:
    """`dolcevita demo` in the repository's own folder, with a data folder and a page of its own."""

    def __init__(
        self, folder: Path, end: str, *options: str, language: str = "en_GB.UTF-8"
    ) -> None:
        try:
            programs = version_ends()[end].prometheus.parent
        except UserError as error:
            pytest.skip(str(error))
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        with (folder / "output").open("wb") as output:
            self.process = subprocess.Popen(
                [
                    *(Path(sys.executable).with_name("dolcevita"), "demo"),
                    *(f"--port={self.port}", *options),
                ],
                cwd=ROOT,
                env={
                    **os.environ,
                    "DOLCEVITA_DATA": str(folder),
                    "DOLCEVITA_RUNTIME": "native",
                    "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
                    "LC_ALL": language,
                },
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def output(self) -> str:
        return (self.folder / "output").read_text()

    def says(self, words: str, within: float = 180) -> None:
        until(
            lambda: words in self.output() or self.process.poll() is not None, self.output, within
        )
        assert words in self.output(), self.output()

    def left(self) -> list[str]:
        """The commands that still run on this demo's files or for its page."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                command = entry.read_bytes().decode(errors="replace").replace("\0", " ")
            except OSError:
                continue
            if str(self.folder) in command or f"--port={self.port}" in command:
                found.append(command)
        return found

    def quiet_until(self) -> float:
        """When the owner's quiet hours of today end, in unix seconds."""
        people = yaml.safe_load((self.folder / "demo/project/people.yml").read_text())
        hour, minute = people["owners"][0]["quiet"]["hours"].partition("-")[2].split(":")
        now = datetime.now(UTC)
        end = now.replace(hour=int(hour), minute=int(minute), second=0, microsecond=0)
        # The test may run over midnight.
        return min((end.timestamp() + day for day in (-86400, 0, 86400)), key=self._distance)

    def _distance(self, at: float) -> float:
        return abs(at - time.time())


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Callable[..., Demo]]:
    made: list[Demo] = []

    def start(end: str, *options: str, **more: str) -> Demo:
        made.append(Demo(tmp_path, end, *options, **more))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.terminate()
            one.process.wait(60)


def stage(page: Page) -> str:
    return str(page.locator("body").get_attribute("data-stage"))


def messages(page: Page, phone: str) -> list[str]:
    """What a phone shows, newest first, and only if its screen is lit."""
    texts = page.locator(f"#{phone} .messages .text").all_inner_texts()
    screen = page.locator(f"#{phone} .lock")

    def lit() -> bool:
        return bool(screen.evaluate("e => getComputedStyle(e).opacity") != "0")

    until(lambda: lit() == bool(texts), f"its screen is lit with {texts}", within=2)  # it fades in
    return texts


def edges(page: Page) -> list[tuple[float, float]]:
    """Where the phones begin and end, from the left of the page."""
    boxes = [page.locator(f"#{name} .case").bounding_box() for name in ("provider", "owner")]
    return [(box["x"], box["x"] + box["width"]) for box in boxes if box]


def test_both_phones_tell_the_story_to_whoever_presses_the_button(
    demo: Callable[..., Demo], browser: Browser, shots: Path
) -> None:
    played = demo("newest")
    played.says(played.url)
    context = browser.new_context(locale="en-GB", viewport={"width": 1280, "height": 800})
    page = context.new_page()
    wrong: list[str] = []
    asked: set[str] = set()
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else 0)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.add("/".join(request.url.split("/")[:3]) + "/"))
    page.goto(played.url)
    # When the owner's screen gets something, what is it then on the story's clock?
    page.evaluate(
        """() => {
          window.seen = [];
          new MutationObserver(() => seen.push(
            [document.body.dataset.stage, document.getElementById("time").textContent, Date.now()]
          )).observe(document.querySelector("#owner .messages"), { childList: true });
        }"""
    )

    def look(at: str, settled: float = 1500) -> None:
        if at in LOOK_AT:
            page.wait_for_timeout(settled)
            page.screenshot(path=shots / f"{LOOK_AT[at]}.png")

    def wait_for(wanted: str, within: float) -> None:
        until(lambda: stage(page) in (wanted, "failed"), played.output, within)
        assert stage(page) == wanted, played.output()

    wait_for("dinner", 180)
    assert messages(page, "provider") == messages(page, "owner") == []
    assert not page.locator("#repair").is_visible()
    page.locator("#crash").click()
    wait_for("crashed", 10)
    crashed = time.time()
    wait_for("paged", 60)
    assert time.time() - crashed < 60
    (text,) = messages(page, "provider")
    assert text == "DOWN la-boutique: no connection, since 14/07 20:13"
    with page.expect_popup() as seen:
        page.locator("#provider .messages a").click()
    assert "la-boutique" in seen.value.locator("h1").first.inner_text()
    seen.value.close()
    serious = [
        violation
        for violation in Axe().run(page).response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]
    assert not serious
    look("paged")
    assert not messages(page, "owner")
    page.locator("#repair").click()
    wait_for("recovered", 60)
    recovered, quiet_until = time.time(), played.quiet_until()
    assert recovered < quiet_until
    newest, _ = messages(page, "provider")
    assert newest.startswith("UP la-boutique again after ")
    assert not messages(page, "owner")
    compiled = Compiled((played.folder / "demo/alertmanager.yml").read_text(), Path())
    muting = compiled.mutings["quiet/marie"]
    assert muting.left(datetime.now(UTC)) == datetime.fromtimestamp(quiet_until, UTC)
    page.wait_for_timeout(max(0.0, quiet_until - time.time()) * 1000 * 0.28)
    look("recovered", settled=0)
    assert not messages(page, "owner")
    wait_for("over", max(0.0, quiet_until - time.time()) + 90)
    (told,) = messages(page, "owner")
    assert re.fullmatch(
        r"la-boutique was down 14/07 20:13 for [\dms ]+ \(no connection\). "
        r"It is fixed, nothing to do.",
        told,
    )
    ((at_stage, clock, at),) = page.evaluate("seen")
    assert (at_stage, clock) == ("morning", "09:00")
    assert at / 1000 >= quiet_until
    edit = page.locator(".yours li code").all_inner_texts()
    assert edit == ["sites.yml", "people.yml", "make up"]
    look("over")
    french = browser.new_context(locale="fr-FR", viewport={"width": 390, "height": 844})
    phone = french.new_page()
    phone.goto(played.url)
    assert "C'est réparé, rien à faire" in messages(phone, "owner")[0]
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.screenshot(path=shots / "demo-phone-fr.png")
    for width in (360, 820, 1024):
        phone.set_viewport_size({"width": width, "height": 1180})
        assert all(0 <= left < right <= width for left, right in edges(phone)), width
    french.close()
    context.close()
    assert not wrong
    assert asked == {played.url}
    played.process.send_signal(signal.SIGINT)
    assert played.process.wait(30) == 0
    assert played.left() == []


def test_by_itself_it_ends_well_and_leaves_a_transcript(demo: Callable[..., Demo]) -> None:
    played = demo("oldest", "--auto", language="fr_FR.UTF-8")
    played.says(played.url)
    assert requests.post(f"{played.url}crash", timeout=5).status_code == 409
    assert played.process.wait(240) == 0, played.output()
    said = [line.split("  ")[-1] for line in played.output().splitlines()]
    told = [line.partition(": ") for line in said if line.startswith("téléphone de ")]
    assert [(phone, text.split()[0]) for phone, _, text in told] == [
        ("téléphone de l'infogérant", "PANNE"),
        ("téléphone de l'infogérant", "OK"),
        ("téléphone de Marie", "la-boutique"),
    ]
    assert "make up" in said[-1]
    assert played.left() == []


def test_interrupted_it_leaves_nothing_behind_and_does_not_claim_success(
    demo: Callable[..., Demo],
) -> None:
    played = demo("oldest", "--auto")
    played.says("Marie is at dinner")
    assert len(played.left()) > 3
    played.process.send_signal(signal.SIGTERM)
    assert played.process.wait(30) == 1
    assert played.output().splitlines()[-1] == "stopped before the end of the story"
    assert played.left() == []
