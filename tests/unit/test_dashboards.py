"""The dashboards as files: what the code builds, whole, readable, and in every language."""

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard

from boards import ask, build, kit, translate
from dolcevita.stack import native, settings

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "grafana"

Model = dict[str, Any]
MODELS = {
    (language, name): model
    for language in build.LANGUAGES
    for name, model in build.models(language).items()
}
ENGLISH = [model for (language, _), model in MODELS.items() if language == "en"]
each_dashboard = pytest.mark.parametrize("model", MODELS.values(), ids=lambda m: m["title"])


def panels(models: list[Model]) -> Iterator[Any]:
    for model in models:
        for panel in model["panels"]:
            yield pytest.param(panel, id=f"{model['title']}: {panel['title']}")


each_panel = pytest.mark.parametrize("panel", list(panels(ENGLISH)))


@pytest.mark.parametrize("language", build.LANGUAGES)
def test_committed_files_are_what_the_code_builds(language: str) -> None:
    files = {file.name: file.read_text() for file in (GRAFANA / "dashboards" / language).iterdir()}
    assert files == build.text(language), "run `make dashboards`"


@each_dashboard
def test_the_sdk_reads_a_dashboard_back_as_it_is(model: Model) -> None:
    """The SDK is made from Grafana's schema: what is not in that would be lost."""
    read = json.loads(json.dumps(Dashboard.from_json(model), cls=JSONEncoder))
    for annotation in model.get("annotations", {}).get("list", ()):
        # Prometheus' own, which the schema leaves to the data source.
        annotation = {k: v for k, v in annotation.items() if k not in ("step", "titleFormat")}
        assert annotation in read["annotations"]["list"]
    assert {k: v for k, v in read.items() if k != "annotations"} == {
        k: v for k, v in model.items() if k != "annotations"
    }


def test_no_two_dashboards_of_a_language_have_the_same_uid_and_links_lead_to_one() -> None:
    uids = [model["uid"] for model in ENGLISH]
    assert len(set(uids)) == len(uids)
    linked = set(re.findall(r"/d/([\w-]+)", json.dumps(ENGLISH)))
    assert linked <= set(uids)
    assert linked


@each_dashboard
def test_panels_have_ids_of_their_own_and_fill_the_grid(model: Model) -> None:
    ids = [panel["id"] for panel in model["panels"]]
    assert len(set(ids)) == len(ids)
    cells = Counter(
        (x, y)
        for at in (panel["gridPos"] for panel in model["panels"])
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    )
    bottom = max(y for _, y in cells) + 1
    assert set(cells) == {(x, y) for x in range(kit.WIDTH) for y in range(bottom)}, "gaps"
    assert set(cells.values()) == {1}, "panels overlap"


def test_a_row_that_does_not_fill_the_grid_is_refused() -> None:
    on = kit.board("x", "X", "x", "1h", "1m")
    panel = kit.big("X", "x", kit.Query("up"), empty="x")
    with pytest.raises(ValueError, match=r"row 0 is \[23\] wide, expected 24"):
        kit.place(on, (5, [(23, panel)]))


@each_dashboard
def test_dashboard_keeps_the_time_of_the_browser_and_refreshes_itself(model: Model) -> None:
    assert model["timezone"] == "browser"
    assert model["refresh"] in ("30s", "1m", "5m")
    assert model["editable"] is False
    assert model["description"]


@each_panel
def test_panel_says_what_it_is_in_what_unit_and_what_it_means_to_be_empty(panel: Model) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    defaults = panel["fieldConfig"]["defaults"]
    assert defaults["noValue"] not in ("", "No data")
    assert defaults["unit"]
    if panel["type"] != "timeseries":
        assert "thresholds" in defaults or panel["type"] == "table"


@each_panel
def test_every_query_names_its_data_source_by_uid(panel: Model) -> None:
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    expected = {"type": source["type"], "uid": source["uid"]}
    assert panel["datasource"] == expected
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"] == expected


