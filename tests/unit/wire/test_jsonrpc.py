"""JSON-RPC 2.0: the examples of its specification (§7), and our mapping of methods and errors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sysadmd.errors import (
    BadRequest,
    Cancelled,
    Conflict,
    DeadlineExceeded,
    Forbidden,
    InternalError,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RpcError,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    WireError,
)
from sysadmd.wire import JSONRPC, SYSADM, Frame, Meta, Request, decode
from sysadmd.wire.jsonrpc import SERVER_ERRORS, join_batch


def run(text: str) -> Any:
    """What a server answers that has one method, `math/subtract`; None when it answers nothing."""
    frame = decode(text, classic=False)
    assert frame.dialect is JSONRPC
    answers = []
    for entry in frame.entries:
        if isinstance(entry, WireError):
            answers.append(JSONRPC.error(None, entry))
        elif (entry.namespace, entry.name) != ("math", "subtract"):
            answers.append(JSONRPC.error(entry, NotFound(f"there is no {entry.namespace}/{entry.name}")))
        elif isinstance(entry.args, list):
            answers.append(JSONRPC.reply(entry, entry.args[0] - entry.args[1]))
        else:
            answers.append(JSONRPC.reply(entry, entry.args["minuend"] - entry.args["subtrahend"]))
    text_out = join_batch(answers) if frame.batch else answers[0]
    return json.loads(text_out) if text_out else None


def error(code: int, request_id: Any) -> Any:
    return {"jsonrpc": "2.0", "code": code, "id": request_id}


def short(answer: Any) -> Any:
    """An error answer without its message and data."""
    if isinstance(answer, list):
        return [short(item) for item in answer]
    return error(answer["error"]["code"], answer["id"]) if "error" in answer else answer


def only(frame: Frame) -> Request | WireError:
    (entry,) = frame.entries
    return entry


# The examples of the specification


def test_positional_parameters() -> None:
    answer = run('{"jsonrpc": "2.0", "method": "math/subtract", "params": [42, 23], "id": 1}')
    assert answer == {"jsonrpc": "2.0", "result": 19, "id": 1}


def test_named_parameters() -> None:
    text = '{"jsonrpc": "2.0", "method": "math/subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": "3"}'
    assert run(text) == {"jsonrpc": "2.0", "result": 19, "id": "3"}


@pytest.mark.parametrize("method", ["math/subtract", "foobar"])
def test_a_notification_is_never_answered(method: str) -> None:
    assert run(json.dumps({"jsonrpc": "2.0", "method": method, "params": [2, 1]})) is None


def test_a_method_that_is_not_there() -> None:
    assert short(run('{"jsonrpc": "2.0", "method": "foobar", "id": "1"}')) == error(-32601, "1")


def test_invalid_json() -> None:
    assert short(run('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]')) == error(-32700, None)


def test_an_invalid_request() -> None:
    assert short(run('{"jsonrpc": "2.0", "method": 1, "params": "bar"}')) == error(-32600, None)


def test_a_batch_of_invalid_json() -> None:
    text = '[{"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},{"jsonrpc": "2.0", "method"]'
    assert short(run(text)) == error(-32700, None)


def test_an_empty_batch_is_answered_by_one_object() -> None:
    assert short(run("[]")) == error(-32600, None)


def test_an_invalid_batch() -> None:
    assert short(run("[1,2,3]")) == [error(-32600, None)] * 3


def test_a_batch() -> None:
    text = """[
        {"jsonrpc": "2.0", "method": "math/subtract", "params": [42,23], "id": "2"},
        {"jsonrpc": "2.0", "method": "notify/hello", "params": [7]},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo/get", "params": {"name": "myself"}, "id": "5"}
    ]"""
    assert short(run(text)) == [
        {"jsonrpc": "2.0", "result": 19, "id": "2"},
        error(-32600, None),
        error(-32601, "5"),
    ]


def test_a_batch_of_notifications_is_not_answered() -> None:
    assert run('[{"jsonrpc": "2.0", "method": "a/b"}, {"jsonrpc": "2.0", "method": "c/d"}]') is None


# Requests


@pytest.mark.parametrize(
    "method,address",
    [
        ("rpc/dispatcher/run", ("rpc", "dispatcher", "run")),
        ("rpc/query", ("rpc", "query", None)),
        ("rpc.discover", ("rpc", "discover", None)),
        ("foobar", ("foobar", "", None)),
        ("a/b/c/d", ("a", "b", "c/d")),
        ("/", ("", "", None)),
    ],
)
def test_the_parts_of_a_method(method: str, address: Any) -> None:
    entry = only(decode(json.dumps({"jsonrpc": "2.0", "method": method, "id": 1}), classic=False))
    assert isinstance(entry, Request)
    assert (entry.namespace, entry.name, entry.action) == address


def test_a_key_called_action_is_an_ordinary_parameter() -> None:
    text = '{"jsonrpc":"2.0","method":"rpc/dispatcher/run","params":{"action":"date"},"id":1}'
    assert only(decode(text, classic=False)) == Request("rpc", "dispatcher", "run", 1, {"action": "date"})


def test_absent_parameters_are_an_empty_object() -> None:
    assert only(decode('{"jsonrpc":"2.0","method":"a/b","id":1}', classic=False)) == Request("a", "b", None, 1, {})


@pytest.mark.parametrize("value", ["x", "", 0, -3, 1.5, 2**64, None])
def test_an_id_is_echoed(value: Any) -> None:
    entry = only(decode(json.dumps({"jsonrpc": "2.0", "method": "a/b", "id": value}), classic=False))
    assert isinstance(entry, Request)
    assert entry.wants_reply
    assert json.loads(JSONRPC.reply(entry, 1)) == {"jsonrpc": "2.0", "result": 1, "id": value}


@pytest.mark.parametrize("value", ["true", "[1]", "{}"])
def test_an_id_of_another_type_is_refused_and_not_echoed(value: str) -> None:
    entry = only(decode(f'{{"jsonrpc":"2.0","method":"a/b","id":{value}}}', classic=False))
    assert isinstance(entry, WireError)
    assert short(json.loads(JSONRPC.error(None, entry))) == error(-32600, None)


@pytest.mark.parametrize("params", ['"bar"', "5", "null", "true"])
def test_parameters_of_another_type_are_refused(params: str) -> None:
    assert short(run(f'{{"jsonrpc":"2.0","method":"math/subtract","params":{params},"id":7}}')) == error(-32600, 7)


def test_a_deadline() -> None:
    entry = only(decode('{"jsonrpc":"2.0","method":"a/b","id":1,"timeout":5}', classic=False))
    assert isinstance(entry, Request)
    assert entry.timeout == 5.0
    assert short(run('{"jsonrpc":"2.0","method":"a/b","id":1,"timeout":0}')) == error(-32600, 1)


def test_another_version_is_refused() -> None:
    assert short(run('{"jsonrpc":"1.0","method":"a/b","id":1}')) == error(-32600, 1)


def test_a_documented_frame_with_a_stray_jsonrpc_key_is_documented() -> None:
    frame = decode('{"jsonrpc":"1.0","namespace":"a","name":"b","id":1,"args":{}}', classic=False)
    assert frame.dialect is SYSADM
    assert isinstance(only(frame), Request)


def test_an_original_program_may_speak_json_rpc_too() -> None:
    assert decode('{"jsonrpc":"2.0","method":"a/b","id":1}', classic=True).dialect is JSONRPC


def test_a_batch_that_is_too_long_is_refused_as_a_whole() -> None:
    frame = decode("[" + "1," * 200 + "1]", classic=False)
    assert not frame.batch
    assert short(json.loads(JSONRPC.error(None, only(frame)))) == error(-32600, None)  # type: ignore[arg-type]


# Errors


@pytest.mark.parametrize(
    "raised,code",
    [
        (BadRequest("x", path="args.lines", rule="minimum"), -32602),
        (BadRequest("x", path="args.action", rule="enum"), -32601),
        (NotFound("there is no a/b"), -32601),
        (NotFound("no such job", path="args.process_id"), -32004),
        (InternalError(), -32603),
        (Unauthorized(), -32001),
        (Forbidden(), -32003),
        (MethodNotAllowed(), -32005),
        (Conflict(), -32009),
        (PayloadTooLarge(), -32013),
        (TooManyRequests(), -32029),
        (Unavailable(), -32053),
        (DeadlineExceeded(), -32054),
        (Cancelled(), -32099),
    ],
)
def test_the_code_of_an_error(raised: RpcError, code: int) -> None:
    answer = json.loads(JSONRPC.error(Request("a", "b", None, 1, {}), raised))
    assert answer["error"]["code"] == code
    assert answer["error"]["data"]["code"] == raised.code


def test_server_errors_stay_in_their_range_and_apart() -> None:
    assert all(-32099 <= code <= -32000 for code in SERVER_ERRORS.values())
    assert len(set(SERVER_ERRORS.values())) == len(SERVER_ERRORS)


def test_the_data_of_an_error_name_path_and_rule() -> None:
    raised = BadRequest("-1 is less than the minimum of 0", path="args.lines", rule="minimum")
    assert json.loads(JSONRPC.error(Request("a", "b", None, 1, {}), raised))["error"] == {
        "code": -32602,
        "message": "args.lines: -1 is less than the minimum of 0",
        "data": {"code": 400, "path": "args.lines", "rule": "minimum"},
    }


def test_an_error_of_a_notification_is_not_sent() -> None:
    assert JSONRPC.error(Request("a", "b", None, None, {}, wants_reply=False), NotFound()) == b""


def test_a_frame_that_is_too_deep_is_no_parse_error() -> None:
    entry = only(decode('{"jsonrpc":"2.0","x":' + "[" * 40 + "]" * 40 + "}", classic=False))
    assert isinstance(entry, WireError)
    assert short(json.loads(JSONRPC.error(None, entry))) == error(-32600, None)


# Events


def test_an_event_is_a_notification() -> None:
    (frame,) = JSONRPC.event("life_preserver", {"message": "m", "priority": 3, "class": "snapshot"})
    assert json.loads(frame) == {
        "jsonrpc": "2.0",
        "method": "events/life_preserver",
        "params": {"args": {"message": "m", "priority": "3/Warning", "class": "snapshot"}},
    }


def test_an_extended_event_has_the_resume_token_beside_args() -> None:
    (frame,) = JSONRPC.event("queue", {}, Meta("e", 5, 1.5, "n"))
    assert json.loads(frame)["params"] == {"args": {}, "epoch": "e", "seq": 5, "time": 1.5, "node": "n"}
