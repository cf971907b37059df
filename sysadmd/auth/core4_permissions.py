r"""core4's permission strings in our grammar (spec job-queues §1.10).

There a target is a regular expression that is matched from the start only, so that ``job://a.B/x`` grants the job
``aXByz`` too. Here no expression of a user is ever compiled. What is accepted is a name, whose dots are dots, and after
it at most one ``.*``, which is any text, as it was there; the pattern made of it is anchored at both ends. A dot may be
escaped, which is how to say a package and nothing else: ``a\.b\..*``. Anything else is refused and not guessed at:
a string that means less than its author thinks is found by a refusal, one that means more is found by nobody.

=====================  ==================================================================================
``cop``                everything
``api://NAME``         ``call:core4/NAME``, every action
``api://NAME/cr``      ``call:core4/NAME/create``, ``call:core4/NAME/read``
``job://NAME/r``       ``job:NAME:read``
``job://NAME/x``       ``job:NAME:read``, ``job:NAME:run``: who may run it may see it
=====================  ==================================================================================

The way back, `spelled`, is for showing: what core4 has no words for stays as it is, in our grammar, which is read too.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sysadmd.auth.pattern import RIGHTS, check, rights
from sysadmd.errors import BadRequest

NAMESPACE = "core4"
"""Of the calls that core4's handlers are here; a handler's class name is the name, dots included."""
ACTIONS = {"c": "create", "r": "read", "u": "update", "d": "delete"}
EVERYTHING = ("call:*", "event:*", *(f"job:*:{right}" for right in RIGHTS))

_NAME = r"(?:[A-Za-z0-9_-]|\\?\.(?!\*))*(?:\.\*)?"
_API = re.compile(rf"api://(?P<name>{_NAME})(?:/(?P<letters>[crud]{{1,4}}))?")
_JOB = re.compile(rf"job://(?P<name>{_NAME})/(?P<right>[rx])")
_STARLESS = r"[A-Za-z0-9_.-]"
_ENDS_IN_STAR = re.compile(rf"{_STARLESS}+\*?|\*")
_CALL = re.compile(rf"{NAMESPACE}/(?P<name>{_STARLESS}+\*?|\*)(?:/(?P<action>{'|'.join(ACTIONS.values())}))?")
"""Patterns of ours that a string can say: no star but at the end of the name."""


def translated(permissions: Iterable[str]) -> tuple[str, ...]:
    """What these strings grant, as patterns of ours, sorted. Raises BadRequest for the first that is not exact."""
    return tuple(sorted({pattern for one in permissions for pattern in translate(one)}))


def understood(permissions: Iterable[str]) -> tuple[str, ...]:
    """The same, where a string may be a pattern of ours already. Raises BadRequest."""
    strings = set(permissions)
    ours = {one for one in strings if one != "cop" and "://" not in one}
    return tuple(sorted({*translated(strings - ours), *map(check, ours)}))


def spelled(patterns: Iterable[str]) -> list[str]:
    """Patterns of ours in core4's words, sorted, as few as will do; those that it has no words for as they are."""
    held = {one for pattern in patterns for one in rights(pattern)}
    if held.issuperset(EVERYTHING):
        return ["cop"]
    actions: dict[str, set[str]] = {}
    jobs: dict[str, set[str]] = {}
    others: list[str] = []
    for pattern in sorted(held):
        kind, _, rest = pattern.partition(":")
        if kind == "call" and (found := _CALL.fullmatch(rest)):
            actions.setdefault(found["name"], set()).add(found["action"] or "")
        elif kind == "job" and _ENDS_IN_STAR.fullmatch(rest.rpartition(":")[0]):
            name, _, right = rest.rpartition(":")
            jobs.setdefault(name, set()).add(right)
        else:
            others.append(pattern)
    calls = [f"api://{_regex(name)}{_letters(which)}" for name, which in actions.items()]
    return sorted([*calls, *_job_strings(jobs), *others])


def _job_strings(jobs: dict[str, set[str]]) -> list[str]:
    """core4 cannot let somebody run what they do not see."""
    strings = []
    for name, which in jobs.items():
        if which == {"run"}:
            strings.append(f"job:{name}:run")
        else:
            strings.append(f"job://{_regex(name)}/{'x' if 'run' in which else 'r'}")
    return strings


def _letters(actions: set[str]) -> str:
    return "" if "" in actions else "/" + "".join(letter for letter, action in ACTIONS.items() if action in actions)


def _regex(name: str) -> str:
    return f"{name[:-1]}.*" if name.endswith("*") else name


def translate(permission: str) -> tuple[str, ...]:
    """The patterns that grant what one string does. Raises BadRequest for what cannot be said exactly."""
    if permission == "cop":
        return EVERYTHING
    if (found := _API.fullmatch(permission)) and found["name"]:
        target = f"call:{NAMESPACE}/{_glob(found['name'])}"
        letters = sorted(set(found["letters"] or ""))
        patterns = tuple(f"{target}/{ACTIONS[letter]}" for letter in letters) or (target,)
    elif (found := _JOB.fullmatch(permission)) and found["name"]:
        rights = RIGHTS if found["right"] == "x" else ("read",)
        patterns = tuple(f"job:{_glob(found['name'])}:{right}" for right in rights)
    else:
        raise BadRequest(
            f"permission {permission[:40]!r}: expected cop, api://<name>[/crud] or job://<name>/r|x, "
            "with no more of a regular expression than one .* at the end of the name",
            rule="pattern",
        )
    return tuple(check(pattern) for pattern in patterns)


def _glob(name: str) -> str:
    """The name in our grammar: dots as they are, and a star for the `.*` at its end."""
    if name.endswith(".*"):
        return name[:-2].replace("\\", "") + "*"
    return name.replace("\\", "")
