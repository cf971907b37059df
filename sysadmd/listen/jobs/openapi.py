"""The resources as OpenAPI 3.1 describes them, by the schemas of the methods that they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sysadmd.schema import Method
from sysadmd.schema.references import inlined

_JOB = {
    "name": "job",
    "in": "path",
    "required": True,
    "description": "Its id, the beginning of one (4 digits or more), or its number.",
    "schema": {"type": "string"},
}
_ERROR = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
_SECURITY: list[dict[str, list[str]]] = [{"basic": []}, {"bearer": []}]
_OPERATIONS = (
    ("", "get", ("queue/list",), "List jobs"),
    ("", "post", ("queue/enqueue",), "Enqueue a job"),
    ("/{job}", "get", ("queue/detail",), "Show a job"),
    ("/{job}", "delete", ("queue/detail", "queue/kill", "queue/remove"), "End a job, and take it out of the queue"),
    ("/{job}/kill", "post", ("queue/detail", "queue/kill"), "End a job"),
    ("/{job}/restart", "post", ("queue/restart",), "Restart a job"),
    ("/{job}/output", "get", ("queue/output",), "Read the output of a job"),
)
"""Path, verb, the methods that it is made of, and what it is called."""


def paths(prefix: str, allowed: Mapping[str, Method]) -> dict[str, Any]:
    """The `paths` object; of what needs a method that is not allowed, nothing."""
    found: dict[str, Any] = {}
    for path, verb, keys, summary in _OPERATIONS:
        if all(key in allowed for key in keys):
            methods = [allowed[key] for key in keys]
            found.setdefault(prefix + path, {})[verb] = _operation(path, verb, methods, summary)
    return found


def _operation(path: str, verb: str, methods: list[Method], summary: str) -> dict[str, Any]:
    last = path.rpartition("/")[2]
    operation: dict[str, Any] = {
        "operationId": f"{verb}_jobs{path.replace('/{job}', '_one').replace('/', '_')}",
        "summary": summary,
        "tags": ["jobs"],
        "security": _SECURITY,
        "parameters": [*([_JOB] if path else []), *_query(path, verb, methods[-1])],
        "responses": {**_success(verb, last, methods), **_errors(methods)},
    }
    if not path and verb == "post":
        operation["parameters"].append(
            _parameter("Idempotency-Key", "The `request_key` of the request.", {"type": "string"}, "header")
        )
        schema = inlined(methods[0].args)
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _query(path: str, verb: str, method: Method) -> list[dict[str, Any]]:
    properties = method.args.get("properties", {})
    if not path and verb == "get":
        repeated = {"state": properties["states"], "kind": properties["kinds"]}
        some = {name: properties[name] for name in ("name", "owner", "limit")}
        archived = {"enum": ["false", "true", "all"], "default": "false", "description": "Those that left the queue."}
        cursor = {"type": "string", "description": "The `next` of the page before."}
        all_of = {**repeated, **some, "archived": archived, "cursor": cursor}
        return [_parameter(name, schema.get("description", ""), schema) for name, schema in all_of.items()]
    if path.endswith("/output"):
        ranged = _parameter("Range", "One range of bytes.", {"type": "string"}, "header")
        chosen = [_parameter(name, properties[name]["description"], properties[name]) for name in ("step", "attempt")]
        return [*chosen, ranged]
    return []


def _parameter(name: str, description: str, schema: Mapping[str, Any], place: str = "query") -> dict[str, Any]:
    return {"name": name, "in": place, "description": description, "schema": dict(schema)}


def _success(verb: str, last: str, methods: list[Method]) -> dict[str, Any]:
    if last == "output":
        content = {"text/plain": {"schema": {"type": "string"}}}
        return {
            "200": {"description": "What it wrote.", "content": content},
            "206": {"description": "The range of it.", "content": content},
            "416": {"description": "No byte of the range is there."},
        }
    # What ends a job answers with the job.
    content = {"application/json": {"schema": inlined(methods[0].returns)}}
    ends = methods[0].key == "queue/detail" and verb != "get"
    if ends:
        running = {"description": "The job, which still runs.", "content": content}
        return {"200": {"description": "The job.", "content": content}, "202": running}
    if verb == "post":
        location = {"Location": {"description": "The job.", "schema": {"type": "string"}}}
        return {"202": {"description": "The job, which will run.", "headers": location, "content": content}}
    return {"200": {"description": "The result.", "content": content}}


def _errors(methods: list[Method]) -> dict[str, Any]:
    reasons: dict[int, list[str]] = {}
    for method in methods:
        for case in method.errors:
            if case.when not in reasons.setdefault(case.code, []):
                reasons[case.code].append(case.when)
    return {str(code): {"description": "; ".join(reasons[code]), "content": _ERROR} for code in sorted(reasons)}
