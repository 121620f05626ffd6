"""Pydantic models for the two files, and their errors in the user's words."""

import re
import types
from collections.abc import Mapping
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from dolcevita.config.problems import Problem, did_you_mean, found, kind, nearest, short
from dolcevita.config.source import Source, Where

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}

LONGEST_DURATION = 1000 * UNITS["w"]


class Strict(BaseModel):
    """A mapping whose keys are all known."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def parse_duration(value: Any) -> float:
    """Seconds from '15s', '1h30m', '500ms' (Prometheus' units, days and weeks) or a number.

    Raises ValueError on anything else and on what is not above zero.
    """
    expected = "expected a duration such as 15s, 2m or 1h30m"
    if isinstance(value, str):
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|[smhdw])", value)
        if not parts or "".join(a + b for a, b in parts) != value:
            raise ValueError(expected)
        seconds = sum(float(amount) * UNITS[unit] for amount, unit in parts)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        # A number of hundreds of digits is no float.
        seconds = float(min(value, 2 * LONGEST_DURATION))
    else:
        raise ValueError(expected)
    if seconds <= 0:
        raise ValueError("expected a duration above zero")
    if seconds > LONGEST_DURATION:
        raise ValueError("expected a duration below twenty years")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest exact form: 90 is '1m30s', 0.5 is '500ms'."""
    rest = round(seconds * 1000)
    text = ""
    for unit in ("d", "h", "m", "s", "ms"):
        amount, rest = divmod(rest, round(UNITS[unit] * 1000))
        text += f"{amount}{unit}" if amount else ""
    return text or "0s"


def _one_line(value: str) -> str:
    if not value.strip() or len(value.splitlines()) > 1 or re.search(r"[\x00-\x1f\x7f]", value):
        raise ValueError("expected a name on one line")
    return value


Duration = Annotated[float, BeforeValidator(parse_duration)]
Name = Annotated[str, Field(max_length=120), AfterValidator(_one_line)]

_LIST = "a list: [a, b], or lines that begin with '- '"
_MAPPING = "'key: value' pairs, a line for each"
_EXPECTED = {
    "string_type": "a text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "path_type": "the path of a file",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "dict_type": _MAPPING,
    "model_type": _MAPPING,
    "greater_than_equal": "{ge} or more",
    "less_than_equal": "{le} or less",
    "literal_error": "{expected}",
    "string_too_long": "at most {max_length} characters",
}
_HOLDERS = (_LIST, _MAPPING)

Model = TypeVar("Model", bound=BaseModel)


def validate(
    model: type[Model],
    data: Any,
    source: Source,
    where: Where,
    problems: list[Problem],
    also_known: tuple[str, ...] = (),
) -> Model | None:
    """Build `model` from the data at `where`, or note what is wrong with it and give None.

    `also_known` are keys beside the model's own that the caller has taken out already; they
    are offered when an unknown key looks like one of them.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        faults = error.errors()
        unknown = [fault["loc"] for fault in faults if fault["type"] == "extra_forbidden"]
        meant = {nearest(str(loc[-1]), _known_keys(model, loc[:-1])) for loc in unknown}
        for fault in faults:
            if fault["type"] == "missing" and fault["loc"][-1] in meant:
                continue  # It is there, misspelt, and told as that.
            where_exactly = (*where, *_in_data(data, fault["loc"]))
            message = _sentence(model, fault, where, also_known)
            problems.append(source.problem(where_exactly, message))
        return None


def _in_data(data: Any, loc: tuple[int | str, ...]) -> Where:
    """The part of pydantic's location that is in the data: union branches are left out."""
    path: list[int | str] = []
    for step in loc:
        inside = (isinstance(data, dict) and step in data) or (
            isinstance(data, list) and isinstance(step, int) and step < len(data)
        )
        if not inside:
            continue
        path.append(step)
        data = data[step]
    return tuple(path)


def _sentence(
    model: type[BaseModel], item: Mapping[str, Any], where: Where, also_known: tuple[str, ...]
) -> str:
    loc = item["loc"]
    key = ".".join(str(step) for step in loc or where[-1:] if not isinstance(step, int))
    fault = item["type"]
    if fault == "extra_forbidden":
        name = str(loc[-1])
        known = list(_known_keys(model, loc[:-1]))
        if len(loc) == 1:
            known += also_known
        if not name.isprintable():
            return f"unknown key {short(name)}, with a character that cannot be seen: type it anew"
        return f"unknown key {short(name)}: {did_you_mean(name, known)}"
    if fault == "missing":
        return f"'{key}' is missing: add it"
    prefix = f"{key}: " if key else ""
    value = item["input"]
    if fault in _EXPECTED:
        expected = _EXPECTED[fault]
        # A text where a list or a mapping belongs may hold a secret meant for an entry of it.
        seen = kind(value) if expected in _HOLDERS else found(value)
        quotes = "; put it in quotes" if fault == "string_type" and _is_plain(value) else ""
        return f"{prefix}found {seen}, expected {expected.format(**item.get('ctx', {}))}{quotes}"
    words = str(item["ctx"]["error"]) if fault == "value_error" else item["msg"].lower()
    if words.startswith("found "):
        return prefix + words
    return f"{prefix}found {found(value)}, {words}"


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _known_keys(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[str, ...]:
    current: Any = model
    for step in loc:
        if isinstance(step, int):
            continue
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(step)
            if field is None:
                continue
            current = _model_within(field.annotation)
    if isinstance(current, type) and issubclass(current, BaseModel):
        return tuple(field.alias or name for name, field in current.model_fields.items())
    return ()


def _model_within(annotation: Any) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (Union, types.UnionType, list, tuple, Annotated):
        for part in get_args(annotation):
            model = _model_within(part)
            if model is not None:
                return model
    return None


def one_or_many() -> BeforeValidator:
    """Accept `x` where a list is expected: `contains: "a"` for `contains: ["a"]`."""
    return BeforeValidator(lambda value: value if isinstance(value, list) else [value])
