"""The compiled check of a value against its schema.

Two implementations of JSON Schema 2020-12 stand behind one class. `jsonschema` is the reference: it explains every
refusal. It costs 31 to 69 µs a message, so where `jsonschema-rs` is installed (0.2 µs) that one says yes or no, and the
reference is not even imported until the first no. A property test holds the two equal over the real schemas.
``SYSADMD_VALIDATOR=jsonschema`` in the environment leaves the reference alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from sysadmd.errors import BadRequest


class Validator:
    """A compiled schema. `name` is the root of the paths in its messages."""

    __slots__ = ("_accepts", "_reference", "name", "schema")

    def __init__(self, schema: Mapping[str, Any], *, name: str = "args") -> None:
        self.schema, self.name = schema, name
        self._accepts = None if os.environ.get("SYSADMD_VALIDATOR") == "jsonschema" else fast(schema)
        self._reference: Any = None

    def check(self, value: Any) -> None:
        """Raise `BadRequest` (message, path, rule) unless `value` follows the schema.

        The message names the place, what came and what was expected: ``args.lines: -1 is less than the minimum of 0``.
        Values of keys marked ``x-secret`` are never quoted.
        """
        accepts = self._accepts
        if accepts is None or not accepts(value):
            self._explain(value)

    def _explain(self, value: Any) -> None:
        from sysadmd.schema import explain

        if self._accepts is not None and explain.is_large(value):
            text = f"{self.name}: the values break the schema, and are too many to look for the place"
            raise BadRequest(text, path=self.name, rule="schema")
        if self._reference is None:
            self._reference = explain.reference(self.schema)
        refusal = explain.refusal(self._reference, value, self.name)
        if refusal is not None:
            raise BadRequest(refusal.message, path=refusal.path, rule=refusal.rule)


def fast(schema: Mapping[str, Any]) -> Callable[[Any], bool] | None:
    """The yes or no of jsonschema-rs; None where it is not installed."""
    try:
        import jsonschema_rs
    except ImportError:
        return None
    accepts: Callable[[Any], bool] = jsonschema_rs.Draft202012Validator(dict(schema)).is_valid
    return accepts
