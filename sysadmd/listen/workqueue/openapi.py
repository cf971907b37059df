"""The API as OpenAPI 3.1 describes one: the paths that somebody may use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from sysadmd.jobs.spec import TRIES_MAX
from sysadmd.jobs.transfers.pdm import DEFAULT_PRIORITY, JobProtocol, JobStatus, JobType
from sysadmd.jobs.workqueue.request import GIVEN, MAX_TRIES, SITE_MAX, TWO_SIDED
from sysadmd.listen.workqueue.endpoints import Endpoint

_VARIABLE = re.compile(r"\{([a-z]+)(?::int)?\}")
_BOOLEAN: Mapping[str, Any] = {"type": "boolean", "default": False}
_WHOLE: Mapping[str, Any] = {"type": "integer", "minimum": 0}

PARAMETERS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "after": ("The number of the last one of the page before.", _WHOLE),
    "limit": ("How many at most; all without it.", {"type": "integer", "minimum": 1}),
    "counts": ("Add `num_elements`, and how many elements are in each status.", _BOOLEAN),
    "owner": ("Whose jobs, for administrators; `*` for everybody's.", {"type": "string"}),
    "wait": (
        "Seconds to wait until it is DONE or FAILED; the answer then is what it has come to.",
        {"type": "number", "minimum": 0, "default": 0},
    ),
    "known": (
        "With `wait`: answer as soon as the status is another than this one.",
        {"type": "string", "enum": [one.name for one in JobStatus]},
    ),
    "attempts": (
        "`latest` attempt of each element, or a list of `all` of them for each.",
        {"type": "string", "enum": ["latest", "all"], "default": "latest"},
    ),
    "listing": (
        "`names` of what was listed, or `full` records.",
        {"type": "string", "enum": ["names", "full"], "default": "names"},
    ),
}
FIELDS: Mapping[str, Mapping[str, Any]] = {
    "type": {"description": "By number, digits or name.", "enum": [one.name for one in JobType]},
    "src_siteid": {"type": "integer", "minimum": 0, "maximum": SITE_MAX},
    "src_filepath": {"type": "string", "description": "Below the root of the site: `/a`, `~/a` and `a` are the same."},
    "dst_siteid": {"type": "integer", "minimum": 0, "maximum": SITE_MAX},
    "dst_filepath": {"type": "string"},
    "extra_opts": {"type": "object", "default": {}},
    "protocol": {"enum": [one.name for one in JobProtocol], "default": JobProtocol.GRIDFTP.name},
    "priority": {
        "type": "integer", "minimum": 0, "maximum": 9, "default": DEFAULT_PRIORITY, "description": "Lower runs first.",
    },
    "max_tries": {"type": "integer", "minimum": 1, "maximum": TRIES_MAX, "default": MAX_TRIES},
}  # fmt: skip
_MEANINGS = {
    400: "A field or parameter is wrong; the message names it.",
    403: "Nobody is logged in, or may not.",
    404: "There is no such job or element, or it is somebody else's.",
    409: "The job is over already, or has not failed.",
    500: "The output file is missing.",
}
_ERROR = {
    "type": "object",
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
    "required": ["code", "message"],
}


def paths(prefix: str, endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The `paths` object of these endpoints."""
    found: dict[str, Any] = {}
    for endpoint in endpoints:
        path = prefix + _VARIABLE.sub(r"{\1}", endpoint.path)
        found.setdefault(path, {})[endpoint.verb.lower()] = _operation(path, endpoint)
    return found


def _operation(path: str, endpoint: Endpoint) -> dict[str, Any]:
    variables = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "integer"}}
        for name in _VARIABLE.findall(endpoint.path)
    ]
    options = [
        {"name": name, "in": "query", "description": PARAMETERS[name][0], "schema": PARAMETERS[name][1]}
        for name in endpoint.parameters
    ]
    operation: dict[str, Any] = {
        "operationId": endpoint.verb.lower() + re.sub(r"[^a-z0-9]+", "_", path).rstrip("_"),
        "summary": endpoint.summary,
        "tags": ["workqueue"],
        "security": [{"token": []}, {"basic": []}, {"bearer": []}],
        "parameters": [*variables, *options],
        "responses": _responses(endpoint),
    }
    if endpoint.takes_body:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": _body(endpoint.kind)}}}
    return operation


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    content = {"application/json": {"schema": _ERROR}}
    codes = sorted({400, 403, *endpoint.codes})
    return {
        "200": {"description": "The result.", "content": {"application/json": {}}},
        **{str(code): {"description": _MEANINGS[code], "content": content} for code in codes},
    }


def _body(kind: JobType | None) -> dict[str, Any]:
    required = ["src_siteid", "src_filepath"]
    if kind is None:
        required.append("type")
    elif kind in TWO_SIDED:
        required += ["dst_filepath"] if kind is JobType.RENAME else ["dst_siteid", "dst_filepath"]
    names = [name for name in GIVEN if kind is None or name != "type"]
    return {"type": "object", "properties": {name: FIELDS[name] for name in names}, "required": required}
