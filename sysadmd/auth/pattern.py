"""The grammar of permissions.

::

    pattern = "call:" ( "*" | "@" class | segment "/" segment [ "/" segment ] )
            | "event:" segment
            | "job:" segment ":" ( "read" | "run" | "*" )
    class   = "public" | "read" | "run" | "admin"         the access class in a method's schema
    segment = 1*( letter | digit | "_" | "." | "-" | "+" | "*" )

A pattern is anchored at both ends, and `*` stands for any run of characters within its segment, never across one. A
call of two segments covers every action of that name. A topic may be spelled with hyphens. A job's name is one segment,
dots included. There are no exceptions and no order: what no pattern grants is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from sysadmd.errors import BadRequest

MAX_PATTERN = 256
"""Characters of one pattern: the longest method, topic or job name, and room."""
ACCESS_CLASSES = ("public", "read", "run", "admin")
RIGHTS = ("read", "run")

_SEGMENT = r"[A-Za-z0-9_.+*-]+"
_CALL = re.compile(rf"call:(?:\*|@(?:{'|'.join(ACCESS_CLASSES)})|{_SEGMENT}/{_SEGMENT}(?:/{_SEGMENT})?)")
_EVENT = re.compile(rf"event:{_SEGMENT}")
_JOB = re.compile(rf"job:{_SEGMENT}:(?:{'|'.join(RIGHTS)}|\*)")
_FORMS = {
    "call": (_CALL, "call:*, call:@public|@read|@run|@admin or call:<namespace>/<name>[/<action>]"),
    "event": (_EVENT, "event:<topic>"),
    "job": (_JOB, "job:<name>:read|run"),
}


@dataclass(frozen=True, slots=True)
class Grants:
    """Compiled patterns: access classes, and one anchored expression for each kind; None matches nothing."""

    access: frozenset[str]
    calls: re.Pattern[str] | None
    topics: re.Pattern[str] | None
    jobs: re.Pattern[str] | None


def check(pattern: str) -> str:
    """`pattern` itself. Raises BadRequest saying what was expected."""
    kind = pattern.partition(":")[0]
    form, expected = _FORMS.get(kind, (None, "call:…, event:… or job:…"))
    if len(pattern) > MAX_PATTERN:
        raise BadRequest(f"permission {pattern[:40]!r}…: longer than {MAX_PATTERN} characters", rule="maxLength")
    if form is None or not form.fullmatch(pattern):
        raise BadRequest(f"permission {pattern!r}: expected {expected}", rule="pattern")
    return pattern


def compiled(patterns: Iterable[str]) -> Grants:
    """The decisions that `patterns` grant. Raises BadRequest for one that breaks the grammar."""
    access: set[str] = set()
    expressions: dict[str, list[str]] = {"call": [], "event": [], "job": []}
    for pattern in sorted(set(patterns)):
        kind, _, rest = check(pattern).partition(":")
        if kind == "call" and rest.startswith("@"):
            access.add(rest[1:])
        else:
            expressions[kind].append(_expression(kind, rest))
    return Grants(frozenset(access), *(_anchored(expressions[kind]) for kind in ("call", "event", "job")))


def _expression(kind: str, rest: str) -> str:
    if kind == "call":
        if rest == "*":
            return ".+"
        return "/".join(map(_glob, rest.split("/"))) + ("(?:/[^/:]+)?" if rest.count("/") == 1 else "")
    if kind == "event":
        return _glob(rest.replace("-", "_"))
    return ":".join(map(_glob, rest.split(":")))


def _glob(segment: str) -> str:
    """`*` as an expression. The groups are atomic: a name that does not match is refused in linear time per star."""
    first, *others = re.sub(r"\*+", "*", segment).split("*")
    if not others:
        return re.escape(first)
    *middle, last = others
    inner = "".join(f"(?>[^/:]*?{re.escape(part)})" for part in middle)
    return f"{re.escape(first)}{inner}[^/:]*{re.escape(last)}"


def _anchored(expressions: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(f"(?:{e})" for e in expressions), re.DOTALL) if expressions else None
