"""The facade's paths as OpenAPI describes them, in the words of the functions that answer."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from sysadmd.auth.scope import Scope
from sysadmd.listen.core4.exchange import Endpoint
from sysadmd.listen.core4.names import ACTION_OF

PREFIX = "/core4/api"
_VARIABLE = re.compile(r"{(\w+)}")
_HEAD = {
    "_id": {"type": "string", "pattern": "^[0-9a-f]{24}$"},
    "version": {"type": "string"},
    "timestamp": {"type": "string", "description": "UTC, without a zone."},
    "message": {"type": "string"},
    "code": {"type": "integer"},
}
_PAGED = {
    "total_count": {"type": "number"},
    "count": {"type": "integer"},
    "page": {"type": "integer", "description": "From 0."},
    "page_count": {"type": "integer"},
    "per_page": {"type": "integer"},
}


def paths(scope: Scope | None, endpoints: Mapping[str, Mapping[str, Endpoint]]) -> dict[str, Any]:
    """The `paths` object of what somebody with this scope may call; a stranger (None) may log in."""
    found: dict[str, Any] = {}
    for path, verbs in endpoints.items():
        for verb, endpoint in verbs.items():
            if _may(scope, verb, endpoint):
                found.setdefault(PREFIX + path, {})[verb.lower()] = _operation(PREFIX + path, verb, endpoint)
    return found


def _may(scope: Scope | None, verb: str, endpoint: Endpoint) -> bool:
    if endpoint.handler is None:
        return True
    return scope is not None and endpoint.handler.permits(scope, ACTION_OF[verb], endpoint.access)


def _operation(path: str, verb: str, endpoint: Endpoint) -> dict[str, Any]:
    text = " ".join((inspect.getdoc(endpoint.run) or "").partition("\n\n")[0].split())
    variables = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in _VARIABLE.findall(path)
    ]
    properties = {**_HEAD, "data": {}, **(_PAGED if _is_paged(endpoint) else {})}
    return {
        "operationId": verb.lower() + re.sub(r"[^a-z0-9]+", "_", path).rstrip("_"),
        "summary": text,
        "tags": ["core4"],
        "security": [{"basic": []}, {"bearer": []}],
        "parameters": variables,
        "responses": {
            "200": {"description": "The reply.", "content": _json(properties)},
            "default": {"description": "A refusal.", "content": _json({**_HEAD, "error": {"type": "string"}})},
        },
    }


def _is_paged(endpoint: Endpoint) -> bool:
    return str(inspect.signature(endpoint.run).return_annotation) == "Page"


def _json(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": {"type": "object", "properties": dict(properties)}}}
