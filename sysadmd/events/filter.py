"""Which records of a topic a subscription wants: values that must be equal, by path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sysadmd.errors import BadRequest

PATHS = 16
"""Paths in one filter: each is looked up for each record."""
VALUES = 64
"""Values for one path."""

_MISSING = object()
Scalar = str | int | float | bool | None
Key = tuple[type, Scalar]


@dataclass(frozen=True, slots=True)
class Filter:
    """Matches data where each dotted path leads to one of its values. Equal filters are equal keys.

    A value equals a value of the same JSON type only: 1 and 1.0 are both numbers, 1 and true are not.
    """

    terms: tuple[tuple[tuple[str, ...], frozenset[Key]], ...]

    @classmethod
    def parse(cls, mapping: Mapping[str, Any]) -> Filter:
        """Read `{"phase": "finished", "details.process_id": ["a", "b"]}`. Raises BadRequest with path and rule."""
        if len(mapping) > PATHS:
            raise _refusal("", f"at most {PATHS} paths, found {len(mapping)}", "maxProperties")
        return cls(tuple(sorted((_path(path), _keys(path, wanted)) for path, wanted in mapping.items())))

    def matches(self, data: Any) -> bool:
        """Whether all terms hold for the data. Pure; a path that leads nowhere never matches."""
        for path, keys in self.terms:
            value = data
            for part in path:
                value = value.get(part, _MISSING) if isinstance(value, dict) else _MISSING
            if _key(value) not in keys:
                return False
        return True


def _path(path: str) -> tuple[str, ...]:
    parts = tuple(path.split("."))
    if not all(parts):
        raise _refusal(path, f"{path!r} is not a dotted path", "pattern")
    return parts


def _keys(path: str, wanted: Any) -> frozenset[Key]:
    values = wanted if isinstance(wanted, list) else [wanted]
    if not 1 <= len(values) <= VALUES:
        raise _refusal(path, f"1 to {VALUES} values, found {len(values)}", "maxItems")
    for value in values:
        if isinstance(value, (dict, list)):
            raise _refusal(path, "a value must be a string, number, boolean or null", "type")
    return frozenset(_key(value) for value in values)


def _key(value: Any) -> Key:
    """Type and value: a dict's own equality would hold true for 1."""
    if isinstance(value, str):
        return (str, value)
    if isinstance(value, bool) or value is None:
        return (type(value), value)
    return (float, value) if isinstance(value, (int, float)) else (object, None)


def _refusal(path: str, message: str, rule: str) -> BadRequest:
    where = f"args.filter.{path}" if path else "args.filter"
    return BadRequest(f"{where}: {message}", path=where, rule=rule)
