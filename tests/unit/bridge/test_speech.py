"""Frames between a bridge and a peer, letter for letter."""

from __future__ import annotations

import json

import pytest

from sysadmd.bridge import speech
from sysadmd.bridge.speech import Said
from sysadmd.errors import BadRequest, NotFound, Unauthorized, WireError

SAID = Said("rpc", "auth_ssl", "x", "")


def test_a_classic_reply_has_its_keys_in_order() -> None:
    assert speech.answer(SAID, None, classic=True) == b'{"args":null,"id":"x","name":"response","namespace":"rpc"}'


def test_a_documented_reply_has_its_keys_in_order() -> None:
    assert speech.answer(SAID, [1], classic=False) == b'{"namespace":"rpc","name":"response","id":"x","args":[1]}'


def test_a_log_in_that_failed() -> None:
    error = Unauthorized("why")
    classic = b'{"args":"unauthorized","id":"x","name":"error","namespace":"rpc"}'
    assert speech.login_refused("x", error, classic=True) == classic
    ours = b'{"namespace":"rpc","name":"error","id":"x","args":{"code":401,"message":"why"}}'
    assert speech.login_refused("x", error, classic=False) == ours


def test_anything_else_before_the_log_in_of_an_original() -> None:
    said = Said("sysadm", "zfs", 7, {})
    assert speech.unauthorized(said) == b'{"args":null,"id":7,"name":"error","namespace":"sysadm"}'


def test_a_frame_that_was_not_relayed() -> None:
    told = json.loads(speech.undelivered(NotFound("why"), b"::{x}"))
    assert told == {
        "namespace": "rpc",
        "name": "error",
        "id": "",
        "args": {"code": 404, "message": "why", "connection": "::{x}"},
    }


@pytest.mark.parametrize("header", [b"x" * 100, "é".encode() * 100, b"\xff" * 100])
def test_what_it_was_addressed_to_is_cut(header: bytes) -> None:
    assert len(json.loads(speech.undelivered(BadRequest("why"), header))["args"]["connection"]) <= 64


def test_an_announcement_in_both_dialects() -> None:
    classic = b'{"args":{"available_connections":["::{a}"]},"id":"","name":"bridge","namespace":"events"}'
    assert speech.announcement(["::{a}"], classic=True) == classic
    ours = b'{"id":"","namespace":"events","name":"bridge","args":{"available_connections":[],"connections":{}}}'
    assert speech.announcement([], {}, classic=False) == ours


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"{",
        b"[]",
        b"1",
        b'"x"',
        b"\xff",
        b'{"namespace":"rpc","name":"x","id":1}',
        b'{"namespace":1,"name":"x","id":1,"args":1}',
    ],
)
def test_what_an_original_would_leave_unanswered(frame: bytes) -> None:
    assert speech.read_classic(frame, 32) is None


def test_a_classic_frame_may_have_any_id_and_args() -> None:
    assert speech.read_classic(b'{"args":[1],"id":{"a":1},"name":"x","namespace":"rpc","more":1}', 32) == Said(
        "rpc", "x", {"a": 1}, [1]
    )


@pytest.mark.parametrize(
    "frame", [b"", b"{", b"[]", b"{}", b'{"namespace":"rpc"}', b'{"namespace":"","name":"x"}', b"\xff"]
)
def test_what_is_no_documented_frame_is_refused(frame: bytes) -> None:
    with pytest.raises(WireError):
        speech.read(frame, 32)


def test_a_documented_frame_may_lack_id_and_args() -> None:
    assert speech.read(b'{"namespace":"rpc","name":"identify"}', 32) == Said("rpc", "identify", "", {})


def test_a_frame_that_is_nested_too_deeply_is_refused() -> None:
    frame = b'{"namespace":"rpc","name":"x","id":1,"args":' + b"[" * 40 + b"]" * 40 + b"}"
    with pytest.raises(WireError):
        speech.read(frame, 32)
    assert speech.read_classic(frame, 32) is None
