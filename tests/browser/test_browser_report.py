"""The report of a month, over a stack with months of history."""

import json
import re
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from conftest import TOKEN, Watched
from dolcevita.words import words

DOLCEVITA = str(Path(sys.executable).with_name("dolcevita"))
PARIS = ZoneInfo("Europe/Paris")


def report(watched: Watched, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DOLCEVITA, "report", "--prometheus", watched.stack.prometheus_url, *arguments],
        cwd=watched.stack.folder,
        capture_output=True,
        text=True,
        check=False,
    )


def month_before() -> tuple[str, float, float]:
    """(2027-07, its begin, its end) of the last month in Paris."""
    end = datetime.now(PARIS).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    start = (end.replace(day=1) if end.month > 1 else end).replace(
        year=end.year - (end.month == 1), month=(end.month - 2) % 12 + 1
    )
    return f"{start:%Y-%m}", start.timestamp(), end.timestamp()


@pytest.mark.both_ends
def test_the_json_report_holds_what_prometheus_holds(watched: Watched) -> None:
    month, start, end = month_before()
    run = report(watched, "--owner", "marie", "--format", "json")
    assert run.returncode == 0, run.stderr
    data = json.loads(run.stdout)
    assert data["month"] == month and data["over"]
    mine = {name: s for name, s in watched.lived.items() if s.labels["owner"] == "marie"}
    sites = {site["name"]: site for site in data["sites"]}
    assert sites.keys() == {
        name for name, site in mine.items() if time.time() - site.watched_days * 86400 < end
    }
    lived = [
        (name, since, until, reason)
        for name, site in mine.items()
        for since, until, reason in site.down(watched.seeded)
        if since < end and until > start
    ]
    found = [(i["site"], i["seconds"], i["reason"]) for i in data["incidents"]]
    assert sorted(found) == sorted((name, u - s, reason) for name, s, u, reason in lived)
    assert all(i["planned"] == (i["site"] == "blog") for i in data["incidents"])
    repairs = [u - s for _, s, u, _ in lived]
    assert data["repair_seconds"] == (round(sum(repairs) / len(repairs)) if repairs else None)
    weights = {name: site["watched_seconds"] for name, site in sites.items()}
    assert data["availability"] == pytest.approx(
        sum(sites[name]["availability"] * weight for name, weight in weights.items())
        / sum(weights.values())
    )
    for name, site in sites.items():
        label = f'{{site="{name}"}}'
        held = watched.value(
            f"avg_over_time(site:probe_success:avg1m{label}[{int(end - start)}s] @ {end})"
        )
        assert site["availability"] == pytest.approx(held, abs=1e-9)
        down = sum(min(u, end) - max(s, start) for n, s, u, _ in lived if n == name)
        assert site["down_seconds"] == pytest.approx(down, abs=1)
        assert 1 - site["availability"] == pytest.approx(down / (end - start), abs=0.02)
        assert site["objective"] == pytest.approx(0.999)
    assert data["spared"] == len(lived), "each was told hours after its end"


def test_the_page_reads_and_prints_without_anything_beside_it(
    watched: Watched, browser: Browser, tmp_path: Path
) -> None:
    month, _, _ = month_before()
    file = tmp_path / "report.html"
    run = report(watched, "--owner", "paul", "--month", month, "--output", str(file))
    assert run.returncode == 0, run.stderr
    text = file.read_text()
    assert not re.search(r"(src|href)=|@import|url\(", text), "nothing is loaded"
    page = browser.new_page(viewport={"width": 900, "height": 1200}, device_scale_factor=2)
    page.goto(file.as_uri())
    assert "café <b>Léon</b>" in page.locator("table").first.inner_text()
    assert page.locator("b").count() == 0
    serious = [
        v["id"]
        for v in Axe().run(page).response["violations"]
        if v["impact"] in ("serious", "critical")
    ]
    assert not serious
    assert len(page.pdf(format="A4")) > 1000
    page.close()


def test_the_markdown_report_is_in_the_owners_language_and_takes_no_markup(
    watched: Watched,
) -> None:
    run = report(watched, "--owner", "marie")
    assert run.returncode == 0, run.stderr
    french = words("fr")
    assert run.stdout.startswith("# ") and "comment se sont portés vos sites" in run.stdout
    assert f"## {french('report_response')}" in run.stdout
    english = report(watched, "--owner", "paul").stdout
    assert r"café \<b\>Léon\</b\>" in english
    tables = [line for line in english.splitlines() if line.startswith("|")]
    assert tables and all(line.endswith("|") for line in tables)


def test_an_owners_page_has_their_report(watched: Watched, browser: Browser, shots: Path) -> None:
    month, _, _ = month_before()
    page = browser.new_page(viewport={"width": 900, "height": 1200}, device_scale_factor=2)
    errors: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    answer = page.goto(f"{watched.url}/status/marie/{TOKEN}/report/{month}")
    assert answer and answer.status == 200
    assert page.evaluate("getComputedStyle(document.body).maxWidth") == "800px", "it has its style"
    assert "mail" not in page.content() and "Léon" not in page.content()
    assert not [error for error in errors if "favicon" not in error and "404" not in error]
    page.screenshot(path=shots / "report-fr.png", full_page=True)
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    cell = page.locator("tbody td").first
    assert "A répondu" in cell.evaluate("cell => getComputedStyle(cell, '::before').content")
    assert not page.locator("thead").first.is_visible(), "each cell says what it is, instead"
    refused = page.goto(f"{watched.url}/status/marie/{TOKEN}/report/2019-13")
    assert refused and refused.status == 404
    page.close()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--owner", "mary"], "people.yml: no owner is named 'mary': did you mean 'marie'?"),
        ([], "--owner: people.yml has several: expected one of: marie, paul"),
        (["--owner", "paul", "--month", "July"], "--month: found 'July', expected a month such as"),
        (["--owner", "paul", "--month", "2990-01"], "--month: 2990-01 has not begun yet"),
        (["--owner", "paul", "--format", "pdf"], "--format: found 'pdf', expected one of: html"),
    ],
)
def test_a_mistake_is_told_in_a_sentence(
    watched: Watched, arguments: list[str], sentence: str
) -> None:
    run = report(watched, *arguments)
    assert run.returncode == 1
    assert sentence in run.stderr and "Traceback" not in run.stderr


def test_no_prometheus_is_told_in_a_sentence(tmp_path: Path, watched: Watched) -> None:
    run = subprocess.run(
        [DOLCEVITA, "report", "--owner", "paul", "--prometheus", "http://127.0.0.1:9"],
        cwd=watched.stack.folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1
    assert run.stderr.startswith("Prometheus on http://127.0.0.1:9 does not answer")
