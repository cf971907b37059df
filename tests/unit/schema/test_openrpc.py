"""The OpenRPC document."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from sysadmd.schema import Validator, load_methods, openrpc

METHODS = load_methods()
DOCUMENT: dict[str, Any] = openrpc.document(METHODS.values())
BY_NAME: dict[str, Any] = {method["name"]: method for method in DOCUMENT["methods"]}


def test_the_document_holds_the_methods_that_were_given() -> None:
    some = [METHODS["rpc/identify"], METHODS["rpc/query"]]
    assert [method["name"] for method in openrpc.document(some)["methods"]] == ["rpc/identify", "rpc/query"]
    assert list(BY_NAME) == list(METHODS)


def test_the_document_is_json() -> None:
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT


def test_the_document_is_what_discover_promises() -> None:
    Validator(METHODS["rpc/discover"].returns, name="result").check(DOCUMENT)


def test_the_keys_that_openrpc_requires() -> None:
    assert {"openrpc", "info", "methods"} <= set(DOCUMENT)
    assert {"title", "version"} <= set(DOCUMENT["info"])
    for method in DOCUMENT["methods"]:
        assert {"name", "params"} <= set(method)
        for descriptor in [*method["params"], method["result"]]:
            assert {"name", "schema"} <= set(descriptor)
        for pairing in method["examples"]:
            assert {"name", "params"} <= set(pairing)
            assert all(set(value) == {"name", "value"} for value in [*pairing["params"], pairing["result"]])


def test_no_reference_points_out_of_its_schema() -> None:
    assert "$ref" not in json.dumps(DOCUMENT)


@pytest.mark.parametrize("name", list(BY_NAME))
def test_the_schemas_of_the_document_are_sound(name: str) -> None:
    for descriptor in [*BY_NAME[name]["params"], BY_NAME[name]["result"]]:
        jsonschema.Draft202012Validator.check_schema(descriptor["schema"])


def test_parameters_are_named_and_say_whether_they_are_required() -> None:
    params = {param["name"]: param["required"] for param in BY_NAME["rpc/dispatcher/read_log"]["params"]}
    assert params == {"process_id": True, "command": False, "offset": False, "length": False, "follow": False}


def test_arguments_that_are_no_object_are_told_whole() -> None:
    method = BY_NAME["events/subscribe"]
    jsonschema.validate(["dispatcher"], method["x-args"])
    assert {"name": "args", "value": "system-state"} in [param for e in method["examples"] for param in e["params"]]
