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
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sysadmd.errors import BadRequest

MAX_PATTERN = 256
"""Characters of one pattern: the longest method, topic or job name, and room."""
ACCESS_CLASSES = ("public", "read", "run", "admin")
RIGHTS = ("read", "run")

_ANY = "\x00"
"""Stands for a star when one pattern is matched with another: no name and no pattern contains it."""
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

    def call(self, key: str, access: str) -> bool:
        """Whether the method `key` of the access class `access` is granted."""
        return access in self.access or _matches(self.calls, key)

    def topic(self, name: str) -> bool:
        """Whether the topic, spelled with underscores, is granted."""
        return _matches(self.topics, name)

    def job(self, name: str, right: str) -> bool:
        """Whether the right to jobs of this name is granted."""
        return _matches(self.jobs, f"{name}:{right}")


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


def rights(pattern: str) -> tuple[str, ...]:
    """`job:x:*` as one pattern for each right, which may be held one by one; any other pattern as it is."""
    kind, _, rest = pattern.partition(":")
    name, _, right = rest.rpartition(":")
    return tuple(f"job:{name}:{one}" for one in RIGHTS) if kind == "job" and right == "*" else (pattern,)


def includes(held: str, wanted: str, access: Mapping[str, str] | None = None) -> bool:
    """Whether `held` grants everything that `wanted` does, whatever methods, topics and jobs there will be.

    A star of `wanted` stands for any text, so only a star of `held` may take it: `wanted` is matched as if its stars
    were characters that no name has. `access` says of which class a method is, where `held` is a class.
    """
    kind, _, have = check(held).partition(":")
    wanted_kind, _, want = check(wanted).partition(":")
    if kind != wanted_kind:
        return False
    if have == want:
        return True
    if kind == "call" and (have.startswith("@") or want.startswith("@") or "*" in (have, want)):
        classed = have.startswith("@") and access is not None and access.get(want) == have[1:]
        return have == "*" or classed
    if kind == "call" and have.count("/") == 2 and want.count("/") == 1:
        return False  # two segments mean every action, of which three name some
    if kind == "event":
        have, want = have.replace("-", "_"), want.replace("-", "_")
    expression = _anchored([_expression(kind, have)])
    return _matches(expression, want.replace("*", _ANY))


def _matches(expression: re.Pattern[str] | None, text: str) -> bool:
    return expression is not None and expression.fullmatch(text) is not None


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
