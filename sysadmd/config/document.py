"""A configuration document: read as TOML, its text forms replaced by numbers and paths, checked by its schema.

Everything here works on plain dictionaries and on the schema, which names the keys; the objects are made in the package
itself. A refusal is one `ConfigError`, for the first rule broken in the order of the keys: whoever edits a file mends
one line at a time.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from sysadmd.errors import ConfigError

MAX_FILE = 1024 * 1024
"""Bytes of a configuration file: a thousand times a long one, and nothing that fills memory."""

NEWLINE = b"\n"
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 1024, "MiB": 1024**2, "GiB": 1024**3, "TiB": 1024**4}
_BARE = re.compile(r"[A-Za-z0-9_-]+")


def duration(text: str) -> float:
    """Seconds of `1h10m`, `90 s` or `250ms`. Raises ValueError with the rule."""
    parts = re.findall(r"(\d{1,9}(?:\.\d{1,9})?) ?(ms|[smhd]) ?", text, re.ASCII)
    if not re.fullmatch(r"(?:\d{1,9}(?:\.\d{1,9})? ?(?:ms|[smhd])(?: |$|(?=\d)))+", text, re.ASCII):
        raise ValueError('must be a duration: seconds, or text such as "1h10m" (units ms, s, m, h, d)')
    return float(sum(float(number) * _SECONDS[unit] for number, unit in parts))


def size(text: str) -> int:
    """Bytes of `64 MiB` or `1.5GB`. Raises ValueError with the rule."""
    match = re.fullmatch(rf"(\d{{1,15}}(?:\.\d{{1,9}})?) ?({'|'.join(_BYTES)})", text, re.ASCII)
    if match is None:
        raise ValueError(f'must be a size: bytes, or text such as "64 MiB" (units {", ".join(_BYTES)})')
    return int(float(match[1]) * _BYTES[match[2]])


@dataclass(frozen=True, slots=True)
class Source:
    """Where values came from: its name for errors, and the directory to which its relative paths belong."""

    name: str
    base: Path

    def error(self, key: str, value: object, rule: str) -> ConfigError:
        """The refusal of `value`; a table or an array is named by its key alone, a long text is cut."""
        if isinstance(value, str) and len(value) > 80:
            value = f"{value[:80]}…"
        return ConfigError(self.name, key, None if isinstance(value, dict | list) else value, rule)

    def coerced(self, value: Any, node: Mapping[str, Any], key: str = "") -> Any:
        """`value` with every text form replaced by the number or absolute path it stands for, all its keys known."""
        if isinstance(value, dict) and node.get("type") == "object":
            return {k: self.coerced(v, self._below(k, node, key), dotted(key, k)) for k, v in value.items()}
        if isinstance(value, list | tuple) and node.get("type") == "array":
            return [self.coerced(item, node["items"], f"{key}[{n}]") for n, item in enumerate(value)]
        if isinstance(value, float) and not isfinite(value):
            raise self.error(key, value, "must be a finite number")
        if not isinstance(value, str | Path) or "format" not in node:
            return value
        read = {"path": self._path, "duration": duration, "size": size}[node["format"]]
        try:
            return read(str(value))
        except ValueError as error:
            raise self.error(key, str(value), str(error)) from None

    def _path(self, text: str) -> str:
        if "\0" in text or not text:
            raise ValueError("must be a path: not empty, without NUL")
        return os.path.normpath(self.base / text)

    def _below(self, name: str, node: Mapping[str, Any], key: str) -> Mapping[str, Any]:
        known: Mapping[str, Mapping[str, Any]] = node.get("properties", {})
        other: Mapping[str, Any] | bool = node.get("additionalProperties", False)
        if name in known:
            return known[name]
        if isinstance(other, Mapping):
            return other
        from difflib import get_close_matches

        close = get_close_matches(name, known, n=1)
        hint = f", did you mean {dotted(key, close[0])}?" if close else ""
        raise self.error(dotted(key, name), None, f"unknown key{hint}")


def read(path: Path, source: Source) -> dict[str, Any]:
    """The TOML document in the file. Raises ConfigError, with the line where there is one."""
    import tomllib

    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FILE + 1)
    except OSError as error:
        raise source.error("", None, f"cannot be read: {error.strerror}") from None
    if len(raw) > MAX_FILE:
        raise source.error("", None, f"must be at most {MAX_FILE} bytes")
    try:
        return tomllib.loads(raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        line = raw.count(NEWLINE, 0, error.start) + 1
        raise source.error("", None, f"must be UTF-8, line {line} is not") from None
    except RecursionError:
        raise source.error("", None, "tables and arrays are nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        what, _, where = str(error).partition(" (at ")
        where = f"line {raw.count(NEWLINE) + 1}" if "end of" in where else where.rstrip(")")
        raise source.error("", None, f"bad TOML at {where}: {what}") from None


def load_schema(root: Path) -> dict[str, Any]:
    """schemas/config.json below `root`."""
    import json

    schema: dict[str, Any] = json.loads((root / "config.json").read_bytes())
    return schema


def check(document: dict[str, Any], schema: dict[str, Any], source: Source) -> None:
    """Raise ConfigError for the first value, in the order of the keys, that breaks the schema."""
    import jsonschema

    errors = jsonschema.Draft202012Validator(schema).iter_errors(document)
    for error in sorted(errors, key=lambda broken: [str(part) for part in broken.absolute_path]):
        key = ""
        for part in error.absolute_path:
            key = f"{key}[{part}]" if isinstance(part, int) else dotted(key, part)
        raise source.error(key, error.instance, _rule(str(error.validator), error.validator_value, error.schema))


def _rule(keyword: str, value: Any, node: Any) -> str:
    """The broken rule in words."""
    if isinstance(node, dict) and "x-rule" in node:
        return str(node["x-rule"])
    if keyword == "type":
        kinds = " or ".join([value] if isinstance(value, str) else value)
        return f"must be of type {kinds.replace('object', 'table')}"
    if keyword == "enum":
        return f"must be one of {', '.join(value)}"
    words = {"minimum": "must be at least", "maximum": "must be at most", "minLength": "its length must be at least"}
    return f"{words.get(keyword, 'must match')} {value}"


def dotted(key: str, name: str) -> str:
    """`name` below `key`, quoted where TOML would need it."""
    name = name if _BARE.fullmatch(name) else repr(name)
    return f"{key}.{name}" if key else name


def merge(document: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Put nested `overrides` over `document`, table by table."""
    for name, value in overrides.items():
        if isinstance(value, Mapping) and isinstance(document.get(name), dict):
            merge(document[name], value)
        else:
            document[name] = value


def nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """`overrides` with dotted keys (`{"listen.port": 0}`) as nested tables; nested ones pass."""
    document: dict[str, Any] = {}
    for key, value in overrides.items():
        tree: Any = nested(value) if isinstance(value, Mapping) else value
        for part in reversed(key.split(".")):
            tree = {part: tree}
        merge(document, tree)
    return document
