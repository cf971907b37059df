"""One command, started: the clean new process an attempt begins as.

`subprocess.Popen` does it, for its vfork(2): CPython takes that path when there is neither a function to run in the
child nor an identity to change, and then a spawn costs the same however large the executor is. A user to run as takes
the slower fork inside the C code; resource limits and the lock on privileges take fork and a Python function in the
child, which is safe here because this process has one thread. Only the spawn is Popen's; waiting and signalling are
`attempts.Attempts`'.

Popen returns when exec(2) has happened or failed, so the session and the process group exist once there is a pid.
"""

from __future__ import annotations

import functools
import os
import pwd
import resource
import subprocess
from collections.abc import Callable, Mapping
from typing import Any

from sysadmd.executor.frames import Start
from sysadmd.executor.privileges import privilege_lock


class SpawnFailed(Exception):
    """The command did not start; the text is one line that says why."""


def spawn(start: Start, output: int, null: int) -> int:
    """Start the command with stdin from `null`, stdout and stderr to `output`; return its pid. Raises SpawnFailed."""
    if not start.argv or not start.argv[0]:
        raise SpawnFailed("cannot start a command without a name")
    limits = _limits(start.limits.rlimits, privileged=os.geteuid() == 0 and start.user is None)
    lock = _lock() if start.limits.no_new_privs else None
    try:
        process = subprocess.Popen(
            [argument.encode() for argument in start.argv],
            env={key.encode(): value.encode() for key, value in start.env.items()},
            cwd=start.cwd.encode(),
            stdin=null,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=functools.partial(_confine, limits, lock) if limits or lock else None,  # noqa: PLW1509 - unsafe beside threads, and there are none
            **_identity(start.user),
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise SpawnFailed(_explain(start, error)) from None
    process.returncode = 0  # Popen's own part ends here; without this its __del__ would wait for the child as well
    return process.pid


def _explain(start: Start, error: Exception) -> str:
    if isinstance(error, OSError):
        where = f" in {start.cwd!r}" if error.filename == start.cwd.encode() else ""
        return f"cannot start {start.argv[0]!r}{where}: {error.strerror or error}"
    if isinstance(error, subprocess.SubprocessError):
        return f"cannot start {start.argv[0]!r}: its resource limits, or the lock on its privileges, were refused"
    return f"cannot start {start.argv[0]!r}: {error}"


def _identity(user: str | None) -> dict[str, Any]:
    """Popen's arguments that make the child `user`; empty when it is the executor's own account."""
    if user is None:
        return {}
    try:
        entry = pwd.getpwnam(user)
    except (KeyError, ValueError):
        raise SpawnFailed(f"cannot run as {user!r}: no such user") from None
    if os.geteuid() == entry.pw_uid:
        return {}
    if os.geteuid() != 0:
        raise SpawnFailed(f"cannot run as {user!r}: the executor is not root")
    groups = os.getgrouplist(user, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}


def _limits(rlimits: Mapping[str, int], *, privileged: bool) -> list[tuple[int, int]]:
    """Numbers of resources and their values. Checked here, where a refusal can still be explained."""
    values: list[tuple[int, int]] = []
    for name, value in rlimits.items():
        number = getattr(resource, f"RLIMIT_{name.upper()}", None) if name.islower() else None
        if not isinstance(number, int):
            raise SpawnFailed(f"cannot limit {name!r}: this system has no such resource limit")
        hard = resource.getrlimit(number)[1]
        ceiling = None if privileged or hard == resource.RLIM_INFINITY else hard
        if value < 0 or (ceiling is not None and value > ceiling):
            raise SpawnFailed(f"cannot limit {name!r} to {value}: it must be from 0 to {ceiling or 'any number'}")
        values.append((number, value))
    return values


def _lock() -> Callable[[], None]:
    """What the child calls so that it gains no privileges; looked up before the fork."""
    try:
        return privilege_lock()
    except OSError as error:
        raise SpawnFailed(f"cannot run without new privileges: {error}") from None


def _confine(limits: list[tuple[int, int]], lock: Callable[[], None] | None) -> None:
    """What runs in the child, after it has become its user."""
    for number, value in limits:
        resource.setrlimit(number, (value, value))
    if lock is not None:
        lock()
