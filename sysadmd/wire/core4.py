"""The dialect of core4's event socket (spec job-queues §1.5, §1.6): what its clients send, and how they are told.

Records become core4's envelope::

    {"_id": "<24 hex>", "created": "2026-01-14T10:00:00.123000", "name": "start_job", "author": "root",
     "channel": "queue", "data": {"_id": "<job id>", "queue": {"running": 1}, "name": "a.Job", "seq": 17}}

`data.name`, `data.seq`, `data.state` and `data.attempts_left` are additions; the keys that its clients know are as they
know them. `data.seq` is what an interest may name as its `since` after a connection was lost. A job that the client may
not read has no `_id`, and `UnauthorizedJob` for a name (wire.masking). Lost records are told on the channel `system`.
Times are UTC without a zone, as there.

What a client sends is read by `decode`. Channels are the client's own words; those of `OWNED` are written by the server
alone, for else anybody could tell of jobs that never ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from sysadmd.errors import BadRequest, RpcError
from sysadmd.wire.messages import Meta, Request
from sysadmd.wire.text import describe, encode, parse

QUEUE, MESSAGE, SYSTEM = "queue", "message", "system"
"""Channels: jobs, what people write, and what is said of the socket itself."""
OWNED = frozenset({QUEUE, SYSTEM, "dispatcher", "workqueue"})
EVENTS = (
    "enqueue_job",
    "request_start_job",
    "start_job",
    "complete_job",
    "defer_job",
    "failed_start",
    "failed_job",
    "request_remove_job",
    "remove_job",
    "request_kill_job",
    "kill_job",
    "flag_nonstop",
    "flag_zombie",
    "inactivate_job",
    "restart_waiting",
    "restart_stopped",
)
"""What may happen to a job; a `summary` is besides."""
SUMMARY = "summary"
CHANNELS = 32
"""Channels of one interest: each is a subscription, and a connection has a bound for these."""
CHANNEL_LENGTH = 64
TEXT_LENGTH = 8192
"""Characters of one message: it is kept, and goes to everybody on the channel."""
NOT_JSON = b"error parsing json data"
"""The one answer that is no JSON."""
UNKNOWN = encode({"type": "error", "message": "unknown type"})


class Interest(msgspec.Struct, frozen=True):
    """The channels that a client wants from now on, instead of those before, and the seq of the last record it has."""

    channels: tuple[str, ...]
    since: int | None = None


class Chat(msgspec.Struct, frozen=True):
    """A message for everybody on a channel."""

    channel: str
    text: str


Incoming: TypeAlias = Interest | Chat | bytes
"""What a client wants, or the answer to what it should not have sent."""


def decode(text: str | bytes, depth: int) -> Incoming:
    """One message of a client. Never raises."""
    try:
        message = parse(text, depth)
    except RpcError:
        return NOT_JSON
    kind = message.get("type") if isinstance(message, dict) else None
    try:
        if kind == "interest":
            return _interest(message)
        if kind == "message":
            return _chat(message)
    except BadRequest as error:
        return refusal(error, sent=kind == "message")
    return UNKNOWN


def accepted(channels: Sequence[str]) -> bytes:
    """The answer to an interest."""
    names = list(channels)
    return encode({"type": "interest", "data": names, "message": f"processed interest in {names}"})


def sent(message_id: str, *, joined: bool) -> bytes:
    """The answer to a message; `joined`: its channel was not among the sender's and is now."""
    if joined:
        return encode({"type": "interest", "message_id": message_id, "message": "OK, added interest in channel"})
    return encode({"type": "send", "message_id": message_id, "message": "OK"})


def refusal(error: RpcError, *, sent: bool) -> bytes:
    """The answer to a message that was not `sent`, or to an interest that is none."""
    named = {"message_id": None} if sent else {}
    return encode({"type": "error", **named, "message": describe(error)})


