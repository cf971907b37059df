"""core4's reply: what every answer of the facade is wrapped in (spec job-queues §1.8).

::

    {"_id": "<24 hex>", "version": "sysadmd/0.1.0", "timestamp": "…", "message": "OK", "code": 200, "data": …}

An error has `error`, one sentence, in place of `data`, and never a traceback. A page has `total_count`, `count`,
`page`, `page_count` and `per_page` besides.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from starlette.responses import Response

from sysadmd import __version__
from sysadmd.errors import Conflict, RpcError
from sysadmd.listen.core4.pager import Page
from sysadmd.wire.core4 import iso
from sysadmd.wire.text import describe, encode

VERSION = f"sysadmd/{__version__}"


def new_id(now: float) -> str:
    """24 hexadecimal digits that sort by time, as every id there."""
    return f"{int(now):08x}{secrets.token_hex(8)}"


def reply(request_id: str, now: float, value: Any) -> Response:
    """A success; `value` may be a page."""
    body = _head(request_id, now, HTTPStatus.OK)
    if isinstance(value, Page):
        body |= {
            "data": value.rows,
            "total_count": float(value.total),
            "count": len(value.rows),
            "page": value.page,
            "page_count": value.page_count,
            "per_page": value.per_page,
        }
    else:
        body["data"] = value
    return _json(body, HTTPStatus.OK)


def failure(request_id: str, now: float, error: RpcError, headers: Mapping[str, str] | None = None) -> Response:
    """A refusal."""
    code = code_of(error)
    return _json({**_head(request_id, now, code), "error": describe(error)}, code, headers)


def code_of(error: RpcError) -> int:
    """There, a conflict (a name that is taken, an old etag) is a bad request like any other."""
    return 400 if isinstance(error, Conflict) else error.code


def _head(request_id: str, now: float, code: int) -> dict[str, Any]:
    try:
        message = HTTPStatus(code).phrase
    except ValueError:
        message = "Error"  # 499 has no phrase
    return {"_id": request_id, "version": VERSION, "timestamp": iso(now), "message": message, "code": int(code)}


def _json(body: Mapping[str, Any], code: int, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode(body), code, media_type="application/json", headers=headers)
