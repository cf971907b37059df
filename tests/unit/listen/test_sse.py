"""The outlet of an event stream: pulled by the response, one chunk at a time."""

from __future__ import annotations

import asyncio

import pytest

from sysadmd.listen.sse import StreamOutlet
from sysadmd.wire.sse import COMMENT


async def test_what_was_written_is_taken_once() -> None:
    outlet = StreamOutlet()
    outlet.write(b"one")
    assert await outlet.take() == b"one"
    assert outlet.writable()


async def test_it_is_not_writable_until_the_chunk_was_taken() -> None:
    outlet = StreamOutlet()
    outlet.write(b"one")
    assert not outlet.writable()
    await outlet.take()
    assert outlet.writable()


async def test_taking_waits_for_a_write() -> None:
    outlet = StreamOutlet()
    taken = asyncio.create_task(outlet.take())
    await asyncio.sleep(0)
    outlet.write(b"late")
    assert await taken == b"late"


async def test_a_quiet_stream_gives_a_comment() -> None:
    assert await StreamOutlet(keepalive=0.01).take() == COMMENT


async def test_a_comment_is_not_the_end() -> None:
    outlet = StreamOutlet(keepalive=0.01)
    await outlet.take()
    outlet.write(b"one")
    assert await outlet.take() == b"one"


@pytest.mark.parametrize("chunk", [b"", b"last"])
async def test_a_closed_stream_gives_what_it_has_and_then_ends_at_once(chunk: bytes) -> None:
    outlet = StreamOutlet(keepalive=30)
    if chunk:
        outlet.write(chunk)
    outlet.close(1001, "bye")
    async with asyncio.timeout(1):
        if chunk:
            assert await outlet.take() == chunk
        assert await outlet.take() is None
        assert await outlet.take() is None
    assert outlet.reason == "bye"
    assert not outlet.writable()


async def test_closing_wakes_who_waits() -> None:
    outlet = StreamOutlet(keepalive=30)
    taken = asyncio.create_task(outlet.take())
    await asyncio.sleep(0)
    outlet.overflow_close("too slow")
    async with asyncio.timeout(1):
        assert await taken is None
