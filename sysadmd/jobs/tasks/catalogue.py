"""The tasks of a server: which there are, what they take, and the job that a call of one becomes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from sysadmd.errors import BadRequest
from sysadmd.jobs.spec import JobSpec
from sysadmd.jobs.tasks.frames import TaskInfo
from sysadmd.jobs.tasks.pool import Pool
from sysadmd.jobs.tasks.registry import Registry, check_args

SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "attempts": "tries",
        "error_time": "retry_delay",
        "defer_time": "defer_delay",
        "defer_max": "defer_max",
        "wall_time": "wall_time",
        "zombie_time": "zombie_time",
        "timeout": "timeout",
        "priority": "priority",
        "max_parallel": "max_parallel",
        "force": "force",
        "worker": "worker",
    }
)
"""A setting of a task -> the field of its jobs."""


class Catalogue:
    """The registered tasks, and a child process that is asked about them: the server imports none of them."""

    def __init__(self, registry: Registry, pool: Pool) -> None:
        self._registry, self._pool = registry, pool

    def names(self) -> list[str]:
        """Every registered name, sorted."""
        return self._registry.names()

    async def info(self, name: str) -> TaskInfo:
        """What a task takes, and its settings. Raises NotFound, BadRequest when it cannot be loaded, Unavailable."""
        return await self._pool.describe(name, self._registry.target(name))

    async def job(self, name: str, args: Mapping[str, Any] | None = None, **given: Any) -> JobSpec:
        """The job that runs a task with `args`: what is `given` (fields of JobSpec), else what the task's settings say,
        else the default of all jobs. Raises as `info` does, and BadRequest for arguments that the task does not take.
        """
        unknown = sorted(set(given) - set(JobSpec.__struct_fields__))
        if unknown:
            raise BadRequest(
                f"args.{unknown[0]}: a job has no such setting", path=f"args.{unknown[0]}", rule="a setting"
            )
        info = await self.info(name)
        check_args(info, args or {})
        settings = {
            field: value
            for setting, field in SETTINGS.items()
            if (value := getattr(info.settings, setting)) is not None
        }
        return JobSpec(**{**settings, **given, "kind": "task", "name": name, "args": dict(args or {})})