def colours(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key in ("color", "fixedColor", "iconColor") and isinstance(value, str):
                yield value
            yield from colours(value)
    elif isinstance(node, list):
        for value in node:
            yield from colours(value)


def seen(colour: str, cones: str) -> tuple[float, float, float]:
    """A colour as it is seen with one kind of cones missing, in linear light.

    Viénot, Brettel and Mollon, "Digital video colourmaps for checking the legibility of displays
    by dichromats" (1999), equations 5 and 7.
    """
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    if cones == "protan":
        mixed = 0.11238 * red + 0.88762 * green
        return mixed, mixed, 0.00401 * red - 0.00401 * green + blue
    mixed = 0.29275 * red + 0.70725 * green
    return mixed, mixed, -0.02234 * red + 0.02234 * green + blue


@pytest.mark.parametrize("cones", ["protan", "deutan"])
def test_states_can_be_told_apart_without_red_or_green_cones(cones: str) -> None:
    told = [seen(colour, cones) for colour in (kit.GOOD, kit.NOTICE, kit.BAD)]
    for one in told:
        for other in told:
            far = sum((a - b) ** 2 for a, b in zip(one, other, strict=True)) ** 0.5
            assert one == other or far > 0.2


@each_dashboard
def test_only_colours_of_the_palette_are_used(model: Model) -> None:
    known = {kit.GOOD, kit.NOTICE, kit.BAD, kit.OTHER, kit.UNKNOWN, kit.CALM, *kit.PALETTE}
    assert set(colours(model)) <= known


def test_owner_provider_host_and_site_are_chosen_one_after_the_other() -> None:
    for model in ENGLISH:
        if model["uid"] == "dolcevita-stack":
            continue
        queries = {v["name"]: v["query"]["query"] for v in model["templating"]["list"]
                   if v["type"] == "query"}  # fmt: skip
        before: list[str] = []
        for name in ("owner", "provider", "host", "site"):
            assert queries[name].endswith(f", {name})")
            assert [other for other in before if f'{other}=~"${other}"' in queries[name]] == before
            before.append(name)


def test_the_catalogue_has_every_text_and_no_other() -> None:
    said = set(chain.from_iterable(translate.texts(model) for model in ENGLISH))
    assert said == set(translate.catalogue("fr"))


def test_a_translation_keeps_what_is_filled_in() -> None:
    filled = re.compile(r"\{\{\w+\}\}|`[^`]+`|\w+\.yml|\w+://\S*\w")
    for english, french in translate.catalogue("fr").items():
        if "Told after" not in english:
            assert sorted(filled.findall(english)) == sorted(filled.findall(french))


def test_languages_differ_in_words_alone() -> None:
    for name in build.BOARDS:
        english, french = MODELS["en", name], MODELS["fr", name]
        assert translate.translated(english, translate.catalogue("fr")) == french
        assert list(ask.questions(english)) != []
        for one, other in zip(ask.questions(english), ask.questions(french), strict=True):
            assert (one.expr, one.label, one.instant) == (other.expr, other.label, other.instant)
        assert english["uid"] == french["uid"]
        assert english["title"] != french["title"] or name == "site"


def test_grafana_provisions_the_folder_of_the_language_and_opens_with_the_overview() -> None:
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/dolcevita.yml").read_text())[
        "providers"
    ]
    assert provider["options"]["path"] == "$DASHBOARDS"
    assert provider["allowUiUpdates"] is False
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    compose = services["grafana"]["environment"]
    here = settings.read_settings(ROOT, {"GRAFANA_LANGUAGE": "fr"})
    component = native._grafana(here, Path("/opt/grafana/bin/grafana"))
    for environment in (compose, component.environment):
        folder = environment["DASHBOARDS"]
        home = environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
        assert home == f"{folder}/overview.json"
    assert component.environment["DASHBOARDS"] == str(GRAFANA / "dashboards/fr")
    assert set(settings.LANGUAGES) == set(build.LANGUAGES)


def test_grafana_is_for_looking_on_this_machine_and_has_no_password_to_guess() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    component = native._grafana(settings.read_settings(ROOT, {}), Path("/opt/grafana/bin/grafana"))
    for environment in (services["grafana"]["environment"], component.environment):
        assert environment["GF_AUTH_ANONYMOUS_ENABLED"] == "true"
        assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
        assert environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"] == "true"
    assert component.environment["GF_SERVER_HTTP_ADDR"] == "127.0.0.1"
    [port] = services["grafana"]["ports"]
    assert port.startswith("127.0.0.1:")
