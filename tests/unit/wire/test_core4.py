"""The dialect of core4's event socket, without a socket."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.wire import core4
from sysadmd.wire.core4 import Chat, Core4Dialect, Interest, decode
from sysadmd.wire.masking import masked
from sysadmd.wire.messages import Meta

DIALECT = Core4Dialect("root")
META = Meta("e" * 16, 17, 1_610_618_400.123, "vm")
JOB = {"id": "a" * 24, "seq": 3, "name": "a.Job", "kind": "task", "owner": "ada", "state": "running"}
EVENT = {"event": "start_job", "job": JOB, "counts": {"pending": 2, "running": 1, "error": 0}, "attempts_left": 1}


def read(message: Any) -> Any:
    return decode(json.dumps(message), 32)


def error(message: Any) -> dict[str, Any]:
    answer = read(message)
    assert isinstance(answer, bytes)
    value: dict[str, Any] = json.loads(answer)
    assert value["type"] == "error"
    return value


def shown(topic: str, data: Any) -> dict[str, Any]:
    (frame,) = DIALECT.event(topic, data, META)
    value: dict[str, Any] = json.loads(frame)
    return value


# From the client


def test_channels_are_trimmed_lowered_and_named_once() -> None:
    assert read({"type": "interest", "data": [" Queue", "queue", "MESSAGE", "", "  "]}) == Interest(
        ("queue", "message")
    )


@pytest.mark.parametrize("data", [[1, None, {"a": 1}, ["queue"]], []])
def test_what_is_no_text_is_no_channel(data: list[Any]) -> None:
    assert read({"type": "interest", "data": data}) == Interest(())


def test_an_interest_without_data_is_in_nothing() -> None:
    assert read({"type": "interest"}) == Interest(())


def test_an_interest_goes_on_after_a_seq() -> None:
    assert read({"type": "interest", "data": ["queue"], "since": 17}) == Interest(("queue",), 17)


@pytest.mark.parametrize("since", ["17", -1, 1.5, True, 1 << 63, [1]])
def test_a_seq_that_is_none_is_refused(since: Any) -> None:
    assert "since" in error({"type": "interest", "data": ["queue"], "since": since})["message"]


@pytest.mark.parametrize("data", ["queue", {"queue": 1}, 7, [f"c{n}" for n in range(33)], ["x" * 65]])
def test_an_interest_beyond_its_bounds_is_refused(data: Any) -> None:
    assert "data" in error({"type": "interest", "data": data})["message"]


def test_as_many_channels_as_may_be() -> None:
    assert len(read({"type": "interest", "data": [f"c{n}" for n in range(32)]}).channels) == 32


def test_a_message_has_a_channel_and_a_text() -> None:
    assert read({"type": "message", "channel": "message", "text": "hi"}) == Chat("message", "hi")


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"channel": "message"},
        {"text": "hi"},
        {"channel": "", "text": "hi"},
        {"channel": "message", "text": ""},
        {"channel": "message", "text": {"a": 1}},
        {"channel": ["message"], "text": "hi"},
    ],
)
def test_a_message_without_one_of_them_is_malformed(message: dict[str, Any]) -> None:
    assert read({"type": "message", **message}) == b'{"type":"error","message_id":null,"message":"malformed message"}'


@pytest.mark.parametrize("channel", ["queue", "system", "dispatcher", "workqueue", " QUEUE "])
def test_the_servers_channels_are_not_written_by_clients(channel: str) -> None:
    refused = error({"type": "message", "channel": channel, "text": "hi"})
    assert (refused["message_id"], "server's own" in refused["message"]) == (None, True)


def test_a_text_has_a_length() -> None:
    assert isinstance(read({"type": "message", "channel": "message", "text": "x" * core4.TEXT_LENGTH}), Chat)
    error({"type": "message", "channel": "message", "text": "x" * (core4.TEXT_LENGTH + 1)})
    error({"type": "message", "channel": "c" * 65, "text": "x"})


@pytest.mark.parametrize("message", [{"type": "enter"}, {}, {"type": None}, {"type": ["interest"]}, [], 7, None, "x"])
def test_another_type_is_unknown(message: Any) -> None:
    assert read(message) == b'{"type":"error","message":"unknown type"}'


@pytest.mark.parametrize("text", ["", "{", "interest", b"\xff", "[" * 40 + "]" * 40])
def test_what_is_no_json_is_answered_in_plain_text(text: str | bytes) -> None:
    assert decode(text, 32) == b"error parsing json data"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["type", "data", "channel", "text", "since", "x"]), x),
        max_leaves=12,
    )
)
def test_whatever_comes_is_answered(message: Any) -> None:
    assert isinstance(read(message), Interest | Chat | bytes)


# Answers


def test_the_answers_are_the_documented_ones() -> None:
    assert core4.accepted(["queue"]) == (
        b'{"type":"interest","data":["queue"],"message":"processed interest in [\'queue\']"}'
    )
    assert core4.sent("x", joined=False) == b'{"type":"send","message_id":"x","message":"OK"}'
    assert core4.sent("x", joined=True) == (
        b'{"type":"interest","message_id":"x","message":"OK, added interest in channel"}'
    )


# To the client


def test_an_event_of_a_job() -> None:
    assert shown("queue", EVENT) == {
        "_id": "600016200000000000000011",
        "created": "2021-01-14T10:00:00.123000",
        "name": "start_job",
        "author": "root",
        "channel": "queue",
        "data": {
            "_id": "a" * 24,
            "queue": {"pending": 2, "running": 1},
            "name": "a.Job",
            "state": "running",
            "attempts_left": 1,
            "seq": 17,
        },
    }


def test_an_event_of_a_job_that_may_not_be_read() -> None:
    data = shown("queue", masked(EVENT, lambda name: False))["data"]
    assert data == {
        "queue": {"pending": 2, "running": 1},
        "name": "UnauthorizedJob",
        "state": "running",
        "attempts_left": 1,
        "seq": 17,
    }


def test_a_summary_has_no_id() -> None:
    row = {"name": "a.Job", "state": "running", "zombie": False, "wall": False, "removed": False, "killed": False}
    summary = shown("queue", {"event": "summary", "rows": [{**row, "n": 1, "progress": 0.25}]})
    assert summary == {
        "created": "2021-01-14T10:00:00.123000",
        "name": "summary",
        "author": "root",
        "channel": "queue",
        "data": [{**row, "n": 1, "progress": 0.25}],
    }


def test_summaries_are_compared_by_their_rows() -> None:
    data = {"event": "summary", "rows": []}
    (one,), (other,) = (DIALECT.event("queue", data, Meta("e", 1, time, "vm")) for time in (1.0, 2.0))
    assert one != other
    assert core4.rows_of(one) == core4.rows_of(other) == b"[]}"


def test_a_message_of_somebody() -> None:
    chat = {"event": "message", "id": "b" * 24, "author": "ada", "channel": "message", "data": "hi"}
    assert shown("event", chat) == {
        "_id": "b" * 24,
        "created": "2021-01-14T10:00:00.123000",
        "name": "message",
        "author": "ada",
        "channel": "message",
        "data": "hi",
    }


def test_lost_records_are_told_on_a_channel_of_their_own() -> None:
    gap = shown("gap", {"from": 3, "to": 9, "cause": "expired"})
    assert (gap["name"], gap["channel"], gap["data"]) == ("gap", "system", {"from": 3, "to": 9, "cause": "expired"})


def test_ids_sort_by_time_and_then_by_seq() -> None:
    metas = [Meta("e", 9, 5.0, ""), Meta("e", 10, 5.9, ""), Meta("e", 11, 6.0, "")]
    ids = [core4.record_id(meta) for meta in metas]
    assert ids == sorted(ids)
    assert {len(one) for one in ids} == {24}


def test_sixteen_things_may_happen_to_a_job() -> None:
    assert len(set(core4.EVENTS)) == 16
