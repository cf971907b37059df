"""From a request to jobs: everything that can be refused is refused here, before anything is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from sysadmd.dispatcher.lanes import Lanes
from sysadmd.dispatcher.launcher import known_user
from sysadmd.errors import BadRequest, Conflict, TooManyRequests
from sysadmd.jobs.command import Command, ProcessSpec, parse_commands, process_spec
from sysadmd.jobs.ids import JobIds
from sysadmd.jobs.model import Job
from sysadmd.jobs.transitions import new_job

ID_MAX = 256
"""Characters of a process_id."""
LIVE_MAX = 10_000
"""Processes that wait or run: about a minute of work for a machine that does nothing else."""

Process: TypeAlias = ProcessSpec | str | Sequence[Command] | Mapping[str, Any]
"""A process as a request may write it (jobs.command.process_spec)."""


class Intake:
    """Makes jobs. `names` are the process ids in use."""

    def __init__(self, lanes: Lanes, names: Mapping[str, str], ids: JobIds, clock: Callable[[], float]) -> None:
        self._lanes, self._names, self._ids, self._clock = lanes, names, ids, clock

    def jobs(
        self,
        processes: Mapping[str, Process],
        owner: str,
        *,
        event_system: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> list[Job]:
        """The checked jobs of a request. Raises BadRequest, Conflict, TooManyRequests."""
        if not processes:
            raise BadRequest("args: at least one process is needed", path="args", rule="at least one process")
        if len(self._names) + len(processes) > LIVE_MAX:
            raise TooManyRequests(f"{len(self._names)} processes wait or run; at most {LIVE_MAX} may")
        busy = sorted(process_id for process_id in processes if process_id in self._names)
        if busy:
            raise Conflict(f"in use by a process that waits or runs: {', '.join(map(repr, busy))}")
        return [
            self._job(process_id, process, owner, event_system=event_system, extra=extra)
            for process_id, process in processes.items()
        ]

    def _job(self, process_id: str, process: Process, owner: str, **tags: Any) -> Job:
        path = f"args.{process_id}"
        if not 0 < len(process_id) <= ID_MAX or "\0" in process_id:
            rule = f"1 to {ID_MAX} characters without NUL"
            raise BadRequest(f"args: a process id has {rule}, not {process_id!r:.80}", path="args", rule=rule)
        spec = process_spec(process, path)
        commands = parse_commands(spec, path)
        if not self._lanes.knows(spec.lane):
            rule = f"one of {', '.join(self._lanes.names())}"
            raise BadRequest(f"{path}.lane: {spec.lane!r} is not {rule}", path=f"{path}.lane", rule=rule)
        if spec.user is not None and not known_user(spec.user):
            raise BadRequest(f"{path}.user: there is no account {spec.user!r}", path=f"{path}.user", rule="an account")
        now = self._clock()
        return new_job(
            id=self._ids(now),
            ext_id=process_id,
            lane=spec.lane,
            owner=owner,
            commands=commands,
            now=now,
            cwd=spec.cwd,
            user=spec.user,
            timeout=spec.timeout,
            no_new_privs=spec.no_new_privs,
            **tags,
        )
