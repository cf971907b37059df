"""Whatever comes in, decoding never raises, and every refusal can be sent as a documented error."""

from __future__ import annotations

import json
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sysadmd.errors import WireError
from sysadmd.wire import CLASSIC, JSONRPC, SYSADM, Request, decode
from sysadmd.wire.classic import MESSAGES

VALID = [
    b'{"namespace":"rpc","name":"query","id":"fooid","args":{}}',
    b'{"namespace":"rpc","name":"dispatcher","id":7,"args":{"action":"run","job":["ls -l","date"]},"timeout":2.5}',
    b'{"namespace":"events","name":"subscribe","id":"x","args":["dispatcher","life-preserver","system-state"]}',
    b'{"args":"","id":"sysadm_client_identify","name":"identify","namespace":"rpc"}',
    b'{"namespace":"sysadm","name":"fs","id":"\\u00e9\\ud83d\\ude00","action":"dirlist","dir":"/"}',
    b'{"jsonrpc":"2.0","method":"rpc/dispatcher/list","params":{"history":true},"id":1}',
    b'[{"jsonrpc":"2.0","method":"a/b","params":[1,[2,[3]]],"id":1},{"jsonrpc":"2.0","method":"c/d"},5]',
]
PIECES = [
    *(b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"null", b"true", b"NaN", b"-", b"1e999", b"1E5", b"0"),
    *(b"\x00", b"\xff", b"\xc3\xa9", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\xef\xbb\xbf", b" ", b"\n"),
    *(b'"id"', b'"args"', b'"namespace":5', b'"jsonrpc":"2.0"', b'"timeout":-1', b"[" * 40, b"9" * 30),
]


def check(data: bytes | str, *, classic: bool) -> bool:
    """Decode, and answer every refusal; whether anything was refused."""
    frame = decode(data, classic=classic)
    assert frame.dialect is JSONRPC or frame.dialect is (CLASSIC if classic else SYSADM)
    assert frame.entries
    refused = False
    for entry in frame.entries:
        if isinstance(entry, WireError):
            refused = True
            answer = json.loads(frame.dialect.error(None, entry))
            if frame.dialect is JSONRPC:
                assert answer["error"]["code"] in {-32700, -32600}
                assert answer["error"]["data"]["code"] == 400
            elif classic:
                assert answer["args"] == {"code": "400", "message": MESSAGES[400]}
            else:
                assert (answer["name"], answer["args"]["code"]) == ("error", 400)
                assert 0 < len(answer["args"]["message"]) < 300
        else:
            assert type(entry) is Request
            assert isinstance(json.loads(frame.dialect.reply(entry, {}) or b"{}"), dict)
    return refused


def mutate(rng: random.Random, text: bytes) -> bytes:
    """One to four accidents: cut, doubled, swapped, replaced, inserted."""
    data = bytearray(text)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        to = min(len(data), at + rng.randint(0, 12))
        match rng.randrange(5):
            case 0:
                del data[at:to]
            case 1:
                data[at:at] = data[at:to]
            case 2:
                data[at:to] = data[at:to][::-1]
            case 3:
                data[at:to] = rng.choice(PIECES)
            case _:
                data[at:at] = rng.choice(PIECES)
    return bytes(data)


@given(st.binary(max_size=200), st.booleans())
def test_any_bytes(data: bytes, classic: bool) -> None:
    check(data, classic=classic)


@given(st.text(max_size=200), st.booleans())
def test_any_text(text: str, classic: bool) -> None:
    check(text, classic=classic)


@given(st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join), st.booleans())
def test_any_heap_of_json_pieces(data: bytes, classic: bool) -> None:
    check(data, classic=classic)


KEYS = st.sampled_from(["namespace", "name", "id", "args", "timeout", "jsonrpc", "method", "params", "action", "x"])
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["rpc", "events", "2.0", "run", "a/b", ""])
)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=8))


@given(TREES, st.booleans())
def test_any_json_with_our_keys(value: object, classic: bool) -> None:
    check(json.dumps(value), classic=classic)


@pytest.mark.fuzz
@pytest.mark.timeout(600)
def test_a_hundred_thousand_damaged_frames() -> None:
    rng = random.Random(20261122)
    refused = sum(check(mutate(rng, rng.choice(VALID)), classic=rng.random() < 0.5) for _ in range(100_000))
    # Enough of both kinds, or the accidents are too many or too few to find anything.
    assert 10_000 < refused < 99_000


@pytest.mark.fuzz
@pytest.mark.timeout(600)
@settings(max_examples=3_000, suppress_health_check=list(HealthCheck))
@given(TREES, st.booleans())
def test_many_json_trees_with_our_keys(value: object, classic: bool) -> None:
    check(json.dumps(value), classic=classic)