def iso(time: float) -> str:
    """`2026-01-14T10:00:00.123000`: UTC, without saying so."""
    return datetime.fromtimestamp(time, UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def record_id(meta: Meta) -> str:
    """24 hexadecimal digits of a record, which sort by time."""
    return f"{int(meta.time):08x}{meta.seq:016x}"


def rows_of(frame: bytes) -> bytes:
    """The part of a summary that may be the same as before; the rest tells when it was made."""
    return frame.partition(b'"data":')[2]


class Core4Dialect:
    """Events only. `author` is the name of the user that the server runs as, who tells of jobs."""

    name = "core4"

    def __init__(self, author: str) -> None:
        self._author = author

    def reply(self, request: Request, result: Any) -> bytes:
        """Never used: nothing is called on this socket."""
        raise NotImplementedError

    def error(self, request: Request | None, error: RpcError) -> bytes:
        """The same."""
        raise NotImplementedError

    def event(self, topic: str, data: Any, meta: Meta | None = None) -> Sequence[bytes]:
        """The envelope of a record."""
        if meta is None:
            raise AssertionError("an event socket is always extended")
        if topic == "event":
            named = {"name": data["event"], "author": data["author"], "channel": data["channel"], "data": data["data"]}
            return [encode({"_id": data["id"], "created": iso(meta.time), **named})]
        if topic == "gap":
            return [self._envelope("gap", SYSTEM, data, meta)]
        if data["event"] == SUMMARY:
            head = {"created": iso(meta.time), "name": SUMMARY, "author": self._author, "channel": QUEUE}
            return [encode({**head, "data": [dict(row) for row in data["rows"]]})]
        return [self._envelope(data["event"], QUEUE, _of_job(data, meta.seq), meta)]

    def _envelope(self, name: str, channel: str, data: Mapping[str, Any], meta: Meta) -> bytes:
        head = {"_id": record_id(meta), "created": iso(meta.time), "name": name, "author": self._author}
        return encode({**head, "channel": channel, "data": data})


def _of_job(data: Mapping[str, Any], seq: int) -> dict[str, Any]:
    job = data["job"]
    shown: dict[str, Any] = {"_id": job["id"]} if "id" in job else {}
    shown["queue"] = {state: n for state, n in data["counts"].items() if n}
    shown["name"] = job["name"]
    if "state" in job:
        shown["state"] = job["state"]
    if "attempts_left" in data:
        shown["attempts_left"] = data["attempts_left"]
    return {**shown, "seq": seq}


def _interest(message: Mapping[str, Any]) -> Interest:
    """What is no text is left out, as there."""
    names = message.get("data", [])
    if not isinstance(names, list):
        raise BadRequest("data: expected a list of channels")
    found = dict.fromkeys(name.strip().lower() for name in names if isinstance(name, str))
    channels = tuple(name for name in found if name)
    if len(channels) > CHANNELS or any(len(name) > CHANNEL_LENGTH for name in channels):
        raise BadRequest(f"data: expected at most {CHANNELS} channels of at most {CHANNEL_LENGTH} characters")
    since = message.get("since")
    if since is not None and (type(since) is not int or not 0 <= since < 1 << 63):
        raise BadRequest("since: expected the seq of a record")
    return Interest(channels, since)


def _chat(message: Mapping[str, Any]) -> Chat:
    channel, text = message.get("channel"), message.get("text")
    if not (isinstance(channel, str) and isinstance(text, str) and text and channel.strip()):
        raise BadRequest("malformed message")
    channel = channel.strip().lower()
    if channel in OWNED:
        raise BadRequest(f"the channel [{channel}] is the server's own")
    if len(channel) > CHANNEL_LENGTH or len(text) > TEXT_LENGTH:
        limits = f"{TEXT_LENGTH} characters, on a channel of {CHANNEL_LENGTH}"
        raise BadRequest(f"malformed message: expected at most {limits}")
    return Chat(channel, text)
