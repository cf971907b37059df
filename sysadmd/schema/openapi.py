"""The OpenAPI 3.1 document (spec.openapis.org): the API over HTTP.

The path is ``/<namespace>/<name>``. GET, PUT and POST do the same, with the arguments as the JSON body, because the
protocol always had it so; the action is a key of the arguments. Events have no place here: a subscription belongs to a
connection, and ``/api/v1/events`` streams them.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from sysadmd import __version__
from sysadmd.schema.method import Method
from sysadmd.schema.references import inlined

VERBS = ("get", "put", "post")
_ERROR = {"$ref": "#/components/schemas/Error"}


def document(methods: Iterable[Method]) -> dict[str, Any]:
    """The document of these methods; those of `events` are left out."""
    callable_here = sorted((m for m in methods if m.namespace != "events"), key=_path)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sysadmd",
            "version": __version__,
            "license": {"name": "BSD-3-Clause", "identifier": "BSD-3-Clause"},
        },
        "paths": {path: _item(path, list(group)) for path, group in groupby(callable_here, key=_path)},
        "components": {"schemas": {"Error": _error_schema()}, "securitySchemes": _security_schemes()},
    }


def _path(method: Method) -> str:
    return f"/{method.namespace}/{method.name}"


def _item(path: str, methods: list[Method]) -> dict[str, Any]:
    return {verb: _operation(verb, path, methods) for verb in VERBS}


def _operation(verb: str, path: str, methods: list[Method]) -> dict[str, Any]:
    public = all(method.access == "public" for method in methods)
    return {
        "operationId": verb + path.replace("/", "_"),
        "summary": methods[0].title if len(methods) == 1 else " · ".join(str(method.action) for method in methods),
        "description": "\n\n".join(_about(method) for method in methods),
        "tags": [methods[0].namespace],
        "security": [] if public else [{"basic": []}, {"bearer": []}],
        "requestBody": {"required": any(method.action for method in methods), "content": _request(methods)},
        "responses": {"200": _response(methods), **_errors(methods)},
    }


def _about(method: Method) -> str:
    return f"**{method.action}**: {method.description}" if method.action else method.description


def _request(methods: list[Method]) -> dict[str, Any]:
    schemas = [_body(method) for method in methods]
    examples = {
        f"{method.action or method.name} {number}": {
            "summary": example.title,
            "value": _with_action(method, example.args),
        }
        for method in methods
        for number, example in enumerate(method.examples, 1)
        if example.error is None
    }
    return {
        "application/json": {"schema": schemas[0] if len(schemas) == 1 else {"oneOf": schemas}, "examples": examples}
    }


def _body(method: Method) -> dict[str, Any]:
    """The schema of a method's arguments, with the action as one more key."""
    schema = inlined(method.args)
    if method.action is None:
        return schema
    schema["title"] = method.title
    schema["properties"] = {"action": {"const": method.action}, **schema.get("properties", {})}
    schema["required"] = ["action", *schema.get("required", ())]
    for bound in ("minProperties", "maxProperties"):
        if bound in schema:
            schema[bound] += 1
    return schema


def _with_action(method: Method, args: Any) -> Any:
    return {"action": method.action, **args} if method.action and isinstance(args, dict) else args


def _response(methods: list[Method]) -> dict[str, Any]:
    results = [inlined(method.returns) for method in methods]
    schema = {
        "type": "object",
        "properties": {"args": results[0] if len(results) == 1 else {"anyOf": results}},
        "required": ["args"],
    }
    return {"description": "The result, under `args`.", "content": {"application/json": {"schema": schema}}}


def _errors(methods: list[Method]) -> dict[str, Any]:
    reasons: dict[int, list[str]] = {}
    for method in methods:
        for case in method.errors:
            if case.when not in reasons.setdefault(case.code, []):
                reasons[case.code].append(case.when)
    content = {"application/json": {"schema": _ERROR}}
    return {str(code): {"description": "; ".join(reasons[code]), "content": content} for code in sorted(reasons)}


def _error_schema() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "args": {
                "type": "object",
                "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
                "required": ["code", "message"],
            }
        },
        "required": ["args"],
    }


def _security_schemes() -> dict[str, Any]:
    return {
        "basic": {"type": "http", "scheme": "basic", "description": "Name and password of an account."},
        "bearer": {"type": "http", "scheme": "bearer", "description": "A token from `rpc/auth`."},
        "token": {"type": "apiKey", "in": "header", "name": "X-Token", "description": "The same, for `/workqueue`."},
    }
