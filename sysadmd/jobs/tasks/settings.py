"""The settings of a task: attributes of its class or function, which are the defaults of its jobs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

F = TypeVar("F", bound=Callable[..., Any])


class TaskSettings(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """What a task says of its jobs; None: the default of all jobs. Whoever enqueues a job may say otherwise.

    `attempts`: executions in all. Seconds: `error_time` from a failure to the next attempt, `defer_time` from a defer
    to the next, `defer_max` for all deferring, `wall_time` of running until a flag, `zombie_time` of silence until a
    flag, `timeout` of one attempt until it is killed. `max_parallel`: jobs of this name that run at once. `worker`:
    the only one that may run it, as name@host. `schedule`: a crontab line; a subclass does not inherit it.
    """

    attempts: int | None = None
    error_time: float | None = None
    defer_time: float | None = None
    defer_max: float | None = None
    wall_time: float | None = None
    zombie_time: float | None = None
    timeout: float | None = None
    priority: int | None = None
    max_parallel: int | None = None
    force: bool | None = None
    worker: str | None = None
    schedule: str | None = None


NAMES: Final = TaskSettings.__struct_fields__
POSITIVE: Final = frozenset({"attempts", "max_parallel", "timeout"})
ANY_SIGN: Final = frozenset({"priority"})


def task(**settings: Any) -> Callable[[F], F]:
    """A decorator that gives a function or a class the settings of a `TaskSettings`. Raises TypeError, ValueError."""
    checked(settings)

    def marked(target: F) -> F:
        for name, value in settings.items():
            setattr(target, name, value)
        return target

    return marked


def settings_of(target: Any) -> TaskSettings:
    """The settings among the attributes of a task. Raises TypeError or ValueError, naming the one that is none."""
    found = {name: value for name in NAMES if (value := getattr(target, name, None)) is not None}
    if isinstance(target, type) and "schedule" not in vars(target):
        found.pop("schedule", None)
    return checked(found)


def checked(settings: Mapping[str, Any]) -> TaskSettings:
    """`settings` as an object. Raises TypeError or ValueError, naming the one that is wrong."""
    unknown = sorted(set(settings) - set(NAMES))
    if unknown:
        raise TypeError(f"{', '.join(unknown)}: no such setting of a task; there are {', '.join(NAMES)}")
    try:
        found = msgspec.convert(dict(settings), TaskSettings, strict=True)
    except msgspec.ValidationError as error:
        raise TypeError(f"a setting of the task has the wrong type: {error}") from None
    for name in NAMES:
        value = getattr(found, name)
        if isinstance(value, bool | str | None) or name in ANY_SIGN:
            continue
        if not math.isfinite(value) or value < 0 or (name in POSITIVE and not value):
            least = "above 0" if name in POSITIVE else "from 0 on"
            raise ValueError(f"the task's {name} is {value}; expected a number {least}")
    return found
