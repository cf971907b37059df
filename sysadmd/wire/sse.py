"""Server-sent events (WHATWG HTML §9.2): the dialect of `GET /api/v1/events`.

Each event is one block: `id` is the resume token `<epoch>:<seq>`, which a browser sends back as `Last-Event-ID`;
`event` is the topic; `data` is one line of JSON with `args`, `seq`, `time` and `node`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sysadmd.errors import BadRequest, RpcError
from sysadmd.wire.messages import Meta, Request
from sysadmd.wire.text import describe, encode
from sysadmd.wire.topics import documented_args

COMMENT = b": \n\n"
"""Keeps proxies from closing a quiet stream."""


class SseDialect:
    """Events only: a stream has no requests."""

    name = "sse"

    def reply(self, request: Request, result: Any) -> bytes:
        """Never used: nothing is asked on a stream."""
        raise NotImplementedError

    def error(self, request: Request | None, error: RpcError) -> bytes:
        """The last block of a stream that the server ends."""
        return b"event: error\ndata: " + encode({"code": error.code, "message": describe(error)}) + b"\n\n"

    def event(self, topic: str, data: Any, meta: Meta | None = None) -> Sequence[bytes]:
        """One block for each frame of the event."""
        if meta is None:
            raise AssertionError("a stream is always extended")
        blocks = []
        for args in documented_args(topic, data, extended=True):
            body = encode({"args": args, "seq": meta.seq, "time": meta.time, "node": meta.node})
            blocks.append(b"id: %s:%d\nevent: %s\ndata: %s\n\n" % (meta.epoch.encode(), meta.seq, topic.encode(), body))
        return blocks


SSE = SseDialect()


def parse_event_id(text: str) -> tuple[str, int]:
    """`"<epoch>:<seq>"` as `(epoch, seq)`; `BadRequest` for anything else."""
    epoch, colon, seq = text.partition(":")
    if not colon or not epoch or not seq.isascii() or not seq.isdigit() or len(seq) > 18:
        raise BadRequest(f"{text[:80]!r} is no event id; expected <epoch>:<seq>", rule="format")
    return epoch, int(seq)
