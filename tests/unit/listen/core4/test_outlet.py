"""What an event socket sends of what waits for it."""

from __future__ import annotations

import json
from typing import Any

from sysadmd.events import Record
from sysadmd.listen.core4.socket import CLOSE_OVERFLOW, EventOutlet, marked
from sysadmd.listen.measured import messages


def outlet() -> EventOutlet:
    return EventOutlet(1000, lambda size: None)


def summary(*rows: int, at: int = 0) -> bytes:
    record = Record(1, "queue", {"event": "summary", "rows": []}, 1.0)
    return marked(json.dumps({"created": at, "name": "summary", "data": rows}, separators=(",", ":")).encode(), record)


def event(text: bytes) -> bytes:
    return marked(text, Record(1, "queue", {"event": "start_job"}, 1.0))


async def taken(one: EventOutlet) -> list[Any]:
    return [json.loads(message) for message in messages(await one.take())]


async def test_of_summaries_that_wait_the_newest_is_sent_in_its_place() -> None:
    one = outlet()
    for frame in (summary(1), event(b'"a"'), summary(2), event(b'"b"')):
        one.write(frame)
    assert [m["data"] if isinstance(m, dict) else m for m in await taken(one)] == ["a", [2], "b"]


async def test_a_summary_that_says_what_the_last_one_said_is_not_sent() -> None:
    one = outlet()
    one.write(summary(1))
    assert len(await taken(one)) == 1
    one.write(summary(1, at=3))
    assert await taken(one) == []
    one.write(summary(2, at=6))
    one.write(summary(1, at=9))
    assert await taken(one) == []  # in between it was otherwise, which nobody saw


async def test_after_an_interest_the_next_summary_is_sent_in_any_case() -> None:
    one = outlet()
    one.write(summary(1))
    await one.take()
    one.forget()
    one.write(summary(1))
    assert len(await taken(one)) == 1


async def test_answers_and_other_records_are_sent_as_they_are() -> None:
    one = outlet()
    one.send(b'{"type":"error"}')
    one.write(marked(b'{"name":"gap"}', Record(1, "gap", {"from": 1, "to": 2, "cause": "expired"}, 1.0)))
    assert await taken(one) == [{"type": "error"}, {"name": "gap"}]


def test_an_overflow_has_a_code_of_its_own() -> None:
    one = outlet()
    one.overflow_close("too much")
    assert one.closing == (CLOSE_OVERFLOW, "too much")
    one.send(b"{}")
    assert not one.writable()
