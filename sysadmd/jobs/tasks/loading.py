"""Loading a task and looking at it. Runs in a child process only: importing a task is running its package's code."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Any

from sysadmd.jobs.tasks.frames import Parameter, TaskInfo
from sysadmd.jobs.tasks.settings import settings_of

TEXT_LIMIT = 200
"""Characters of a default or an annotation that is shown."""
DOC_LIMIT = 4000


class NotATask(Exception):
    """The entry point leads to something that cannot be run as a task."""


def load(target: str) -> Any:
    """What `module:attribute` names. Raises NotATask, and whatever the module raises."""
    module, _, path = target.partition(":")
    found: Any = importlib.import_module(module)
    for name in path.split(".") if path else ():
        try:
            found = getattr(found, name)
        except AttributeError:
            raise NotATask(f"{target}: there is no {name!r} in it") from None
    return found


def callable_of(target: Any) -> Callable[..., Any]:
    """What to call with the job's arguments: the function, or `execute` of a new instance. Raises NotATask."""
    if isinstance(target, type):
        execute = getattr(target(), "execute", None)
        if not callable(execute):
            raise NotATask(f"the class {target.__qualname__} has no method execute")
        return execute  # type: ignore[no-any-return]
    if not callable(target):
        raise NotATask(f"{target!r} is neither a function nor a class")
    return target  # type: ignore[no-any-return]


def describe(name: str, target: Any) -> TaskInfo:
    """What the task `name` is. Raises NotATask, TypeError, ValueError."""
    signed = target
    if isinstance(target, type):
        # Not through an instance: making one may do work.
        signed = getattr(target, "execute", None)
        if not callable(signed):
            raise NotATask(f"the class {target.__qualname__} has no method execute")
    elif not callable(target):
        raise NotATask(f"{target!r} is neither a function nor a class")
    parameters = list(inspect.signature(signed).parameters.values())
    if isinstance(target, type) and inspect.isfunction(inspect.getattr_static(target, "execute")):
        parameters = parameters[1:]  # the instance
    if any(one.kind is one.POSITIONAL_ONLY for one in parameters):
        raise NotATask("arguments of a job are given by name, and one of the task's is positional only")
    named = [one for one in parameters if one.kind in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}]
    return TaskInfo(
        name=name,
        doc=(inspect.getdoc(target) or "")[:DOC_LIMIT],
        parameters=tuple(_parameter(one) for one in named),
        open_ended=any(one.kind is one.VAR_KEYWORD for one in parameters),
        settings=settings_of(target),
    )


def _parameter(one: inspect.Parameter) -> Parameter:
    annotation = None
    if one.annotation is not one.empty:
        annotation = one.annotation if isinstance(one.annotation, str) else inspect.formatannotation(one.annotation)
    default = None if one.default is one.empty else repr(one.default)
    return Parameter(
        name=one.name,
        required=one.default is one.empty,
        annotation=annotation and annotation[:TEXT_LIMIT],
        default=default and default[:TEXT_LIMIT],
    )
