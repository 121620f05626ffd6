"""Whatever sites.yml says: what loads can be probed, and what does not load says why."""

import tempfile
import types
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dolcevita import probes
from dolcevita.config import ConfigError, Site, load
from dolcevita.probes import KINDS, PLANNED, Reason, Target
from sites import files
from webserver import run

BEYOND_THIS_MACHINE = {"browser", "domain"}
"""Kinds whose probe starts a browser, or asks registries."""

BUDGET = 0.3

MOST_KINDS = sorted({kind.name: scheme for scheme, kind in KINDS.items()}.values())

words = st.sampled_from(
    ["a", "Add to cart", "^220 (.*)", "(", "example.com", "192.0.2.1", "::1", "15s", "10MB",
     "TLS 1.2", "1.1", "$.status", "$[", "no", "é\u202e", "a\nb", "/does/not/exist", "GET", "{}"]
)  # fmt: skip
junk = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 70_000) | st.floats(-1, 1e6) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=4,
)


def values(annotation: Any, name: str) -> st.SearchStrategy[Any]:
    """Values that a field of this type may take, or nearly."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values(parts[0], name)
    if origin in (Union, types.UnionType):
        return st.one_of([values(part, name) for part in parts])
    if origin is Literal:
        return st.sampled_from(parts)
    if origin in (tuple, list):
        return st.lists(values(parts[0], name), max_size=2)
    if origin is dict:
        keys = words | st.sampled_from(["X-Test", "$.a", "host"])
        return st.dictionaries(keys, values(parts[1], name), max_size=2)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return fields(annotation)
    plain: dict[Any, st.SearchStrategy[Any]] = {
        bool: st.booleans(),
        int: st.integers(0, 600),
        float: st.sampled_from(["1s", "200ms", 2]),
        Path: st.sampled_from(["/does/not/exist", "/dev/null", "/"]),
        str: words,
        type(None): st.none(),
    }
    return plain.get(annotation, junk)


def field_values(name: str, field: FieldInfo) -> st.SearchStrategy[Any]:
    fitting = values(field.annotation, name)
    # One in thirty is anything at all.
    return st.integers(0, 29).flatmap(lambda roll: junk if roll == 0 else fitting)


def fields(model: type[BaseModel]) -> st.SearchStrategy[dict[str, Any]]:
    """Some of a model's fields."""
    by_name = {
        field.alias or name: field_values(name, field) for name, field in model.model_fields.items()
    }
    if not by_name:
        return st.just({})
    return st.lists(st.sampled_from(sorted(by_name)), max_size=3, unique=True).flatmap(
        lambda names: st.fixed_dictionaries({name: by_name[name] for name in names})
    )


URLS = {
    "dns": "dns://127.0.0.1:1/example.com?type=A",
    "heartbeat": "heartbeat://backup",
    "domain": "domain://example.com",
    "unix": "unix:///does/not/exist.sock",
    "icmp": "icmp://127.0.0.1",
}


@st.composite
def sites(draw: st.DrawFn) -> dict[str, Any]:
    """One site of any kind."""
    scheme = draw(st.sampled_from(MOST_KINDS))
    kind = KINDS[scheme]
    url = URLS.get(scheme, f"{scheme}://127.0.0.1:1/")
    url = draw(
        st.sampled_from([url, url, url, url, f"{scheme}://", f"{scheme}://a b/", "nonsense"])
    )
    site: dict[str, Any] = {"name": "it", "url": url}
    if draw(st.booleans()):
        site[kind.name] = draw(fields(kind.options))
    if draw(st.booleans()):
        site["expect"] = draw(fields(kind.expect))
    if draw(st.integers(0, 19)) == 0:
        site[draw(words)] = draw(junk)
    return site


async def probed(site: Site) -> probes.Result:
    kind = probes.kind_of(site.url)
    assert kind
    target = Target[Any, Any](site.url, site.options, site.expect)
    try:
        return await probes.probe(kind, target, BUDGET)
    finally:
        await probes.close()


def loaded(site: dict[str, Any]) -> tuple[str, tuple[Site, ...]]:
    """The file's text and its sites, none where it is refused, which must be for a reason."""
    text = yaml.safe_dump({"sites": [site]}, allow_unicode=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            return text, load(*files(Path(folder), text), KINDS, PLANNED).sites
        except ConfigError as error:
            assert error.problems
            for problem in error.problems:
                assert Path(problem.file).name == "sites.yml"
                assert 1 <= problem.line <= text.count("\n") + 1
                assert len(problem.message.split()) >= 3, problem.message
                assert "\n" not in str(problem)
                assert "Value error" not in str(problem) and "pydantic" not in str(problem)
            return text, ()


slow = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@settings(slow, max_examples=1000)
@given(sites())
def test_what_does_not_load_says_why(site):
    loaded(site)


@settings(slow, max_examples=250)
@given(sites())
def test_what_loads_can_be_probed(site):
    text, watched = loaded(site)
    for one in watched:
        if one.kind not in BEYOND_THIS_MACHINE:
            result = run(probed(one))
            assert result.reason is not Reason.INTERNAL, (text, result)
            assert result.detail
            assert result.duration < BUDGET + 1
