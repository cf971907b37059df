"""Starting a child process of a pool: which account, which environment, which descriptors."""

from __future__ import annotations

import os
import pwd
import socket
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import structlog

from sysadmd.executor import process

log = structlog.get_logger(__name__)

MODULE = "sysadmd.jobs.tasks.child"
INTERPRETER = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
"""What the interpreter of the children needs of the server's own environment, beside what commands get."""
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
LEAST = "nobody"
"""Whom the tasks of root's server run as when no account is named."""
NEEDED = (sys.executable, os.__file__, __file__)
"""What a child has to read: the interpreter, its library, and us."""


class CannotSpawn(Exception):
    """A child process cannot be started; the text is one line that says why."""


def account_for(named: str | None) -> str | None:
    """The account that tasks run as: None for the process's own.

    A task is code of whoever wrote its package, called with arguments of whoever may start it. So what is root runs
    none as root, unless it was told to, or nobody but root can read the interpreter and our own code: then there is no
    other way, and the log says so.
    """
    if named is not None or os.geteuid() != 0:
        return named
    hidden = next((path for path in NEEDED if not _open_to_all(Path(path))), None)
    if hidden is None:
        return LEAST
    log.warning("tasks run as root", reason=f"{hidden} is closed to {LEAST}; jobs.user names another account")
    return None


def _open_to_all(path: Path) -> bool:
    """Whether any account can read a file, by its mode and those of every directory on the way, links followed."""
    try:
        steps = {*path.absolute().parents, *path.resolve(strict=True).parents}
        return all(one.stat().st_mode & stat.S_IXOTH for one in steps) and bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def environment_of(
    account: str | None, allowed: tuple[str, ...], variables: Mapping[str, str], environ: Mapping[str, str] = os.environ
) -> dict[str, str]:
    """What children get: what commands of the dispatcher get, with the account's own names, and the interpreter's."""
    passed = {name: environ[name] for name in (*allowed, *INTERPRETER) if name in environ}
    return {"PATH": DEFAULT_PATH, **passed, **_names(account), **variables}


def spawn_child(
    account: str | None, environment: Mapping[str, str], output: int | None
) -> tuple[socket.socket, int, int]:
    """Start a child and return our end of its socket, its pid and its start (executor/process.py).

    What it says before its first attempt, such as why it cannot start, goes to `output`. Raises CannotSpawn. Blocks for
    some milliseconds.
    """
    ours, theirs = socket.socketpair()
    tick = process.ticks()
    try:
        child = subprocess.Popen(
            [sys.executable, "-P", "-X", "utf8", "-m", MODULE, str(theirs.fileno())],
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if output is None else output,
            stderr=subprocess.DEVNULL if output is None else output,
            pass_fds=(theirs.fileno(),),
            start_new_session=True,
            **_identity(account),
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        ours.close()
        raise CannotSpawn(f"cannot start a process for tasks: {error}") from None
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    child.returncode = 0  # waiting for it is `end_group`'s; without this its __del__ would wait as well
    ours.setblocking(False)
    return ours, child.pid, process.start_of_child(child.pid, tick)


def _identity(account: str | None) -> dict[str, Any]:
    """Popen's arguments that make the child `account`."""
    if account is None:
        return {}
    try:
        entry = pwd.getpwnam(account)
    except (KeyError, ValueError):
        raise CannotSpawn(f"cannot run tasks as {account!r} (jobs.user): no such account") from None
    if entry.pw_uid == os.geteuid():
        return {}
    if os.geteuid() != 0:
        raise CannotSpawn(f"cannot run tasks as {account!r} (jobs.user): only root's server can")
    groups = os.getgrouplist(account, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}


def _names(account: str | None) -> Mapping[str, str]:
    """What login(1) sets of the account."""
    if account is None:
        return {}
    try:
        entry = pwd.getpwnam(account)
    except (KeyError, ValueError):
        return {}
    return {"HOME": entry.pw_dir, "USER": account, "LOGNAME": account}
