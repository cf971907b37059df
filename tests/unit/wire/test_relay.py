"""Frames on a bridge."""

from __future__ import annotations

import base64
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.errors import WireError
from sysadmd.wire import relay

PEER = "::{b9bead97-69d7-4cce-8859-6e31b4a0fa7c}"
ANSWER = b'{"args":["moE0WFrDhBjTy3SsumMf",0],"id":"sysadm-client-auth-auto","name":"response","namespace":"rpc"}'
RECORDED = (
    b"::{b9bead97-69d7-4cce-8859-6e31b4a0fa7c}\n"
    b"eyJhcmdzIjpbIm1vRTBXRnJEaEJqVHkzU3N1bU1mIiwwXSwiaWQiOiJzeXNhZG0tY2xpZW50LWF1dGgtYXV0byIsIm5hbWUiOiJyZXNwb25zZSIs"
    b"Im5hbWVzcGFjZSI6InJwYyJ9"
)
"""The log-in of an original client, as an original server answered it through an original bridge."""


def test_the_recorded_frame_is_what_we_write() -> None:
    assert relay.relayed(PEER, relay.wrapped(ANSWER)) == RECORDED


def test_the_recorded_frame_is_what_we_read() -> None:
    header, payload = relay.split(RECORDED) or (b"", b"")
    assert (header, relay.unwrapped(payload)) == (PEER.encode(), ANSWER)


def test_an_id_is_two_colons_and_a_uuid_in_braces_and_never_the_same() -> None:
    ids = {relay.connection_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(re.fullmatch(r"::\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}", one) for one in ids)


@pytest.mark.parametrize("frame", [b"", b"no newline", b"x" * 65 + b"\nlong header", b"::{" * 1000])
def test_a_frame_without_a_header_is_none(frame: bytes) -> None:
    assert relay.split(frame) is None


def test_a_header_of_64_bytes_is_one() -> None:
    assert relay.split(b"x" * 64 + b"\npayload\nmore") == (b"x" * 64, b"payload\nmore")


def test_plain_json_is_taken_as_it_is() -> None:
    assert relay.unwrapped(b'{"a":1}') == b'{"a":1}'


@pytest.mark.parametrize("payload", [b"e30", b"e30=\n", b"\xff\xff", b"e 30="])
def test_what_is_neither_json_nor_base64_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError, match="base64"):
        relay.unwrapped(payload)


@given(st.binary(max_size=2000))
def test_wrapping_can_be_undone(message: bytes) -> None:
    assert relay.unwrapped(relay.wrapped(message)) == message


@given(st.binary(max_size=2000), st.integers(0, 999_999_999), st.text(max_size=30))
def test_sealed_payloads_can_be_read(tls: bytes, size: int, reason: str) -> None:
    assert relay.parse_sealed(relay.sealed_data(tls)) == ("data", tls)
    assert relay.parse_sealed(relay.sealed_credit(size)) == ("credit", size)
    kind, said = relay.parse_sealed(relay.sealed_close(reason))
    assert kind == "close"
    assert said == reason.encode("utf-8", "replace").decode("utf-8")


@pytest.mark.parametrize("payload", [b"", b"x", b"^", b"^-1", b"^1 ", b"^" + b"9" * 10, b"~*", b"~e30", b"~e30=e30="])
def test_a_sealed_payload_that_is_none_is_refused(payload: bytes) -> None:
    with pytest.raises(WireError):
        relay.parse_sealed(payload)


def test_a_reason_is_cut_between_characters() -> None:
    payload = relay.sealed_close("ä" * 100)
    assert payload == b"!" + ("ä" * 61).encode()


def test_the_three_kinds_of_payload_are_told_apart() -> None:
    sealed = [relay.sealed_data(b"x"), relay.sealed_credit(1), relay.sealed_close("")]
    assert all(relay.is_sealed(payload) for payload in sealed)
    assert not relay.is_sealed(ANSWER)
    assert not relay.is_sealed(base64.b64encode(ANSWER))
    assert not relay.is_sealed(b"")
