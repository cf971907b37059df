"""The OpenAPI document."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from sysadmd.schema import Method, load_methods, openapi

METHODS = load_methods()
DOCUMENT: dict[str, Any] = openapi.document(METHODS.values())
CALLABLE = [method for method in METHODS.values() if method.namespace != "events"]


def operation(method: Method, verb: str = "post") -> Any:
    return DOCUMENT["paths"][f"/{method.namespace}/{method.name}"][verb]


def body_schema(method: Method) -> Any:
    return operation(method)["requestBody"]["content"]["application/json"]["schema"]


def test_every_method_but_those_of_events_has_a_path() -> None:
    assert set(DOCUMENT["paths"]) == {f"/{method.namespace}/{method.name}" for method in CALLABLE}


def test_the_three_verbs_do_the_same() -> None:
    for path, item in DOCUMENT["paths"].items():
        assert set(item) == {"get", "put", "post"}, path
        bodies = [{key: value for key, value in item[verb].items() if key != "operationId"} for verb in item]
        assert bodies[0] == bodies[1] == bodies[2]


def test_operations_have_names_of_their_own() -> None:
    names = [item[verb]["operationId"] for item in DOCUMENT["paths"].values() for verb in item]
    assert len(names) == len(set(names))


def test_the_document_is_json_without_references_into_schemas() -> None:
    text = json.dumps(DOCUMENT)
    assert json.loads(text) == DOCUMENT
    assert "$defs" not in text


@pytest.mark.parametrize("method", CALLABLE, ids=lambda method: method.key)
def test_the_body_of_an_example_is_accepted(method: Method) -> None:
    schema = body_schema(method)
    jsonschema.Draft202012Validator.check_schema(schema)
    for example in method.examples:
        if example.error is None:
            args = {"action": method.action, **example.args} if method.action else example.args
            jsonschema.validate(args, schema)


def test_a_path_with_actions_takes_each_of_them_and_no_other() -> None:
    schema = body_schema(METHODS["rpc/dispatcher/list"])
    jsonschema.validate({"action": "kill", "job_id": "x"}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"action": "dance"}, schema)


def test_a_job_beside_the_action_must_be_one() -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"action": "run", "job": 5}, body_schema(METHODS["rpc/dispatcher/run"]))


def test_who_must_log_in() -> None:
    assert operation(METHODS["rpc/identify"])["security"] == []
    assert operation(METHODS["rpc/query"])["security"] == [{"basic": []}, {"bearer": []}]
    schemes = DOCUMENT["components"]["securitySchemes"]
    http = {name: scheme["scheme"] for name, scheme in schemes.items() if scheme["type"] == "http"}
    assert http == {"basic": "basic", "bearer": "bearer"}
    assert schemes["token"]["name"] == "X-Token"


def test_errors_of_all_actions_are_listed() -> None:
    responses = operation(METHODS["rpc/dispatcher/run"])["responses"]
    assert set(responses) == {"200", "400", "401", "403", "404", "409", "499", "504"}
