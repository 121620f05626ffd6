"""Every query of every dashboard, sent to a real Prometheus with a month of 500 sites."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from binaries import version_ends
from boards import ask, build, history, replay
from dolcevita.config import UserError
from dolcevita.stack.packages import Programs

SITES, DAYS, END = 500, 30, 1786000000
MONTH = ask.Span(END - DAYS * 86400, END)
AT_MOST = 1.0
"""Seconds for a query, with all of that."""

DOMAIN = {**history.ONE_SITE, "site": "crm"}

# Both ends read the same past, so one worker runs them.
pytestmark = pytest.mark.xdist_group("dashboards")


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prometheus's blocks with the past, for reading only."""
    try:
        promtool = version_ends()["oldest"].promtool
    except UserError as error:
        pytest.skip(str(error))
    return replay.backfill(promtool, tmp_path_factory.mktemp("past"), SITES, DAYS, END)


@pytest.fixture(scope="module")
def prometheus(
    programs: Programs, past: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("prometheus")
    blocks = shutil.copytree(past, folder / "data")
    with replay.prometheus(programs.prometheus, folder, blocks) as url:
        yield url


def asked(model: dict[str, Any]) -> Iterator[tuple[ask.Question, ask.Span]]:
    """What a dashboard asks when it is opened, and when a month is chosen."""
    for question in ask.questions(model):
        yield question, ask.shown_by_default(model, END)
        yield question, MONTH


@pytest.mark.parametrize("name", build.BOARDS)
def test_every_query_has_an_answer_within_a_second(prometheus: str, name: str) -> None:
    model = build.models("en")[name]
    # What is asked of one site has an answer for a site of one kind or the other.
    choices = (history.ONE_SITE, DOMAIN) if name == "site" else (history.ALL_SITES,)
    without, slow = [], []
    for question, span in asked(model):
        found = []
        for variables in choices:
            took, answer = timed(prometheus, question, span, variables)
            found += answer
            if took > AT_MOST:
                slow.append(f"{question.about}: {took:.2f} s")
        if not found:
            without.append(f"{question.about} over {span.seconds / 86400:g} days")
    assert without == []
    assert slow == []


def timed(
    prometheus: str, question: ask.Question, span: ask.Span, variables: dict[str, str]
) -> tuple[float, list[Any]]:
    """Seconds and answer. Seconds of a processor, since the machine has other work: a query takes
    one at a time, so with nothing else to do it is as fast or faster.
    """
    before = processor(prometheus)
    answer = ask.answer(prometheus, question, span, variables)
    return processor(prometheus) - before, answer


def processor(prometheus: str) -> float:
    text = requests.get(f"{prometheus}/metrics", timeout=10).text
    found = re.search(r"^process_cpu_seconds_total (\S+)$", text, re.MULTILINE)
    assert found
    return float(found[1])


def test_the_variables_offer_what_was_watched(prometheus: str) -> None:
    questions = {q.about: q for q in ask.questions(build.models("en")["overview"])}
    span = ask.Span(END - 3600, END)
    owners = ask.answer(prometheus, questions["variable owner"], span, {})
    assert owners == sorted(history.OWNERS)
    of_marie = ask.answer(prometheus, questions["variable provider"], span, {"owner": "marie"})
    assert of_marie == [history.PROVIDERS["marie"]]
    sites = ask.answer(prometheus, questions["variable site"], span, history.ALL_SITES)
    assert len(sites) == SITES


def number(prometheus: str, board: str, title: str) -> float:
    """What the panel shows."""
    [panel] = [p for p in build.models("en")[board]["panels"] if p["title"] == title]
    [question] = ask.of_panel(panel)
    [series] = ask.answer(prometheus, question, MONTH, history.ALL_SITES)
    return float(series["value"][1])


def test_numbers_are_those_of_the_past(prometheus: str) -> None:
    made = list(history.made(SITES, DAYS, END))
    incidents = [i for site in made for i in site.incidents]
    repaired = sorted(i.end - i.start for i in incidents if i.end)
    assert number(prometheus, "overview", "Sites watched") == SITES
    assert number(prometheus, "overview", "Are all sites well?") == sum(
        not i.end for i in incidents
    )
    assert number(prometheus, "provider", "Incidents") == len(incidents)
    assert number(prometheus, "provider", "Half were repaired within") == pytest.approx(
        repaired[len(repaired) // 2], rel=0.02
    )
    overdue = [i for i in incidents if (i.end or END) - i.start > history.OVERDUE]
    assert number(prometheus, "provider", "Overdue") == len(overdue)
    assert number(prometheus, "peace", "Solved without you") == len(repaired) - len(
        [i for i in overdue if i.end]
    )
    held = [i for i in incidents if i.told and i.told - i.end > 300]
    assert number(prometheus, "peace", "Good news held back") == len(held)
