"""Reads schemas/methods into `Method` objects.

A start of the server pays for this, so it is one pass of msgspec over small files. Whether the schemas inside are sound
JSON Schema 2020-12 is a question for the tests, which ask jsonschema; here only the frame around them is checked.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from sysadmd.errors import SysadmdError
from sysadmd.schema import paths
from sysadmd.schema.method import Access, ErrorCase, Example, Method

_SEGMENT = re.compile(r"[a-z][a-z0-9_]*")


class _File(msgspec.Struct, forbid_unknown_fields=True):
    """The keys of a method file."""

    title: str
    description: str
    access: Access
    mutates: bool
    args: dict[str, Any]
    returns: dict[str, Any]
    examples: tuple[Example, ...]
    errors: tuple[ErrorCase, ...]
    inline: bool = False
    aliases: tuple[str, ...] = ()


_decode = msgspec.json.Decoder(_File).decode


def load_methods(root: Path | None = None) -> dict[str, Method]:
    """Every method below `root`/methods (default: the schemas of this installation), by key, in order of the keys.

    Raises `SysadmdError` with the file and the rule that it breaks.
    """
    directory = (root or paths.root()) / "methods"
    methods = [_read(path, path.relative_to(directory)) for path in directory.rglob("*.json")]
    if not methods:
        raise SysadmdError(f"{directory}: no method schemas")
    found = {method.key: method for method in sorted(methods, key=lambda method: method.key)}
    for method in methods:
        if method.action is not None and f"{method.namespace}/{method.name}" in found:
            raise SysadmdError(f"{directory}: {method.namespace}/{method.name} is a method and also a directory")
    return found


def _is_key(segments: Sequence[str]) -> bool:
    return len(segments) in (2, 3) and all(_SEGMENT.fullmatch(segment) for segment in segments)


def _read(path: Path, relative: Path) -> Method:
    segments = relative.with_suffix("").parts
    if not _is_key(segments):
        raise SysadmdError(f"{path}: not <namespace>/<name>.json or <namespace>/<name>/<action>.json")
    try:
        file = _decode(path.read_bytes())
    except (OSError, UnicodeDecodeError, msgspec.DecodeError) as error:
        raise SysadmdError(f"{path}: {error}") from None
    for alias in file.aliases:
        if not _is_key(alias.split("/")):
            raise SysadmdError(f"{path}: the alias {alias!r} is not <namespace>/<name>[/<action>]")
    for example in file.examples:
        if (example.result is msgspec.UNSET) == (example.error is None):
            raise SysadmdError(f"{path}: the example {example.title!r} needs either result or error")
    return Method(
        namespace=segments[0],
        name=segments[1],
        action=segments[2] if len(segments) == 3 else None,
        key="/".join(segments),
        access=file.access,
        mutates=file.mutates,
        inline=file.inline,
        args=file.args,
        returns=file.returns,
        title=file.title,
        description=file.description,
        examples=file.examples,
        errors=file.errors,
        aliases=file.aliases,
    )
