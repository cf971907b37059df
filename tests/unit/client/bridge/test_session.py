"""The two forms of a session: what each takes, sends and lets through."""

from __future__ import annotations

import base64

import pytest

from sysadmd.client.bridge.session import MAX_WAITING, ClearSession, SealedSession
from sysadmd.client.errors import ConnectionLost
from sysadmd.keys.seal import Seal, SealingContext

LOGIN = b'{"namespace":"rpc","name":"auth_ssl","id":"1","args":{"md5_key":"x"}}'
PROOF = b'{"namespace":"rpc","name":"auth_ssl","id":"2","args":{"encrypted_string":"x"}}'
QUERY = b'{"namespace":"rpc","name":"query","id":"3","args":null}'
REPLY = b'{"args":{},"id":"3","name":"response","namespace":"rpc"}'
EVENT = b'{"args":{},"id":"","name":"system-state","namespace":"events"}'


def sealed_pair(context: SealingContext) -> tuple[SealedSession, Seal]:
    client, server = Seal.client(lambda fingerprint: True), Seal.server(context)
    while not (client.established and server.established):
        for payload in client.outgoing():
            server.receive(payload)
        for payload in server.outgoing():
            client.receive(payload)
    return SealedSession(client), server


def test_a_clear_session_is_plain_until_the_log_in_and_base64_after_its_first_half() -> None:
    session = ClearSession()
    for message in (QUERY, LOGIN, PROOF, QUERY):
        session.send(message)
    assert session.outgoing() == [QUERY, LOGIN, base64.b64encode(PROOF), base64.b64encode(QUERY)]
    assert session.outgoing() == []


@pytest.mark.parametrize("args", ["5", "null", '"md5_key"', '["md5_key"]', "[" * 70 + "]" * 70])
def test_only_the_first_half_of_a_log_in_changes_the_form(args: str) -> None:
    session = ClearSession()
    message = b'{"namespace":"rpc","name":"auth_ssl","id":"1","args":%b}' % args.encode()
    for each in (message, QUERY):
        session.send(each)
    assert session.outgoing() == [message, QUERY]


@pytest.mark.parametrize("message", [REPLY, EVENT])
def test_a_clear_session_takes_plain_json_and_base64(message: bytes) -> None:
    session = ClearSession()
    assert session.receive(message) == [message]
    assert session.receive(base64.b64encode(message)) == [message]


@pytest.mark.parametrize("payload", [b"", b"~AAAA", b"^1", b"!x", b"{broken", b"e30", b"WzFd", QUERY])
def test_a_clear_session_passes_over_what_is_no_answer(payload: bytes) -> None:
    assert ClearSession().receive(payload) == []


def test_a_clear_session_has_a_bound_instead_of_a_window() -> None:
    assert not ClearSession().full(MAX_WAITING - 1)
    assert ClearSession().full(MAX_WAITING)


@pytest.mark.parametrize("payload", [REPLY, base64.b64encode(REPLY), b""])
def test_a_sealed_session_takes_nothing_in_the_clear(context: SealingContext, payload: bytes) -> None:
    session, _ = sealed_pair(context)
    assert session.receive(payload) == []


def test_a_sealed_session_carries_messages_both_ways(context: SealingContext) -> None:
    session, server = sealed_pair(context)
    session.send(QUERY)
    assert [message for payload in session.outgoing() for message in server.receive(payload)] == [QUERY]
    server.send(REPLY)
    assert [message for payload in server.outgoing() for message in session.receive(payload)] == [REPLY]


def test_a_sealed_session_that_was_closed_takes_and_sends_nothing_more(context: SealingContext) -> None:
    session, _ = sealed_pair(context)
    with pytest.raises(ConnectionLost, match="an end"):
        session.receive(b"!an end")
    with pytest.raises(ConnectionLost):
        session.send(QUERY)


def test_the_window_bounds_a_sealed_session_however_many_messages_wait(context: SealingContext) -> None:
    session, _ = sealed_pair(context)
    assert not session.full(100_000)
