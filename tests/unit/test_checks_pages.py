"""docs/checks: the tables of each kind's page against the models they describe."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dolcevita.config import format_duration, load
from dolcevita.probes import KINDS, Kind, address, security
from sites import files

PAGES = Path(__file__).parents[2] / "docs/checks"
OF_ALL = {*address.HELP, *security.HELP}

kinds = pytest.mark.parametrize(
    "kind", {kind.name: kind for kind in KINDS.values()}.values(), ids=lambda kind: kind.name
)


def page(kind: Kind) -> str:
    file = PAGES / f"{kind.name}.md"
    if not file.exists():
        pytest.skip(f"{file.name} is not written yet")
    return file.read_text()


def rows(text: str, section: str) -> dict[str, str]:
    """Name and default of each row in the first table under a heading."""
    rest = text.partition(f"\n## {section}")[2].partition("\n## ")[0]
    table = re.search(r"(^\|.*\n)+", rest, re.MULTILINE)
    lines = table[0].splitlines()[2:] if table else []
    cells = ([cell.strip() for cell in line.split(" |")] for line in lines)
    return {name.strip("|` "): default.strip("| ") for name, default, *_ in cells}


def defaults(model: type[BaseModel]) -> dict[str, str]:
    """The options of a model under their names in sites.yml, as a page writes their defaults."""
    return {
        field.alias or name: written(field)
        for name, field in model.model_fields.items()
        if name != "under"
    }


def written(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    default: Any = field.get_default(call_default_factory=True)
    if default in (None, {}) or isinstance(default, BaseModel):
        return ""
    match default:
        case bool():
            return str(default).lower()
        case float():
            return format_duration(default)
        case tuple():
            return ", ".join(default)
        case _:
            return str(default)


@kinds
def test_the_options_and_their_defaults_are_those_of_the_prober(kind):
    assert rows(page(kind), "Options") == defaults(kind.options)


@kinds
def test_the_expectations_and_their_defaults_are_those_of_the_prober(kind):
    assert rows(page(kind), "Expectations") == defaults(kind.expect)


@kinds
def test_every_metric_of_the_prober_is_told(kind):
    text = page(kind)
    assert [name for name in kind.help if name not in OF_ALL and name not in text] == []


@kinds
def test_the_example_loads(kind, tmp_path, monkeypatch):
    example = re.search(r"```yaml\n(sites:.*?)```", page(kind), re.DOTALL)
    assert example
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r"secrets/[\w-]+", example[1]):
        Path("secrets").mkdir(exist_ok=True)
        Path(name).write_text("0123456789abcdef\n")
    config = load(*files(tmp_path, example[1]), KINDS)
    assert kind.name in {site.kind for site in config.sites}
