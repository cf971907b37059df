"""The OpenRPC 1.3 document (spec.open-rpc.org): the API as JSON-RPC clients see it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from sysadmd import __version__
from sysadmd.schema.method import Example, Method
from sysadmd.schema.references import inlined

OPENRPC = "1.3.2"


def document(methods: Iterable[Method]) -> dict[str, Any]:
    """The document of these methods, in the order given."""
    return {
        "openrpc": OPENRPC,
        "info": {"title": "sysadmd", "version": __version__, "license": {"name": "BSD-3-Clause"}},
        "methods": [_method(method) for method in methods],
    }


def _method(method: Method) -> dict[str, Any]:
    return {
        "name": method.key,
        "summary": method.title,
        "description": method.description,
        "tags": [{"name": f"{method.namespace}/{method.name}"}],
        "paramStructure": "either",
        "params": _params(method),
        "result": {"name": "result", "schema": inlined(method.returns)},
        "errors": [{"code": case.code, "message": case.when} for case in method.errors],
        "examples": [_example(example) for example in method.examples if example.error is None],
        "x-access": method.access,
        "x-mutates": method.mutates,
        # The whole of `params` at once: `params` above cannot tell a list, a choice, or free keys.
        "x-args": inlined(method.args),
    }


def _params(method: Method) -> list[dict[str, Any]]:
    """One content descriptor for each key of the arguments."""
    required = method.args.get("required", ())
    properties = inlined(method.args).get("properties", {})
    return [{"name": name, "required": name in required, "schema": schema} for name, schema in properties.items()]


def _example(example: Example) -> dict[str, Any]:
    """An example pairing; arguments that are no object are told as one parameter."""
    named = example.args if isinstance(example.args, dict) else {"args": example.args}
    return {
        "name": example.title,
        "params": [{"name": name, "value": value} for name, value in named.items()],
        "result": {"name": "result", "value": None if example.result is msgspec.UNSET else example.result},
    }
