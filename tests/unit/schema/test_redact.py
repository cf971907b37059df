"""What of a call's arguments may be written down."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.schema import load_methods
from sysadmd.schema.redact import SECRET, Redactor

HIDDEN = {"type": "string", "x-secret": True}
PLAIN = {"type": "string"}
MARK = "what nobody may read"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def properties(**named: Any) -> dict[str, Any]:
    return {"type": "object", "properties": named}


@pytest.mark.parametrize(
    "schema,value,written",
    [
        (properties(a=HIDDEN, b=PLAIN), {"a": "x", "b": "y"}, {"a": SECRET, "b": "y"}),
        (properties(a=properties(b=HIDDEN)), {"a": {"b": "x", "c": "y"}}, {"a": {"b": SECRET, "c": "y"}}),
        ({"type": "array", "items": HIDDEN}, ["x", "y"], [SECRET, SECRET]),
        ({"type": "array", "prefixItems": [PLAIN, HIDDEN]}, ["x", "y", "z"], ["x", SECRET, "z"]),
        ({"prefixItems": [PLAIN], "items": HIDDEN}, ["x", "y", "z"], ["x", SECRET, SECRET]),
        ({"additionalProperties": HIDDEN, "properties": {"a": PLAIN}}, {"a": "x", "b": "y"}, {"a": "x", "b": SECRET}),
        ({"patternProperties": {"^p": HIDDEN}}, {"pw": "x", "a": "y"}, {"pw": SECRET, "a": "y"}),
        (
            {"patternProperties": {"^p": HIDDEN}, "properties": {"pw": PLAIN}},
            {"pw": "x"},
            {"pw": SECRET},
        ),
        ({"oneOf": [properties(a=HIDDEN), properties(b=HIDDEN)]}, {"a": "x", "b": "y"}, {"a": SECRET, "b": SECRET}),
        ({"anyOf": [PLAIN, properties(a=HIDDEN)]}, "x", "x"),
        ({"allOf": [properties(a=PLAIN), properties(a=HIDDEN)]}, {"a": "x"}, {"a": SECRET}),
        ({"$ref": "#/$defs/s", "$defs": {"s": HIDDEN}}, "x", SECRET),
        ({"$ref": "#/$defs/none", "$defs": {"s": HIDDEN}}, "x", SECRET),
        (HIDDEN, {"whatever": ["it", "is"]}, SECRET),
        (properties(a=HIDDEN), {}, {}),
    ],
)
def test_what_the_schema_calls_a_secret_is_left_out(schema: Any, value: Any, written: Any) -> None:
    assert Redactor(schema)(value) == written


@given(json_values)
def test_without_a_secret_in_the_schema_values_are_as_they_are(value: Any) -> None:
    assert Redactor(properties(a=PLAIN))(value) is value


@given(json_values, json_values)
def test_a_secret_is_gone_whatever_stands_around_it(secret: Any, around: Any) -> None:
    value = {"around": around, "deep": [{"secret": {MARK: secret}}]}
    schema = properties(deep={"items": properties(secret={"x-secret": True})})
    written = Redactor(schema)(value)
    assert written == {"around": around, "deep": [{"secret": SECRET}]}
    assert MARK not in str(written)


def test_the_value_itself_is_not_changed() -> None:
    value = {"a": "x"}
    Redactor(properties(a=HIDDEN))(value)
    assert value == {"a": "x"}


def test_a_schema_that_refers_to_itself_ends() -> None:
    node = properties(secret=HIDDEN, next={"$ref": "#/$defs/node"})
    value: Any = {"secret": MARK}
    for _ in range(200):
        value = {"secret": MARK, "next": value}
    assert MARK not in str(Redactor({"$ref": "#/$defs/node", "$defs": {"node": node}})(value))


SECRET_WORDS = ("password", "token", "encrypted_string", "signature", "secret")


@pytest.mark.parametrize("method", load_methods().values(), ids=list(load_methods()))
def test_no_method_takes_a_secret_without_its_mark(method: Any) -> None:
    """What is called a password, a token or a proof in any method's arguments is one."""
    redact = Redactor(method.args)
    for name in SECRET_WORDS:
        if name in method.args.get("properties", ()):
            assert redact({name: MARK}) == {name: SECRET}, f"{method.key}: {name}"
