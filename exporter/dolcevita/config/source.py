"""YAML text to plain data that remembers the line of every value.

Scalars are read as YAML 1.2 reads them: only `true` and `false` are booleans, so that the
country NO stays a text, and there are no dates or base-60 numbers, so that 19:00 and
2027-07-10 stay texts too.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dolcevita.config.problems import ConfigError, Problem

Where = tuple[str | int, ...]

MAX_VALUES = 1_000_000
"""More values than this in one file is an alias bomb, not a list of sites."""


@dataclass(slots=True)
class Source:
    """One YAML file: its data, and the line of each value and key by path."""

    file: str
    data: Any
    lines: dict[Where, int] = field(default_factory=dict)

    def line(self, where: Where) -> int:
        """The line of the value at `where`, or of its nearest parent that has one."""
        for length in range(len(where), -1, -1):
            line = self.lines.get(where[:length])
            if line is not None:
                return line
        return 0

    def problem(self, where: Where, message: str) -> Problem:
        return Problem(self.file, self.line(where), message)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


_SCALARS = {
    "null": (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    "int": (r"^[-+]?[0-9]+$", list("-+0123456789")),
    "float": (
        r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?$|^[-+]?[0-9]+[eE][-+]?[0-9]+$",
        list("-+0123456789."),
    ),
    "merge": (r"^<<$", ["<"]),
}
_TAG = "tag:yaml.org,2002:"
for _name, (_pattern, _first) in _SCALARS.items():
    _Loader.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)


def read(path: Path) -> Source:
    """Read one YAML file. Raises ConfigError when it is missing, empty or not YAML."""
    name = str(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise _refused(name, 0, "no such file; create it, or name another one") from None
    except IsADirectoryError:
        raise _refused(name, 0, "found a folder, expected a YAML file") from None
    except PermissionError:
        raise _refused(name, 0, "not allowed to read it; change its owner or mode") from None
    except OSError as error:
        raise _refused(name, 0, f"cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise _refused(
            name, line, "found bytes that are not UTF-8; save the file as UTF-8"
        ) from None
    try:
        nodes = list(yaml.compose_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 0
        words = " ".join(str(error.problem or error.context or "unreadable").split())
        hint = "; indent with spaces, not tabs" if "'\\t'" in words else ""
        raise _refused(name, line, f"not YAML: {words}{hint}") from None
    except yaml.YAMLError as error:
        position = getattr(error, "position", None)
        line = text[:position].count("\n") + 1 if isinstance(position, int) else 0
        raise _refused(name, line, "not YAML: found a character that is not allowed") from None
    except RecursionError:
        raise _refused(name, 0, "not usable: values are nested too deeply") from None
    if not nodes or nodes[0] is None:
        raise _refused(name, 0, "the file is empty; see the examples in README.md")
    if len(nodes) > 1:
        line = nodes[1].start_mark.line + 1
        raise _refused(name, line, "found a second document after '---', expected only one")
    source = Source(name, None)
    source.data = _Builder(source).build(nodes[0], (), ())
    return source


def _refused(file: str, line: int, message: str) -> ConfigError:
    return ConfigError([Problem(file, line, message)])


class _Builder:
    """Turns the node tree into data, and notes lines on the way."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.count = 0

    def build(self, node: yaml.Node, where: Where, parents: tuple[int, ...]) -> Any:
        line = node.start_mark.line + 1
        self.source.lines.setdefault(where, line)
        self.count += 1
        if self.count > MAX_VALUES:
            raise _refused(self.source.file, line, "aliases make this file too large to use")
        if id(node) in parents:
            raise _refused(self.source.file, line, "found an alias that contains itself")
        parents = (*parents, id(node))
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where, parents)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*where, i), parents) for i, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(
        self, node: yaml.MappingNode, where: Where, parents: tuple[int, ...]
    ) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if key_node.tag == _TAG + "merge":
                merged |= self._merged(value_node, where, parents)
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                raise _refused(self.source.file, line, "found a list or mapping as a key")
            key = str(key_node.value)
            if key in first_line:
                raise _refused(
                    self.source.file,
                    line,
                    f"found the key '{key}' twice (first in line {first_line[key]}); keep one",
                )
            first_line[key] = line
            self.source.lines[(*where, key)] = line
            data[key] = self.build(value_node, (*where, key), parents)
        return merged | data

    def _merged(self, node: yaml.Node, where: Where, parents: tuple[int, ...]) -> dict[str, Any]:
        value = self.build(node, where, parents)
        parts = value if isinstance(value, list) else [value]
        result: dict[str, Any] = {}
        for part in reversed(parts):
            if not isinstance(part, dict):
                line = node.start_mark.line + 1
                raise _refused(self.source.file, line, "'<<' takes a mapping, such as an alias")
            result |= part
        return result

    def _scalar(self, node: yaml.Node) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "str":
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text)
            case "float":
                return float(text)
            case _:
                line = node.start_mark.line + 1
                raise _refused(
                    self.source.file,
                    line,
                    f"found the YAML tag '{node.tag}', expected plain values",
                )
