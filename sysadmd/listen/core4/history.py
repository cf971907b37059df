"""What happened: `/event/history` is what people wrote, `/jobs/history` and `/queue/history` the queue over time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection

from sysadmd.errors import BadRequest
from sysadmd.events import history
from sysadmd.events.record import Record
from sysadmd.listen.core4.exchange import Exchange
from sysadmd.listen.core4.pager import Page
from sysadmd.wire.core4 import EVENTS, MESSAGE, iso

DAY, WEEK = 86_400.0, 604_800.0
BUCKETS = ((365 * DAY, DAY), (30 * DAY, 3600.0), (DAY, 60.0), (0.0, 1.0))
"""Seconds of a bucket, by the seconds that are looked at."""
ROWS = 200_000
"""Events that one look reads: a second or two of a reader's time."""


async def events(exchange: Exchange) -> Page:
    """A page of messages, newest first; of the channel `message` where the filter names no other."""
    wanted = {"channel": MESSAGE, **exchange.args.filter("channel", "author")}
    return await _page(exchange, "event", wanted, newest_first=True, shown=_message)


async def jobs(exchange: Exchange) -> Page:
    """A page of counts by state, one row for each event of the queue. Whose job it was about is not told."""
    wanted = exchange.args.filter("name")
    name = wanted.pop("name", None)
    if name is not None:
        if name not in EVENTS:
            raise BadRequest(f"filter.name: {str(name)[:40]!r} is no event of the queue", path="filter", rule="enum")
        wanted["event"] = name
    sort = exchange.args.integer("sort", -1)
    if sort not in {1, -1}:
        raise BadRequest("sort: expected 1 or -1", path="sort", rule="enum")
    return await _page(exchange, "queue", wanted, newest_first=sort < 0, shown=_counts)


async def queue(exchange: Exchange) -> Page:
    """A page of time buckets, each with the counts of the event in it that had the most jobs. The longer the time that
    is looked at, the longer a bucket. Of more than ROWS events, the newest.
    """
    args, wanted = exchange.args, exchange.page("perPage")
    end = exchange.now if (given := args.time("endDate")) is None else given
    start = end - WEEK if (given := args.time("startDate")) is None else given
    if start > end:
        raise BadRequest("startDate: is after endDate", path="startDate", rule="order")
    sort = args.integer("sort", -1)
    if sort not in {1, -1}:
        raise BadRequest("sort: expected 1 or -1", path="sort", rule="enum")
    seconds = next(bucket for span, bucket in BUCKETS if end - start >= span)

    def look(connection: Connection) -> list[tuple[float, int, dict[str, int]]]:
        return history.peaks(connection, "queue", start=start, end=end, seconds=seconds, limit=ROWS)

    found = await exchange.parts.accounts.read(look)
    rows = [{**counts, "created": iso(at), "total": total} for at, total, counts in found]
    return wanted.of(rows if sort > 0 else rows[::-1])


async def _page(exchange: Exchange, topic: str, equal: Mapping[str, Any], *, newest_first: bool, shown: Any) -> Page:
    wanted = exchange.page()

    def look(connection: Connection) -> tuple[list[Record], int]:
        total = history.count(connection, topic, equal)
        start, limit = wanted.span(total)
        found = history.page(connection, topic, equal, start=start, limit=limit, newest_first=newest_first)
        return found, total

    found, total = await exchange.parts.accounts.read(look)
    return wanted.holding([shown(record) for record in found], total)


def _message(record: Record) -> dict[str, Any]:
    data = record.data
    said = {"author": data["author"], "channel": data["channel"], "data": data["data"]}
    return {"_id": data["id"], "created": iso(record.time), **said}


def _counts(record: Record) -> dict[str, Any]:
    counts = {state: n for state, n in record.data["counts"].items() if n}
    return {**counts, "created": iso(record.time), "total": sum(counts.values())}
