"""What of a call's arguments may be written down: everything that its schema does not mark as `x-secret`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

SECRET = "[secret]"  # noqa: S105  # what stands in its place
BRANCHES = ("oneOf", "anyOf", "allOf")
DEPTH = 64
"""A schema may refer to itself; values have fewer levels than this (limits.json_depth)."""


class Redactor:
    """The secrets of one schema. Where several branches may apply, what any of them calls a secret is one."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        self._root = schema
        self._definitions: Mapping[str, Any] = schema.get("$defs", {})
        self._open = not _has_secret(schema)

    def __call__(self, value: Any) -> Any:
        """`value` with `[secret]` in place of each secret; the same object where the schema has none."""
        return value if self._open else self._redacted(self._root, value, DEPTH)

    def _redacted(self, schema: Any, value: Any, depth: int) -> Any:
        if not isinstance(schema, Mapping):
            return value
        if schema.get("x-secret") or not depth:
            return SECRET
        if isinstance(reference := schema.get("$ref"), str):
            target = self._definitions.get(reference.removeprefix("#/$defs/"))
            value = SECRET if target is None else self._redacted(target, value, depth - 1)
        for key in BRANCHES:
            for branch in schema.get(key, ()):
                value = self._redacted(branch, value, depth - 1)
        if isinstance(value, dict):
            return {key: self._member(schema, key, one, depth - 1) for key, one in value.items()}
        if isinstance(value, list):
            first = schema.get("prefixItems", ())
            rest = schema.get("items")
            return [self._redacted(first[n] if n < len(first) else rest, one, depth - 1) for n, one in enumerate(value)]
        return value

    def _member(self, schema: Mapping[str, Any], key: str, value: Any, depth: int) -> Any:
        for one in _of_key(schema, key):
            value = self._redacted(one, value, depth)
        return value


def _of_key(schema: Mapping[str, Any], key: str) -> list[Any]:
    """The schemas that apply to a member (JSON Schema 2020-12, core §10.3.2)."""
    found = [schema["properties"][key]] if key in schema.get("properties", ()) else []
    found += [one for pattern, one in schema.get("patternProperties", {}).items() if re.search(pattern, key)]
    return found or [schema.get("additionalProperties")]


def _has_secret(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        return bool(schema.get("x-secret")) or any(_has_secret(one) for one in schema.values())
    return isinstance(schema, list | tuple) and any(_has_secret(one) for one in schema)
