"""The page of each kind tells its options, expectations and metrics as the code has them."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dolcevita.config import format_duration, load
from dolcevita.probes import KINDS, Expectations, Kind, address, security
from sites import files

PAGES = Path(__file__).parents[2] / "docs" / "checks"
OWN_PAGE = {kind.name: kind for kind in KINDS.values() if (PAGES / f"{kind.name}.md").exists()}
kinds = pytest.mark.parametrize("kind", [pytest.param(k, id=n) for n, k in OWN_PAGE.items()])


def page(kind: Kind) -> str:
    return (PAGES / f"{kind.name}.md").read_text()


def rows(kind: Kind, heading: str) -> dict[str, str]:
    """Key and default of each row of the first table below a heading."""
    section = page(kind).partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    table = re.search(r"(^\|.*\n)+", section, re.MULTILINE)
    lines = table[0] if table else ""
    return dict(re.findall(r"^\| `([a-z0-9_]+)` \| *(.*?) *\| .+ \|$", lines, re.MULTILINE))


def written(field: FieldInfo) -> str:
    """A default as the page has it: '' for nothing, 'needed' for none."""
    value: Any = field.default
    if field.is_required():
        return "needed"
    if field.default_factory is not None or value is None or isinstance(value, BaseModel):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return format_duration(value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value == {} else str(value)


def fields(model: type[BaseModel]) -> dict[str, str]:
    return {field.alias or name: written(field) for name, field in model.model_fields.items()}


@kinds
def test_the_options_and_their_defaults_are_those_of_the_code(kind):
    assert rows(kind, f"Options (`{kind.name}:`)") == fields(kind.options)


@kinds
def test_the_expectations_and_their_defaults_are_those_of_the_code(kind):
    own = fields(kind.expect)
    for name in Expectations.model_fields:
        del own[name]
    assert rows(kind, "Expectations") == own


@kinds
def test_every_metric_is_told(kind):
    own = kind.help.keys() - address.HELP.keys() - security.HELP.keys()
    assert [name for name in sorted(own) if name not in page(kind)] == []


@kinds
def test_the_examples_load(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^```yaml\n(sites:\n.*?)^```", page(kind), re.MULTILINE | re.DOTALL)
    assert examples
    for example in examples:
        for name in re.findall(r"_file: ([^\s,}]+)", example):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            Path(name).write_text("a-secret-of-some-length")
        config = load(*files(tmp_path, example), KINDS)
        assert all(site.kind == kind.name for site in config.sites)


def test_the_readme_has_a_row_for_every_kind():
    text = (PAGES.parents[1] / "README.md").read_text()
    linked = set(re.findall(r"\(docs/checks/(\w+)\.md\)", text))
    assert linked == {kind.name for kind in KINDS.values()} == set(OWN_PAGE)
