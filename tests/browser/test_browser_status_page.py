"""The status page as visitors see it, over a stack with months of history."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from conftest import LONG, TOKEN, Watched
from dolcevita.words import words
from waiting import until

PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}

DAYS = {"24h": 1, "7d": 7, "30d": 30, "90d": 90}

LOOKS = {
    "desktop-light-en": (DESKTOP, "light", "en-GB"),
    "desktop-dark-fr": (DESKTOP, "dark", "fr-FR"),
    "phone-light-fr": (PHONE, "light", "fr-FR"),
    "phone-dark-en": (PHONE, "dark", "en-GB"),
}


@contextmanager
def visiting(
    browser: Browser, url: str, look: str = "desktop-light-en", **options
) -> Iterator[Page]:
    """A page loaded as a visitor with that look has it, who sees no error in the console."""
    viewport, scheme, locale = LOOKS[look]
    context = browser.new_context(
        viewport=viewport, color_scheme=scheme, locale=locale, device_scale_factor=2, **options
    )
    page = context.new_page()
    errors: list[str] = []
    asked: list[str] = []
    page.on(
        "console", lambda message: errors.append(message.text) if message.type == "error" else 0
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(url)
    try:
        yield page
        assert not errors
        assert {"/".join(u.split("/")[:3]) for u in asked} == {"/".join(url.split("/")[:3])}
    finally:
        context.close()


def text(page: Page, selector: str) -> str:
    return " ".join(page.locator(selector).first.inner_text().split())


def row(page: Page, name: str) -> str:
    return " ".join(
        page.locator("li.site", has=page.get_by_role("link", name=name)).inner_text().split()
    )


@pytest.mark.parametrize("look", LOOKS)
def test_it_reads_well_on_every_screen_and_axe_finds_nothing_serious(
    watched: Watched, browser: Browser, shots: Path, look: str
) -> None:
    with visiting(browser, watched.url + "/", look) as page:
        assert page.locator("html").get_attribute("lang") == look[-2:]
        assert words(look[-2:])("some_down_one") in text(page, ".headline")
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= LOOKS[look][0]["width"], "nothing scrolls sideways"
        serious = [
            violation
            for violation in Axe().run(page).response["violations"]
            if violation["impact"] in ("serious", "critical")
        ]
        assert not serious, [(v["id"], [n["html"] for n in v["nodes"]]) for v in serious]
        page.screenshot(path=shots / f"status-{look}.png", full_page=True)


@pytest.mark.both_ends
def test_it_shows_what_prometheus_holds(watched: Watched, browser: Browser) -> None:
    english = words("en")
    with visiting(browser, watched.url + "/") as page:
        for name in watched.lived:
            label = f'site="{name}"'
            shown = row(page, name)
            held = watched.value(f'site:availability:ratio{{{label},window="90d"}}')
            if name != watched.down:
                assert f"Availability {english.percent(held)}" in shown, name
            for what in ("certificate", "domain"):
                days = watched.value(f"last_over_time(site:{what}:days{{{label}}}[1h])")
                told = "expired" if days < 0 else f"{int(days)} days"
                assert f"{what.capitalize()} {told}" in shown
    for name, lived in watched.lived.items():
        with visiting(browser, f"{watched.url}/?site={name}") as page:
            for window in DAYS:
                held = watched.value(f'site:availability:ratio{{site="{name}",window="{window}"}}')
                label = english("availability_in", DAYS[window])
                shown = re.search(rf"{label} (\S+)%", text(page, ".facts"))
                # That of the site that is down changes all the while.
                tolerance = 0.2 if name == watched.down else 0.01
                assert shown and float(shown[1]) == pytest.approx(100 * held, abs=tolerance), name
            days_held = watched.stack.query(
                f'sort_desc(count_over_time(incident:opened:timestamp_seconds{{site="{name}"}}[90d]))'
            )
            incidents = page.locator("section[aria-labelledby=past] ol li")
            assert incidents.count() == len(days_held) - (name == watched.down)
            for outage, line in zip(
                sorted(lived.outages, key=lambda outage: outage.days_ago),
                incidents.all_inner_texts(),
                strict=True,
            ):
                assert english.reason(outage.reason) in line
                assert english.lasting(outage.seconds) in line
                assert ("during maintenance" in line) == outage.planned


def test_answer_times_are_those_of_prometheus(watched: Watched, browser: Browser) -> None:
    english = words("en")

    def others() -> list[str]:
        """The sites whose time is not one that Prometheus has written of late."""
        held = {
            series["metric"]["site"]: [float(value) for _, value in series["values"]]
            for series in watched.stack.query("site:probe_duration_seconds:median5m[3m]")
        }
        sites = requests.get(f"{watched.url}/status.json", timeout=10).json()["sites"]
        return [
            site["name"]
            for site in sites
            if site["name"] != watched.down
            and site["answer_seconds"] not in held.get(site["name"], ())
        ]

    # Prometheus writes them a minute after its start.
    until(lambda: not others(), lambda: f"the times of {others()}", within=120)
    hour = time.time() // 3600 * 3600
    hours = 'site:probe_duration_seconds:median1h{site="shop"}[23h30m:1h]'
    expected = set()
    # The page may have asked before the hour was full.
    for at in (hour, hour - 3600):
        low, high = (
            watched.value(f"{which}_over_time({hours} @ {at})") for which in ("min", "max")
        )
        expected.add(english("spark_label", low=english.took(low), high=english.took(high)))
    with visiting(browser, f"{watched.url}/?site=shop") as page:
        assert page.locator("svg.spark").get_attribute("aria-label") in expected
        assert str(page.locator("svg.spark path").get_attribute("d")).startswith("M")


def test_bars_have_a_stripe_for_each_day_that_went_badly(
    watched: Watched, browser: Browser
) -> None:
    english = words("en")
    with visiting(browser, f"{watched.url}/?site=shop") as page:
        bar = page.locator("svg.bar")
        titles = bar.locator("title").all_text_contents()
        assert len(titles) == 2
        for title, outage in zip(titles, watched.lived["shop"].outages[::-1], strict=True):
            day, incident = title.splitlines()
            assert "1 incident" in day
            assert english.lasting(outage.seconds) in incident
            assert english.reason(outage.reason) in incident
        held = watched.stack.query(
            'sum_over_time(site:answered:minutes{site="shop"}[90d])'
            ' / sum_over_time(site:known:minutes{site="shop"}[90d])'
        )
        ratios = [float(re.search(r"([\d.]+)%", title)[1]) / 100 for title in titles]  # type: ignore[index]
        lost = sum(1 - ratio for ratio in ratios)
        assert lost == pytest.approx((1 - float(held[0]["value"][1])) * 90, rel=0.05)


def test_what_is_open_says_since_when_and_why(watched: Watched, browser: Browser) -> None:
    (held,) = watched.stack.query("incident:open:timestamp_seconds")
    with visiting(browser, watched.url + "/") as page:
        assert text(page, "li.site h3") == "mail", "what is down comes first"
        cells = text(page, "section[aria-labelledby=open] ol li")
        assert "mail" in cells and words("en").reason(held["metric"]["reason"]) in cells
        since = page.locator("section[aria-labelledby=open] time").get_attribute("datetime")
        assert since and abs(_unix(since) - float(held["value"][1])) < 1


def _unix(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_without_a_script_it_says_the_same_and_filters(watched: Watched, browser: Browser) -> None:
    with visiting(browser, watched.url + "/", java_script_enabled=False) as page:
        assert page.locator("li.site").count() == len(watched.lived)
        page.get_by_label("Owner").select_option("paul")
        page.get_by_role("button", name="Show").click()
        until(lambda: page.locator("li.site").count() == 3, "the sites of paul only")
        assert page.locator("noscript meta, meta[http-equiv=refresh]").count() == 1


def test_with_a_script_it_filters_at_once_and_stays_live(
    watched: Watched, browser: Browser
) -> None:
    with visiting(browser, watched.url + "/") as page:
        page.evaluate("window.loadedOnce = true")
        page.get_by_label("Host").focus()
        page.get_by_label("Host").select_option("srv2")
        until(lambda: page.locator("li.site").count() == 2, "the sites of srv2 only")
        assert "host=srv2" in page.url
        page.get_by_label("Host").select_option("")
        until(lambda: page.locator("li.site").count() == len(watched.lived), "all sites again")
        assert page.evaluate("window.loadedOnce"), "the page was not loaded anew"
        assert page.evaluate("document.activeElement.name") == "host", "the focus stays"


def test_the_keyboard_reaches_everything(watched: Watched, browser: Browser) -> None:
    with visiting(browser, watched.url + "/") as page:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.className") == "skip"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "sites"
        reached = set()
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.textContent.trim()"))
        assert set(watched.lived) <= reached


@pytest.mark.parametrize("look", LOOKS)
def test_the_page_of_one_site_speaks_of_that_site(
    watched: Watched, browser: Browser, look: str
) -> None:
    said = words(look[-2:])
    for path in (f"/?site={LONG}", f"/status/marie/{TOKEN}?site=shop"):
        with visiting(browser, watched.url + path, look) as page:
            assert said("state_fine") in text(page, ".headline"), "though another is down"
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= LOOKS[look][0]["width"], "nothing scrolls sideways"
            badge = page.locator("img[src*=badge]")
            assert badge.evaluate("image => image.naturalWidth") > 0
            assert TOKEN not in str(badge.get_attribute("src"))
            assert not Axe().run(page).response["violations"]
            page.get_by_role("link", name=said("back")).click()
            until(lambda: page.locator("li.site").count() > 1, "all sites again")


@pytest.mark.parametrize("look", ["desktop-light-en", "phone-dark-en"])
def test_an_owners_page_bears_their_brand_and_nobody_elses_sites(
    watched: Watched, browser: Browser, shots: Path, look: str
) -> None:
    with visiting(browser, f"{watched.url}/status/marie/{TOKEN}", look) as page:
        assert text(page, "h1") == "Les sites de Marie"
        assert page.locator("header img").evaluate("image => image.naturalWidth") > 0
        colour = page.evaluate("getComputedStyle(document.body).borderTopColor")
        assert colour == "rgb(123, 63, 160)"
        shown = page.content()
        for name, lived in watched.lived.items():
            assert (name in shown) == (lived.labels["owner"] == "marie")
        assert "srv" not in shown and "infogerance" not in shown
        assert not [
            violation["id"]
            for violation in Axe().run(page).response["violations"]
            if violation["impact"] in ("serious", "critical")
        ]
        page.screenshot(path=shots / f"status-owner-{look}.png", full_page=True)


def test_markup_in_names_and_notes_is_text(watched: Watched, browser: Browser) -> None:
    with visiting(browser, watched.url + "/") as page:
        assert "café <b>Léon</b>" in text(page, "ul.sites")
        assert page.locator("b", has_text="Léon").count() == 0
        assert "<script>alert(1)</script>" in text(page, ".note")
        assert "New <b>theme</b>" in text(page, ".works")
