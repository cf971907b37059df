"""A JSON Schema as a table that a person reads: one row for each key, with its type, its rule and its meaning."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]
# Deeper nesting is there (events in events); a table that followed it would help nobody.
DEPTH = 6


@dataclass(frozen=True, slots=True)
class Row:
    """One key: dotted path, type in words, rule in words, description."""

    path: str
    type: str
    rule: str
    meaning: str


def rows(schema: Schema, path: str = "", *, root: Schema | None = None) -> list[Row]:
    """All keys of a schema, depth first. `path` is what stands before the first key."""
    return list(_rows(schema, path, schema if root is None else root, required=False, depth=0))


def _rows(schema: Schema, path: str, root: Schema, *, required: bool, depth: int) -> Iterator[Row]:
    schema = resolve(schema, root)
    if path:
        meaning = str(schema.get("description", ""))
        yield Row(path, type_text(schema, root), rule_text(schema, required=required), meaning)
    if depth >= DEPTH:
        return
    needed = schema.get("required", ())
    dot = f"{path}." if path else ""
    for key, value in schema.get("properties", {}).items():
        yield from _rows(value, f"{dot}{key}", root, required=key in needed, depth=depth + 1)
    rest = schema.get("additionalProperties")
    if isinstance(rest, Mapping):
        yield from _rows(rest, f"{dot}*", root, required=False, depth=depth + 1)
    items = schema.get("items")
    if isinstance(items, Mapping) and ("properties" in resolve(items, root) or "oneOf" in resolve(items, root)):
        yield from _rows(items, f"{path}[]", root, required=False, depth=depth + 1)
    for option in (*schema.get("oneOf", ()), *schema.get("anyOf", ())):
        # Scalars and plain lists are in the type text already.
        if "properties" in (option := resolve(option, root)):
            yield from (row for row in _rows(option, path, root, required=False, depth=depth + 1) if row.path != path)


def resolve(schema: Schema, root: Schema) -> Schema:
    """Follow a `$ref` within the document; what stands beside it wins, as in JSON Schema 2020-12."""
    reference = schema.get("$ref", "")
    if not reference.startswith("#/"):
        return schema
    found: Any = root
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    beside = {key: value for key, value in schema.items() if key != "$ref"}
    return {**resolve(found, root), **beside}


def type_text(schema: Schema, root: Schema) -> str:
    """`list of string`, `"gap"` or `"close"`, `One topic or list of topics`."""
    schema = resolve(schema, root)
    if "const" in schema:
        return code(schema["const"])
    if "enum" in schema:
        return " or ".join(code(value) for value in schema["enum"])
    options = (*schema.get("oneOf", ()), *schema.get("anyOf", ()))
    if options:
        resolved = [resolve(option, root) for option in options]
        return "; or ".join(str(option.get("title") or type_text(option, root)) for option in resolved)
    kind = schema.get("type", "anything")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        return f"list of {type_text(schema.get('items', {}), root)}"
    return str(schema.get("format") or kind)


def rule_text(schema: Schema, *, required: bool) -> str:
    """Whether it must be there, its bounds and its default."""
    parts = ["required"] if required else []
    if "x-rule" in schema:
        parts.append(str(schema["x-rule"]))
    else:
        if "pattern" in schema:
            parts.append(f"matches `{schema['pattern']}`")
        parts += _bounds(schema)
    if "default" in schema:
        parts.append(f"default {code(schema['default'])}")
    return ", ".join(parts)


def _bounds(schema: Schema) -> Iterator[str]:
    for low, high, what in (
        ("minimum", "maximum", ""),
        ("minLength", "maxLength", " characters"),
        ("minItems", "maxItems", " items"),
        ("minProperties", "maxProperties", " keys"),
    ):
        yield from _range(schema.get(low), schema.get(high), what)
    if "exclusiveMinimum" in schema:
        yield f"above {schema['exclusiveMinimum']}"


def _range(low: float | None, high: float | None, what: str) -> list[str]:
    if low is None and high is None:
        return []
    if high is None:
        if low == 1 and what:
            return ["not empty"]
        return [f"at least {low:,}{what}"] if low else []
    if low is None:
        return [f"at most {high:,}{what}"]
    return [f"{low:,} to {high:,}{what}"]


def code(value: object) -> str:
    """A JSON value as inline code."""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def table(found: list[Row], *, first: str = "key") -> str:
    """A Markdown table of the rows, or nothing for no rows."""
    if not found:
        return ""
    lines = [f"| {first} | type | rule | meaning |", "|---|---|---|---|"]
    lines += [f"| `{row.path}` | {cell(row.type)} | {cell(row.rule)} | {cell(row.meaning)} |" for row in found]
    return "\n".join(lines) + "\n"


def cell(text: str) -> str:
    """Text that cannot end its cell or its row."""
    return text.replace("|", "\\|").replace("\n", " ")


def block(value: object) -> str:
    """A JSON value as a code block: on one line where it fits."""
    text = json.dumps(value, ensure_ascii=False)
    if len(text) > 100:
        text = json.dumps(value, ensure_ascii=False, indent=2)
    return f"```json\n{text}\n```\n"
