"""References inside a schema."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_LOCAL = "#/$defs/"


def inlined(schema: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without ``$defs``, each reference replaced by what it points to, so that it may stand anywhere."""
    definitions = schema.get("$defs", {})

    def resolve(part: Any) -> Any:
        if isinstance(part, dict):
            target = part.get("$ref")
            if isinstance(target, str) and target.startswith(_LOCAL):
                return resolve(definitions[target.removeprefix(_LOCAL)])
            return {key: resolve(value) for key, value in part.items() if key != "$defs"}
        return [resolve(item) for item in part] if isinstance(part, list) else part

    resolved: dict[str, Any] = resolve(dict(schema))
    return resolved
