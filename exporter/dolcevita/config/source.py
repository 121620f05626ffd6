"""YAML text to plain data that remembers the line of every value.

Scalars are read as YAML 1.2 reads them: only `true` and `false` are booleans, so that the
country NO stays a text, and there are no dates or base-60 numbers, so that 19:00 and
2027-07-10 stay texts too. Digits after a leading zero are a text: a postcode, not a number.
"""

import re
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dolcevita.config.problems import ConfigError, Problem, short

Where = tuple[str | int, ...]

MOST_REPEATED = 100_000
"""More values than this that come from aliases are an alias bomb, not a list of sites."""

DEEPEST = 50
"""Levels of lists and mappings in each other; nothing of ours needs ten."""


@dataclass(slots=True)
class Source:
    """One YAML file: its data, and the line of each value and key by path.

    `numbers` has each number as it was written, by path: 1.10 is 1.1 in `data`.
    """

    file: str
    data: Any
    lines: dict[Where, int] = field(default_factory=dict)
    numbers: dict[Where, str] = field(default_factory=dict)

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
    """Composes nodes that know where they stand: an alias at its own line, not its anchor's."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        at_alias = self.check_event(yaml.AliasEvent)
        mark = self.peek_event().start_mark if at_alias else None  # type: ignore[no-untyped-call]
        node = super().compose_node(parent, index)
        if mark and node:
            node = copy(node)
            node.start_mark = mark
        return node


class _QuickLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """libyaml, five times as fast. It has other words for what is wrong, and aliases elsewhere."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}


LARGE = 200_000
"""Characters from which on a file is read by libyaml, if that finds nothing wrong."""

_ALIASES = re.compile(r"(?:^|[\s\[{,])[&*]", re.MULTILINE)

