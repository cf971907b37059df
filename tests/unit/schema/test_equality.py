"""jsonschema-rs decides, jsonschema is the reference: over our schemas they are equal."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadmd.schema import Method, load_methods
from sysadmd.schema.explain import reference, refusal

jsonschema_rs = pytest.importorskip("jsonschema_rs", reason="jsonschema-rs is not installed")

METHODS = load_methods()
PAIRS = {
    f"{key} {part}": (jsonschema_rs.Draft202012Validator(schema).is_valid, reference(schema))
    for key, method in METHODS.items()
    for part, schema in (("args", dict(method.args)), ("returns", dict(method.returns)))
}


def words(schema: Any) -> set[str]:
    """Every key and every constant of a schema: what a value must be made of to come anywhere near it."""
    if isinstance(schema, dict):
        own = set(schema.get("properties", {})) | {item for item in schema.get("enum", ()) if isinstance(item, str)}
        return own.union(*(words(part) for part in schema.values()))
    return set().union(*(words(part) for part in schema)) if isinstance(schema, list) else set()


WORDS = sorted(set().union(*(words(dict(method.args)) for method in METHODS.values())))
TEXTS = st.sampled_from([*WORDS, "", "/", "/tmp", "x\n", "é", "a" * 33, "-", "0", "12\n"]) | st.text(max_size=8)
LEAVES = st.none() | st.booleans() | st.integers(-2, 400_000) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(
    LEAVES | st.sampled_from([2**63, 2**64, 2**200, 1.0, 0.0, -0.0]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of a value and of everything in it."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(spot for key, item in inner for spot in spots(item, (*path, key)))]


def changed(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    value = copy.copy(value)
    value[path[0]] = changed(value[path[0]], path[1:], new)
    return value


def examples(method: Method, part: str) -> list[Any]:
    if part == "args":
        return [example.args for example in method.examples]
    return [example.result for example in method.examples if example.error is None]


@st.composite
def near_values(draw: st.DrawFn) -> tuple[str, Any]:
    """An example of a method with one part of it replaced, or anything."""
    name = draw(st.sampled_from(sorted(PAIRS)))
    key, part = name.split()
    choices = examples(METHODS[key], part)
    if not choices or draw(st.integers(0, 3)) == 0:
        return name, draw(VALUES)
    value = draw(st.sampled_from(choices))
    return name, changed(value, draw(st.sampled_from(spots(value))), draw(VALUES))


@settings(max_examples=600)
@given(near_values())
def test_both_say_the_same(case: tuple[str, Any]) -> None:
    name, value = case
    accepts, validator = PAIRS[name]
    explained = refusal(validator, value, "args")
    assert accepts(value) == (explained is None), explained
    if explained is not None:
        assert explained.message.startswith(explained.path)
        assert len(explained.message) < 1000
