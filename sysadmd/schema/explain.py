"""Why a value was refused, in one sentence.

Imported on the first refusal only: jsonschema takes a tenth of a second to import, and a server that gets no bad input
never needs it. The sentences are our own and not jsonschema's: those quote whole values, which may be large, or secret.

A refusal must be cheap, since the server does nothing else meanwhile: the parts of a container that has more of them
than its schema allows are not looked at (60,000 topics took 1.4 s), and of many errors only the first are compared.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jsonschema
from jsonschema.exceptions import ValidationError, relevance

SHOWN = 60
"""Characters of a value that a message quotes."""
COMPARED = 100
"""Errors among which the most telling one is looked for."""
SEARCHED = 2000
"""Values that are searched for the place of an error."""
WIDE = 1000
"""Parts of the largest container that a method takes many of."""

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLURALS = {"Length": "character", "Items": "item", "Properties": "key"}


@dataclass(frozen=True, slots=True)
class Explanation:
    """The message of a refusal, the path of the value and the schema keyword that refused it."""

    message: str
    path: str
    rule: str


def _pattern(_: Any, pattern: str, instance: Any, __: Any) -> Iterator[ValidationError]:
    """`pattern` as ECMA-262 means it: `$` is the end of the text, in Python also the place before a last newline."""
    if isinstance(instance, str) and not re.search(re.sub(r"(?<!\\)\$", r"\\Z", pattern), instance, re.ASCII):
        yield ValidationError("pattern")


def _bounded(keyword: str, bound: str) -> Callable[..., Iterator[ValidationError]]:
    """`keyword`, which looks at each part of a container, only for one within `bound`; else that rule is broken."""
    check = jsonschema.Draft202012Validator.VALIDATORS[keyword]

    def within(validator: Any, rule: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        limit = schema.get(bound)
        if limit is None or not isinstance(instance, list | dict) or len(instance) <= limit:
            yield from check(validator, rule, instance, schema) or ()

    return within


_extend: Any = jsonschema.validators.extend
_Reference: Any = _extend(
    jsonschema.Draft202012Validator,
    {
        "pattern": _pattern,
        "items": _bounded("items", "maxItems"),
        **{
            keyword: _bounded(keyword, "maxProperties")
            for keyword in ("additionalProperties", "patternProperties", "properties", "propertyNames")
        },
    },
)


def reference(schema: Mapping[str, Any]) -> Any:
    """The reference validator of a schema."""
    return _Reference(schema)


def is_large(value: Any) -> bool:
    """Whether the reference would take more than a tenth of a second for a value: it holds more than `SEARCHED` others.

    Containers of more than `WIDE` are passed over: our schemas have no place for one, so the reference does the same.
    """
    left, waiting = SEARCHED, [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list | dict) and len(one) <= WIDE:
            left -= len(one)
            if left < 0:
                return True
            waiting.extend(one.values() if isinstance(one, dict) else one)
    return False


def refusal(validator: Any, value: Any, name: str) -> Explanation | None:
    """The most telling reason for which `validator` refuses `value`; None when it accepts it."""
    found = max(islice(validator.iter_errors(value), COMPARED), key=relevance, default=None)
    if found is None:
        return None
    error = _innermost(found)
    path = path_text(name, error.absolute_path)
    rule = str(error.validator)
    return Explanation(f"{path}: {_sentence(error, rule)}", path, rule)


def _innermost(error: ValidationError) -> ValidationError:
    """The reason inside a choice: when the value has the type of one form only, what that form says of it."""
    while error.validator in ("oneOf", "anyOf"):
        forms: dict[Any, list[ValidationError]] = {}
        for inner in error.context or ():
            forms.setdefault(inner.schema_path[0], []).append(inner)
        fitting = [errors for errors in forms.values() if not any(_is_type_of_whole(inner) for inner in errors)]
        if len(fitting) != 1:
            break
        error = max(fitting[0], key=relevance)
    return error


def _is_type_of_whole(inner: ValidationError) -> bool:
    return inner.validator == "type" and not inner.relative_path


def path_text(name: str, path: Any) -> str:
    """``args.jobs["my job"][2]``."""
    text = name
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif _IDENTIFIER.fullmatch(step):
            text += f".{step}"
        else:
            text += f"[{_quoted(step)}]"
    return text


def _sentence(error: ValidationError, rule: str) -> str:
    value: Any = error.instance
    limit: Any = error.validator_value
    shown = "the value" if _has_secret(error.schema) else show(value)
    write = _SENTENCES.get(rule)
    if write is not None:
        return write(shown, limit)
    if rule == "required":
        return f"{_quoted(next(key for key in limit if key not in value))} is required"
    if rule in ("additionalProperties", "unevaluatedProperties"):
        return _unknown_key(value, error.schema)
    if rule[:3] in ("min", "max") and rule[3:] in _PLURALS:
        return _size(rule, value, limit, shown)
    return f"{shown} breaks the rule {rule}"


_SENTENCES: dict[str, Callable[[str, Any], str]] = {
    "type": lambda shown, limit: f"{shown} is not of type {' or '.join([limit] if isinstance(limit, str) else limit)}",
    "enum": lambda shown, limit: f"{shown} is not one of {', '.join(show(choice) for choice in limit)}",
    "const": lambda shown, limit: f"{shown} is not {show(limit)}",
    "minimum": lambda shown, limit: f"{shown} is less than the minimum of {limit}",
    "maximum": lambda shown, limit: f"{shown} is greater than the maximum of {limit}",
    "exclusiveMinimum": lambda shown, limit: f"{shown} is not greater than {limit}",
    "exclusiveMaximum": lambda shown, limit: f"{shown} is not less than {limit}",
    "pattern": lambda shown, limit: f"{shown} does not match the pattern {limit}",
    "uniqueItems": lambda shown, _: f"{shown} has an item twice",
    "oneOf": lambda shown, forms: f"{shown} has none of the forms that are allowed here{_titles(forms)}",
    "anyOf": lambda shown, forms: f"{shown} has none of the forms that are allowed here{_titles(forms)}",
}


def _has_secret(schema: Any) -> bool:
    """Whether a value of this schema is secret, or may hold a secret where the schema does not expect it."""
    if isinstance(schema, dict):
        return schema.get("x-secret") is True or any(_has_secret(part) for part in schema.values())
    return isinstance(schema, list) and any(_has_secret(part) for part in schema)


def _titles(forms: Any) -> str:
    titles = [form.get("title") or form.get("type") or form.get("$ref", "").rpartition("/")[2] for form in forms]
    return f": {' | '.join(map(str, titles))}" if all(titles) else ""


def _size(rule: str, value: Any, limit: int, shown: str) -> str:
    unit = _PLURALS[rule[3:]] + ("" if len(value) == 1 else "s")
    return f"{shown} has {len(value)} {unit}, the {rule[:3]}imum is {limit}"


def _unknown_key(value: Mapping[str, Any], schema: Any) -> str:
    known = sorted(schema.get("properties", {}))
    unknown = next((key for key in value if key not in known), "")
    near = difflib.get_close_matches(unknown, known, 1)
    hint = f"did you mean {_quoted(near[0])}?" if near else f"known: {', '.join(known) or 'none'}"
    return f"unknown key {_quoted(unknown)} ({hint})"


def show(value: Any) -> str:
    """A value as a message quotes it: short, and never the inside of a container."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "an array"
    return _quoted(value) if isinstance(value, str) else _cut(json.dumps(value))


def _quoted(text: str) -> str:
    return json.dumps(_cut(text), ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN else text[:SHOWN] + "…"
