"""Every file below schemas/: sound JSON Schema, true examples, complete documentation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sysadmd.errors import BadRequest
from sysadmd.schema import Method, Validator, load_methods, paths
from sysadmd.wire import SYSADM, Meta, Request
from sysadmd.wire.topics import TOPICS

METHODS = load_methods()
EVENTS = {path.stem: json.loads(path.read_text()) for path in sorted((paths.root() / "events").glob("*.json"))}
ENVELOPE = json.loads((paths.root() / "envelope.json").read_text())
META = Meta("9f86d081884c7d65", 4711, 1_795_316_400.25, "vault")

each_method = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
each_event = pytest.mark.parametrize("topic", EVENTS)


def follows(schema: Any, value: Any) -> None:
    jsonschema.Draft202012Validator(schema).validate(value)


def subschemas(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    if isinstance(schema, dict):
        yield path, schema
        for key, part in schema.items():
            yield from subschemas(part, f"{path}/{key}")
    elif isinstance(schema, list):
        for index, part in enumerate(schema):
            yield from subschemas(part, f"{path}/{index}")


@pytest.mark.parametrize("path", sorted(paths.root().rglob("*.json")), ids=lambda path: path.stem)
def test_a_file_reads_well_and_ends_with_a_newline(path: Path) -> None:
    text = path.read_text()
    assert text.endswith("}\n")
    assert "\t" not in text
    json.loads(text)


@each_method
def test_the_schemas_of_a_method_follow_the_metaschema(method: Method) -> None:
    jsonschema.Draft202012Validator.check_schema(method.args)
    jsonschema.Draft202012Validator.check_schema(method.returns)


@pytest.mark.parametrize("schema", [ENVELOPE, *EVENTS.values()], ids=["envelope", *EVENTS])
def test_the_schemas_of_frames_follow_the_metaschema(schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)


@each_method
def test_the_arguments_of_an_example_follow_the_schema_unless_it_shows_that_they_do_not(method: Method) -> None:
    validator = Validator(method.args)
    for example in method.examples:
        if example.error is None or example.error.code != 400:
            validator.check(example.args)


@each_method
def test_the_result_of_an_example_follows_the_schema(method: Method) -> None:
    validator = Validator(method.returns, name="result")
    for example in method.examples:
        if example.error is None:
            validator.check(example.result)


@each_method
def test_what_must_come_before_an_example_are_calls_that_would_be_accepted(method: Method) -> None:
    for example in method.examples:
        for before in example.before:
            Validator(METHODS[before.call].args).check(before.args)


@each_method
def test_an_error_of_an_example_is_a_declared_one(method: Method) -> None:
    declared = {case.code for case in method.errors}
    assert {example.error.code for example in method.examples if example.error is not None} <= declared


@each_method
def test_a_method_is_documented(method: Method) -> None:
    assert method.title
    assert not method.title.endswith(".")
    assert method.description.endswith(".")
    assert any(example.error is None for example in method.examples)
    for name, schema in method.args.get("properties", {}).items():
        assert schema.get("description"), name


@each_method
def test_who_is_told_to_log_in(method: Method) -> None:
    """Everything but the public methods answers 401 to a stranger, and says so."""
    codes = {case.code for case in method.errors}
    assert method.access == "public" or 401 in codes
    assert method.access != "admin" or 403 in codes


@each_method
def test_every_text_and_list_of_the_arguments_is_bounded(method: Method) -> None:
    for path, schema in subschemas(dict(method.args)):
        if schema.get("type") == "string":
            assert {"maxLength", "enum", "const", "pattern"} & set(schema), path
        if schema.get("type") == "array":
            assert "maxItems" in schema, path


def test_passwords_and_tokens_are_marked() -> None:
    for method in METHODS.values():
        for path, schema in subschemas(dict(method.args)):
            if path.rpartition("/")[2] in ("password", "token") and "type" in schema:
                assert schema.get("x-secret") is True, f"{method.key}{path}"


@pytest.mark.parametrize(
    "key,value",
    [
        ("rpc/dispatcher/run", {"a": 5}),
        ("rpc/dispatcher/run", {"": "date"}),
        ("rpc/dispatcher/run", {"a": ""}),
        ("rpc/dispatcher/run", {"a": [[]]}),
        ("rpc/dispatcher/run", {"a": {"commands": "date", "cwd": "relative"}}),
        ("rpc/dispatcher/run", {"a": {"commands": "date", "timeout": 0}}),
        ("rpc/dispatcher/run", {"a": {"command": "date"}}),
        ("rpc/dispatcher/read_log", {"process_id": "a", "length": 262_145}),
        ("rpc/cancel", {}),
        ("events/subscribe", "gap"),
        ("events/subscribe", []),
        ("events/subscribe", {"topics": "dispatcher"}),
        ("events/subscribe", {"topics": ["dispatcher"], "policy": "drop"}),
        ("events/subscribe", {"topics": ["dispatcher"], "since": {"seq": 1}}),
        ("events/unsubscribe", {}),
        ("events/unsubscribe", {"subscription": "1", "topics": []}),
        ("rpc/accounts/add", {"name": "../etc", "password": "x"}),
    ],
)
def test_what_a_method_refuses(key: str, value: Any) -> None:
    with pytest.raises(BadRequest):
        Validator(METHODS[key].args).check(value)


@pytest.mark.parametrize(
    "key,value",
    [
        ("rpc/identify", None),
        ("rpc/query", "simple-query"),
        ("rpc/auth", {"username": "alice", "password": "", "extra": 1}),
        ("rpc/dispatcher/list", {"unknown": 1}),
        ("rpc/dispatcher/kill", {"job_id": "a", "unknown": 1}),
        ("events/subscribe", {"topics": []}),
        ("events/unsubscribe", {"topics": []}),
    ],
)
def test_what_original_clients_send_is_accepted(key: str, value: Any) -> None:
    Validator(METHODS[key].args).check(value)


# Frames and events


def test_every_topic_has_a_schema() -> None:
    assert set(EVENTS) == TOPICS


@each_event
def test_the_examples_of_an_event_are_events(topic: str) -> None:
    for example in EVENTS[topic]["examples"]:
        follows(EVENTS[topic], example)
        follows(ENVELOPE, example)


def test_the_examples_of_frames_are_frames() -> None:
    for example in ENVELOPE["examples"]:
        follows(ENVELOPE, example)


@pytest.mark.parametrize("frame", [{"namespace": "rpc"}, {"namespace": "rpc", "name": "error", "id": 1, "args": {}}, 5])
def test_what_is_no_frame(frame: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        follows(ENVELOPE, frame)


LOG = {"state": "running", "process_id": "p", "time_started": 1.0, "cmd_list": ["a"], "a": "x", "return_codes/a": 0}
COLUMNS = ("size", "alloc", "free", "frag", "expandsz", "dedup", "altroot", "capacity", "health")
JOB = {"id": "6925a3c09d1f04b7e2000001", "seq": 7, "name": "n", "kind": "task", "owner": "o", "state": "running"}
MASKED = {"name": "UnauthorizedJob", "kind": "task", "state": "error"}
PAYLOADS: list[tuple[str, dict[str, Any]]] = [
    ("life_preserver", {"message": "m", "priority": 10, "class": "replication"}),
    ("system_state", {"hostname": "h", "hostnamechanged": False, "priority": 0}),
    (
        "system_state",
        {
            "hostname": "h",
            "hostnamechanged": True,
            "priority": 9,
            "zpools": {"tank": {**dict.fromkeys(COLUMNS, "-"), "priority": 9}},
        },
    ),
    ("bridge", {"available_connections": []}),
    ("queue", {"event": "start_job", "job": JOB, "counts": {"running": 1}, "attempts_left": 1}),
    ("queue", {"event": "failed_job", "job": MASKED, "counts": {}, "attempts_left": 0, "detail": {"by": "x"}}),
    ("queue", {"event": "summary", "rows": []}),
    ("workqueue", {"event": "job", "job": {**JOB, "kind": "transfer", "ext_id": "x"}}),
    (
        "workqueue",
        {
            "event": "element",
            "job": {**MASKED, "kind": "transfer"},
            "element": {"id": 0, "type": "LIST", "status": "DONE", "size": 0},
            "progress": {"transferred": 1},
        },
    ),
    ("gap", {"from": 1, "to": 2, "cause": "restart"}),
    *(
        (
            "dispatcher",
            {
                "phase": phase,
                "process_id": "p",
                "event_system": system,
                "extra": {"pkg_log": "x"} if system else {},
                "details": LOG,
                "update": None,
            },
        )
        for phase in ("pending", "started", "output", "command", "finished")
        for system in (None, "sysadm/pkg")
    ),
]


@pytest.mark.parametrize("meta", [None, META], ids=["plain", "extended"])
@pytest.mark.parametrize("topic,data", PAYLOADS)
def test_what_is_sent_follows_its_schema(topic: str, data: dict[str, Any], meta: Meta | None) -> None:
    sent = [json.loads(frame) for frame in SYSADM.event(topic, data, meta)]
    assert sent
    for frame in sent:
        follows(EVENTS[topic], frame)
        follows(ENVELOPE, frame)


def test_replies_and_errors_follow_the_schema() -> None:
    request = Request("rpc", "query", None, 7, {})
    follows(ENVELOPE, json.loads(SYSADM.reply(request, {})))
    follows(ENVELOPE, json.loads(SYSADM.error(request, BadRequest("x"))))
    follows(ENVELOPE, json.loads(SYSADM.error(None, BadRequest("x"))))
