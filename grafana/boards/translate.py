"""The words of a dashboard in another language, from the catalogue of that language."""

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

WORDS = {
    "title",
    "description",
    "label",
    "noValue",
    "tooltip",
    "legendFormat",
    "titleFormat",
    "displayName",
    "name",
}
"""The keys of Grafana's model that hold what a person reads, beside the special ones below."""


def catalogue(language: str) -> dict[str, str]:
    """From the English text to that of `language`."""
    file = Path(__file__).with_name(f"{language}.yml")
    entries: dict[str, str] = yaml.safe_load(file.read_text())
    return entries


def translated(model: dict[str, Any], words: Mapping[str, str]) -> dict[str, Any]:
    """The dashboard with its texts taken from `words`. Raises KeyError for one not in them."""
    changed = _mapped(model, lambda text: words[text])
    assert isinstance(changed, dict)
    return changed


def texts(model: dict[str, Any]) -> Iterator[str]:
    """Every text that a person reads in the dashboard."""
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    _mapped(model, note)
    yield from found


def _mapped(node: Any, change: Callable[[str], str], within: str = "") -> Any:
    if isinstance(node, list):
        return [_mapped(each, change, within) for each in node]
    if not isinstance(node, dict):
        return node
    result: dict[str, Any] = {}
    for key, value in node.items():
        if isinstance(value, str) and _is_read(node, key, value, within):
            prefix = "suffix:" if value.startswith("suffix:") else ""
            result[key] = prefix + change(value.removeprefix(prefix))
        elif within == "organize" and key == "renameByName":
            result[key] = {name: change(shown) for name, shown in value.items()}
        else:
            result[key] = _mapped(value, change, node.get("id", "") if key == "options" else within)
    return result


def _is_read(node: Mapping[str, Any], key: str, value: str, within: str) -> bool:
    # What consists of labels alone is data.
    if not re.sub(r"\{\{.*?\}\}", "", value).strip(" -"):
        return False
    if key == "name":
        # An annotation's; a variable's name is for queries.
        return "iconColor" in node
    if key == "options":
        return node.get("id") == "byName"
    if key == "value":
        return node.get("id") == "unit" and value.startswith("suffix:")
    if key == "unit":
        return value.startswith("suffix:")
    if key == "text":
        # A mapping's; where a value stands beside it, it is a variable's.
        return "value" not in node
    return key in WORDS
