"""Which tasks there are: the entry points of the group `sysadmd.tasks` of every installed package.

Only what a package registers can be run; no name of a module or a function that somebody sends is ever imported. Names
are listed from the packages' metadata, so that a package which is slow, broken or hostile costs nothing until one of
its tasks is asked for; then a child process imports it, never the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from sysadmd.errors import BadRequest, NotFound
from sysadmd.jobs.tasks.frames import TaskInfo

GROUP = "sysadmd.tasks"
FRESH = 10.0
"""Seconds for which the list of entry points is believed: reading it takes a look at every installed package."""


def installed() -> Mapping[str, str]:
    """Name of each task -> `module:attribute`. The first package on the path wins, as with modules."""
    found: dict[str, str] = {}
    points: tuple[EntryPoint, ...] = tuple(entry_points(group=GROUP))
    for point in points:
        found.setdefault(point.name, point.value)
    return found


class Registry:
    """The tasks of this machine."""

    def __init__(
        self, source: Callable[[], Mapping[str, str]] = installed, monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._source, self._monotonic = source, monotonic
        self._targets: Mapping[str, str] = {}
        self._read_at: float | None = None

    def names(self) -> list[str]:
        """Every registered name, sorted. None of the tasks is imported."""
        return sorted(self._known())

    def target(self, name: str) -> str:
        """Where the task is, as `module:attribute`. Raises NotFound."""
        try:
            return self._known()[name]
        except KeyError:
            raise NotFound(f"there is no task {name!r}; no installed package registers it") from None

    def _known(self) -> Mapping[str, str]:
        now = self._monotonic()
        if self._read_at is None or now - self._read_at > FRESH:
            self._targets, self._read_at = self._source(), now
        return self._targets


def check_args(info: TaskInfo, args: Mapping[str, Any], path: str = "args") -> None:
    """Raise BadRequest, naming the argument, unless the task can be called with `args`."""
    names = [one.name for one in info.parameters]
    takes = ", ".join(names) if names else "none"
    if not info.open_ended:
        for name in args:
            if name not in names:
                rule = f"arguments of {info.name}: {takes}"
                raise BadRequest(f"{path}.{name}: no argument of {info.name}; it takes {takes}", path=path, rule=rule)
    for one in info.parameters:
        if one.required and one.name not in args:
            where = f"{path}.{one.name}"
            raise BadRequest(f"{where}: {info.name} needs this argument", path=where, rule="required")
