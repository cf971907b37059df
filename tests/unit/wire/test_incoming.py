"""The client's direction: what it sends is understood, and it understands what is sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.errors import BadRequest, RpcError, WireError
from sysadmd.wire import JSONRPC, SYSADM, Dialect, Meta, Request, decode, jsonrpc, sysadm
from sysadmd.wire.messages import ErrorReply, EventMessage, Reply

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=10
)
WORDS = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=12)
TIMEOUTS = st.none() | st.floats(0.001, 1e6)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    action = draw(st.none() | WORDS)
    args = draw(st.dictionaries(st.text(), VALUES, max_size=3) if action else VALUES.filter(lambda value: value != {}))
    if isinstance(args, dict):
        args.pop("action", None)
    return Request(draw(WORDS), draw(WORDS), action, draw(SCALARS), args, True, draw(TIMEOUTS))


@given(requests())
def test_a_documented_request_arrives_as_it_was_sent(request: Request) -> None:
    frame = decode(sysadm.encode_request(request), classic=False)
    assert frame.dialect is SYSADM
    assert list(frame.entries) == [request]


IDS = st.none() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.builds(
        Request,
        WORDS,
        WORDS,
        st.none() | WORDS,
        IDS,
        st.lists(VALUES, max_size=3) | st.dictionaries(st.text(), VALUES, max_size=3),
        st.just(True),
        TIMEOUTS,
    )
)
def test_a_json_rpc_request_arrives_as_it_was_sent(request: Request) -> None:
    frame = decode(jsonrpc.encode_request(request), classic=False)
    assert frame.dialect is JSONRPC
    assert list(frame.entries) == [request]


def test_a_json_rpc_notification_arrives_as_one() -> None:
    request = Request("a", "b", None, None, {}, wants_reply=False)
    assert list(decode(jsonrpc.encode_request(request), classic=False).entries) == [request]


def test_an_action_needs_arguments_that_can_hold_it() -> None:
    assert b'"args":{"action":"c"}' in sysadm.encode_request(Request("a", "b", "c", 1, None))
    with pytest.raises(ValueError, match="an array, not an object"):
        sysadm.encode_request(Request("a", "b", "c", 1, [1]))


@given(SCALARS, VALUES)
def test_a_result_arrives_as_it_was_sent(request_id: Any, result: Any) -> None:
    asked = Request("a", "b", None, request_id, {})
    assert sysadm.decode_incoming(SYSADM.reply(asked, result)) == Reply(request_id, result, "a")
    assert jsonrpc.decode_incoming(JSONRPC.reply(asked, result)) == Reply(request_id, result)


@pytest.mark.parametrize("module,dialect", [(sysadm, SYSADM), (jsonrpc, JSONRPC)], ids=["documented", "jsonrpc"])
@pytest.mark.parametrize(
    "raised", [BadRequest("x", path="args.a", rule="type"), *(e() for e in RpcError.__subclasses__())]
)
def test_an_error_arrives_with_its_code_and_message(module: Any, dialect: Dialect, raised: RpcError) -> None:
    found = module.decode_incoming(dialect.error(Request("a", "b", None, "i", {}), raised))
    assert isinstance(found, ErrorReply)
    assert (found.id, found.code) == ("i", raised.code)
    assert raised.message in found.message


@pytest.mark.parametrize("module,dialect", [(sysadm, SYSADM), (jsonrpc, JSONRPC)], ids=["documented", "jsonrpc"])
@pytest.mark.parametrize("meta", [None, Meta("e", 7, 1.5, "n")])
def test_an_event_arrives_with_its_token(module: Any, dialect: Dialect, meta: Meta | None) -> None:
    (frame,) = dialect.event("life_preserver", {"message": "m", "priority": 1, "class": "snapshot"}, meta)
    found = module.decode_incoming(frame)
    args = {"message": "m", "priority": "1/Information", "class": "snapshot"}
    assert found == EventMessage("life_preserver", args, meta)


def test_a_classic_error_is_understood() -> None:
    text = '{"args":{"code":"401","message":"Unauthorized"},"id":"q1","name":"error","namespace":"error"}'
    assert sysadm.decode_incoming(text) == ErrorReply("q1", 401, "Unauthorized", None, "error")


@pytest.mark.parametrize("args", ["null", "[]", '{"code":"many"}', '{"code":[1],"message":5}'])
def test_an_error_that_is_badly_made_is_still_an_error(args: str) -> None:
    found = sysadm.decode_incoming(f'{{"namespace":"rpc","name":"error","id":1,"args":{args}}}')
    assert found == ErrorReply(1, 500, "", None, "rpc")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "5",
        "{}",
        '{"namespace":"rpc","name":"identify","id":"x","args":""}',
        '{"namespace":5,"name":"response"}',
        '{"namespace":"events","name":"x","id":"none","args":{},"seq":"five"}',
    ],
)
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        sysadm.decode_incoming(text)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"jsonrpc":"2.0"}', '{"jsonrpc":"2.0","method":"x","params":{}}'])
def test_what_is_no_json_rpc_message_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        jsonrpc.decode_incoming(text)