_SCALARS = {
    "null": (r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    "bool": (r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    "int": (r"^[-+]?(?:0|[1-9][0-9]*)$", list("-+0123456789")),
    "float": (
        r"^[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)\.[0-9]*)(?:[eE][-+]?[0-9]+)?$"
        r"|^[-+]?(?:0|[1-9][0-9]*)[eE][-+]?[0-9]+$",
        list("-+0123456789."),
    ),
    "merge": (r"^<<$", ["<"]),
}
_TAG = "tag:yaml.org,2002:"
for _name, (_pattern, _first) in _SCALARS.items():
    for _one in (_Loader, _QuickLoader):
        _one.add_implicit_resolver(_TAG + _name, re.compile(_pattern), _first)


_QUOTE = "put the whole text in quotes"
_INDENT = "indent the lines that belong together alike, with spaces"

_MERGE = "found '<<' before what is no alias (*name) of 'key: value' pairs; write the keys out"
_OBJECTIONS: list[tuple[str, str, bool]] = [
    (r"character '\\t' that", f"found a tab at the beginning; {_INDENT}", False),
    (r"character '(.)' that", rf"found \1 at the beginning of a text; {_QUOTE}", False),
    (r"could not find expected ':'",
     "found a line that is no 'key: value'; add the ':' and a space after it, "
     "or close the quotes before it", True),
    (r"<block end>, but found '<scalar>'",
     "found a text right behind another; put a # before a comment, one pair of quotes around a "
     "whole text, and write '' for an apostrophe inside single quotes", False),
    (r"but got '<scalar>'",
     "found a text right behind another inside [ ] or { }; put a comma between them, "
     "and write '' for an apostrophe inside single quotes", False),
    (r"(?:simple key|quoted scalar) found unexpected", "found a quote that is never closed; "
     "add the closing quote", True),
    (r"<block end>, but found '<block (?:mapping|sequence) start>'",
     f"found a line whose indentation fits no line above it; {_INDENT}", False),
    (r"<block end>, but found '-'",
     f"found a '- ' that belongs to no list; {_INDENT}", False),
    (r"<block end>, but found '\?'",
     f"found a key where an entry of the list was expected; {_INDENT}", False),
    (r"<block end>, but found|expected '<document start>'",
     f"found a line that belongs to nothing before it; {_INDENT}", False),
    (r"mapping values are not allowed",
     "found a ':' out of place in this line or the one before it; write one 'key: value' a line, "
     "with a space behind the ':', indented like its neighbours, and texts with a ':' in quotes",
     False),
    (r"sequence entries are not allowed", "found '- ' behind a key; "
     "begin the list on a line of its own", False),
    (r"expected ',' or '\]'", "found a '[' whose list goes wrong or is never closed; "
     "write [a, b], and texts that hold , [ ] { } in quotes", True),
    (r"expected ',' or '\}'", "found a '{' whose mapping goes wrong or is never closed; "
     "write {a: 1, b: 2}, and texts that hold , [ ] { } in quotes", True),
    (r"the node content, but found '<(?:stream|document)",
     "found a '[' or '{' that is never closed; add the closing one", False),
    (r"the node content", "found a comma, colon or bracket where a value was expected; "
     "put texts that hold , [ ] { } in quotes", False),
    (r"scanning an? (?:alias|anchor)|undefined alias",
     f"found * or & at the beginning of a text; {_QUOTE}", False),
    (r"tag", f"found ! at the beginning of a text; {_QUOTE}", False),
    (r"directive|incompatible YAML", f"found % at the beginning of a line; {_QUOTE}", False),
    (r"escape (?:character|sequence)",
     "found a \\ that means nothing inside double quotes; use single quotes", False),
    (r"block scalar", "found something behind the | or >; "
     "begin the text on the next line, or put it in quotes", False),
    (r"document separator", "found '---' inside a quoted text; close the quotes before it", True),
    (r"duplicate anchor", "found the same &name twice; give one of them another name", False),
]  # fmt: skip
"""What PyYAML's words say to somebody who has never heard of a scalar.

Each is a pattern, our sentence, and whether the fault lies where the construct begins rather
than where the reader stumbled. A text may be a secret, so none is shown.
"""


def read(path: Path) -> Source:
    """Read one YAML file. Raises ConfigError when it is missing, empty or not YAML."""
    name = str(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise _refused(name, 0, "no such file; create it, or name another one") from None
    except IsADirectoryError:
        raise _refused(name, 0, "found a folder, expected a YAML file") from None
    except PermissionError:
        raise _refused(name, 0, "not allowed to read it; change its owner or mode") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise _refused(name, 0, f"cannot be read: {reason}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        message = "found bytes that are no UTF-8 text; save the file as plain text in UTF-8"
        raise _refused(name, line, message) from None
    nodes = _documents(name, text)
    if not nodes or (len(nodes) == 1 and nodes[0].tag == _TAG + "null"):
        raise _refused(name, 0, "the file is empty; see the examples in README.md")
    if len(nodes) > 1:
        line = nodes[1].start_mark.line + 1
        message = "found a second document after '---', expected one; take the '---' out"
        raise _refused(name, line, message)
    source = Source(name, None)
    source.data = _Builder(source).build(nodes[0], (), ())
    return source


def _documents(name: str, text: str) -> list[yaml.Node]:
    if len(text) >= LARGE and not _ALIASES.search(text):
        with suppress(yaml.YAMLError):
            return [*yaml.compose_all(text, _QuickLoader)]
    nodes = []
    try:
        loader = _Loader(text)
        while loader.check_node():
            nodes.append(loader.get_node())
    except yaml.MarkedYAMLError as error:
        raise _not_yaml(name, error) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        message = "found a character that no text has; save the file as plain text in UTF-8"
        raise _refused(name, line, message) from None
    except RecursionError:
        raise _too_deep(name, 0) from None
    except (ValueError, OverflowError):
        # PyYAML lets an escape such as "\UFFFFFFFF" through to chr().
        message = "found a \\U in double quotes that is no character; use single quotes"
        raise _refused(name, loader.get_mark().line + 1, message) from None
    return [node for node in nodes if node is not None]


def _not_yaml(name: str, error: yaml.MarkedYAMLError) -> ConfigError:
    words = " ".join(f"{error.context or ''} {error.problem or ''}".split())
    for pattern, message, at_beginning in _OBJECTIONS:
        match = re.search(pattern, words)
        if match:
            mark = (error.context_mark if at_beginning else None) or error.problem_mark
            line = mark.line + 1 if mark else 0
            return _refused(name, line, f"not YAML: {match.expand(message)}")
    line = error.problem_mark.line + 1 if error.problem_mark else 0
    return _refused(name, line, f"not YAML: {words}")


def _too_deep(name: str, line: int) -> ConfigError:
    return _refused(name, line, f"found more than {DEEPEST} levels of lists or mappings")


def _refused(file: str, line: int, message: str) -> ConfigError:
    return ConfigError([Problem(file, line, message)])


class _Builder:
    """Turns the node tree into data, and notes lines on the way."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.seen: set[int] = set()
        self.repeated = 0

    def build(self, node: yaml.Node, where: Where, parents: tuple[int, ...]) -> Any:
        line = node.start_mark.line + 1
        self.source.lines.setdefault(where, line)
        identity = id(node.value)
        if isinstance(node, yaml.CollectionNode):
            self.repeated += len(node.value) if identity in self.seen else 0
            self.seen.add(identity)
        if self.repeated > MOST_REPEATED:
            message = "found aliases (*name) that repeat too much; write the values out"
            raise _refused(self.source.file, line, message)
        if identity in parents:
            message = "found an alias (*name) that contains itself; write the values out"
            raise _refused(self.source.file, line, message)
        if len(parents) >= DEEPEST:
            raise _too_deep(self.source.file, line)
        parents = (*parents, identity)
        if node.tag not in _TAGS[type(node)]:
            # Not shown: this may be the beginning of a password.
            raise _refused(self.source.file, line, f"found ! before a value; {_QUOTE}")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, where, parents)
        if isinstance(node, yaml.SequenceNode):
            return self._list(node, where, parents)
        return self._scalar(node, where)

    def _list(self, node: yaml.SequenceNode, where: Where, parents: tuple[int, ...]) -> list[Any]:
        data = []
        for i, item in enumerate(node.value):
            self.source.lines[(*where, i)] = item.start_mark.line + 1
            data.append(self.build(item, (*where, i), parents))
        return data

    def _mapping(
        self, node: yaml.MappingNode, where: Where, parents: tuple[int, ...]
    ) -> dict[str, Any]:
        data: dict[str, Any] = {}
        # Merged values first: the mapping's own keys and their lines win.
        for key_node, value_node in node.value:
            if _is_merge(key_node):
                data = self._merged(value_node, where, parents) | data
        first_line: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if _is_merge(key_node):
                continue
            if not isinstance(key_node, yaml.ScalarNode):
                message = f"found a list or mapping as a key; {_QUOTE} if it begins with [ or {{"
                raise _refused(self.source.file, line, message)
            key = self._text(key_node)
            if key in first_line:
                raise _refused(
                    self.source.file,
                    line,
                    f"found the key {short(key)} twice (first in line {first_line[key]}); keep one",
                )
            first_line[key] = line
            self.source.lines[(*where, key)] = line
            data[key] = self.build(value_node, (*where, key), parents)
        return data

    def _merged(self, node: yaml.Node, where: Where, parents: tuple[int, ...]) -> dict[str, Any]:
        value = self.build(node, where, parents)
        parts = value if isinstance(value, list) else [value]
        result: dict[str, Any] = {}
        for part in reversed(parts):
            if not isinstance(part, dict):
                line = node.start_mark.line + 1
                raise _refused(self.source.file, line, _MERGE)
            result |= part
        return result

    def _text(self, node: yaml.Node) -> str:
        text = str(node.value)
        try:
            text.encode()
        except UnicodeEncodeError:
            line = node.start_mark.line + 1
            message = "found half a character (\\ud800 to \\udfff); write the character itself"
            raise _refused(self.source.file, line, message) from None
        return text

    def _scalar(self, node: yaml.Node, where: Where) -> Any:
        text = self._text(node)
        name = node.tag.removeprefix(_TAG)
        if name == "null":
            return None
        if name == "bool":
            return text.lower() == "true"
        if name in ("int", "float"):
            self.source.numbers[where] = text
            try:
                return int(text) if name == "int" else float(text)
            except ValueError:
                line = node.start_mark.line + 1
                message = f"found {short(text)}, which is no usable number"
                raise _refused(self.source.file, line, message) from None
        return text


def _is_merge(key: yaml.Node) -> bool:
    return bool(key.tag == _TAG + "merge")


_TAGS: dict[type[yaml.Node], frozenset[str]] = {
    yaml.ScalarNode: frozenset(_TAG + name for name in ("str", "null", "bool", "int", "float")),
    yaml.SequenceNode: frozenset([_TAG + "seq"]),
    yaml.MappingNode: frozenset([_TAG + "map"]),
}
