"""Refusals: what they say, and what they keep to themselves."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from sysadmd.errors import BadRequest
from sysadmd.schema import Validator, load_methods


@pytest.fixture(params=["fast", "reference"], autouse=True)
def implementation(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test runs with jsonschema-rs and without."""
    if request.param == "reference":
        monkeypatch.setenv("SYSADMD_VALIDATOR", "jsonschema")
    else:
        pytest.importorskip("jsonschema_rs", reason="jsonschema-rs is not installed")
        monkeypatch.delenv("SYSADMD_VALIDATOR", raising=False)


def refusal(schema: dict[str, Any], value: Any, name: str = "args") -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        Validator(schema, name=name).check(value)
    return caught.value


def keys(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    "schema,value,message",
    [
        (keys(lines={"minimum": 0}), {"lines": -1}, "args.lines: -1 is less than the minimum of 0"),
        (keys(lines={"maximum": 5}), {"lines": 6.5}, "args.lines: 6.5 is greater than the maximum of 5"),
        (keys(t={"exclusiveMinimum": 0}), {"t": 0}, "args.t: 0 is not greater than 0"),
        (keys(t={"exclusiveMaximum": 9}), {"t": 9}, "args.t: 9 is not less than 9"),
        (keys(a={"type": "string"}), {"a": 5}, "args.a: 5 is not of type string"),
        (keys(a={"type": ["string", "null"]}), {"a": []}, "args.a: an array is not of type string or null"),
        (keys(a={"type": "integer"}), {"a": True}, "args.a: true is not of type integer"),
        (keys(a={"enum": ["x", 1]}), {"a": "y"}, 'args.a: "y" is not one of "x", 1'),
        (keys(a={"const": "x"}), {"a": {}}, 'args.a: an object is not "x"'),
        (keys(a={"pattern": "^[a-z]+$"}), {"a": "a\n"}, 'args.a: "a\\n" does not match the pattern ^[a-z]+$'),
        (keys(a={"minLength": 2}), {"a": "x"}, 'args.a: "x" has 1 character, the minimum is 2'),
        (keys(a={"maxLength": 1}), {"a": "xyz"}, 'args.a: "xyz" has 3 characters, the maximum is 1'),
        (keys(a={"minItems": 1}), {"a": []}, "args.a: an array has 0 items, the minimum is 1"),
        (keys(a={"maxItems": 1}), {"a": [1, 2]}, "args.a: an array has 2 items, the maximum is 1"),
        (keys(a={"uniqueItems": True}), {"a": [1, 1]}, "args.a: an array has an item twice"),
        ({"minProperties": 1}, {}, "args: an object has 0 keys, the minimum is 1"),
        ({"required": ["a", "b"]}, {"a": 1}, 'args: "b" is required'),
        ({"type": "object"}, [], "args: an array is not of type object"),
        ({"not": {}}, 5, "args: 5 breaks the rule not"),
    ],
)
def test_the_sentence_of_each_rule(schema: dict[str, Any], value: Any, message: str) -> None:
    assert refusal(schema, value).message == message


def test_path_and_rule_are_told_apart() -> None:
    error = refusal(keys(lines={"minimum": 0}), {"lines": -1})
    assert (error.path, error.rule, error.code) == ("args.lines", "minimum", 400)


def test_the_path_into_lists_and_odd_keys() -> None:
    schema = {"additionalProperties": {"items": {"type": "string"}}}
    assert refusal(schema, {"my job": ["a", 5]}).path == 'args["my job"][1]'
    assert refusal(schema, {"job": [5]}, name="result").path == "result.job[0]"


@pytest.mark.parametrize(
    "key,hint", [("lanes", 'did you mean "lane"?'), ("weather", "known: commands, lane"), ("", "known: commands, lane")]
)
def test_an_unknown_key_gets_a_hint(key: str, hint: str) -> None:
    schema = {**keys(lane={}, commands={}), "additionalProperties": False}
    assert refusal(schema, {key: 1}).message == f'args: unknown key "{key}" ({hint})'


def test_of_a_choice_the_form_that_was_meant_explains() -> None:
    job = {"type": "object", "required": ["commands"], "properties": {"commands": {"minItems": 1}}}
    schema = {"oneOf": [{"type": "string"}, {"type": "array", "minItems": 1}, job]}
    assert refusal(schema, {"commands": []}).message == "args.commands: an array has 0 items, the minimum is 1"
    assert refusal(schema, []).message == "args: an array has 0 items, the minimum is 1"


def test_of_a_choice_without_a_near_form_all_are_named() -> None:
    schema = {
        "anyOf": [{"title": "One", "type": "string"}, {"type": "array"}, {"$ref": "#/$defs/job"}],
        "$defs": {"job": {"type": "object"}},
    }
    assert refusal(schema, 5).message == "args: 5 has none of the forms that are allowed here: One | array | job"


def test_a_long_value_is_cut() -> None:
    assert len(refusal({"maxLength": 10}, "x" * 100_000).message) < 150
    assert len(refusal({**keys(), "additionalProperties": False}, {"x" * 100_000: 1}).message) < 150


@pytest.mark.parametrize(
    "value",
    [{"password": 12345678}, {"password": "12345678" * 9}, "12345678", {"password": ["12345678"]}, ["12345678"]],
)
def test_a_secret_is_never_quoted(value: Any) -> None:
    schema = keys(password={"type": "string", "maxLength": 64, "x-secret": True})
    assert "1234" not in refusal(schema, value).message


def test_a_value_that_follows_the_schema_passes() -> None:
    Validator(keys(a={"type": "integer"})).check({"a": 1, "b": 2})


def test_values_of_any_size_pass() -> None:
    Validator({}).check({"a": 2**200, "b": -(2**200), "c": 1e308, "d": "\x00"})


def test_the_reference_is_not_imported_before_the_first_refusal() -> None:
    pytest.importorskip("jsonschema_rs", reason="jsonschema-rs is not installed")
    script = """
import sys
import time
from sysadmd.schema import Validator, load_methods
for method in load_methods().values():
    Validator(method.args)
Validator({"type": "object"}).check({})
sys.exit("jsonschema" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=30, env={}).returncode == 0


@pytest.mark.parametrize(
    "key,args,message",
    [
        ("events/subscribe", ["dispatcher"] * 120_000, "args: an array has 120000 items, the maximum is 64"),
        (
            "rpc/dispatcher/run",
            {f"p{number}": 5 for number in range(60_000)},
            "args: an object has 60000 keys, the maximum is 100",
        ),
    ],
)
def test_a_frame_full_of_values_is_refused_at_once(key: str, args: Any, message: str) -> None:
    """The whole server waits for the explanation; looking at each of these took seconds."""
    validator = Validator(load_methods()[key].args)
    with pytest.raises(BadRequest):
        validator.check(7)  # which imports the reference
    started = time.perf_counter()
    with pytest.raises(BadRequest) as caught:
        validator.check(args)
    assert time.perf_counter() - started < 0.5
    assert str(caught.value) == message


def test_a_frame_of_many_jobs_with_many_commands_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With jsonschema-rs: without it nothing but the search tells that a value is refused."""
    monkeypatch.delenv("SYSADMD_VALIDATOR", raising=False)
    validator = Validator(load_methods()["rpc/dispatcher/run"].args)
    args = {f"p{number}": ["true"] * 1000 for number in range(99)} | {"bad": 5}
    with pytest.raises(BadRequest) as caught:
        validator.check(args)
    assert str(caught.value) == "args: the values break the schema, and are too many to look for the place"
    assert (caught.value.path, caught.value.rule) == ("args", "schema")
