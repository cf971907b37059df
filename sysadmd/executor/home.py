"""The directory of an executor, and who may order it about.

Two arrangements, one layout: `executor.sock`, and beneath `executor/` the lock and the journal.

- The server's own: the state directory. Server and executor are one user, and nobody else may enter.
- A server of its own user: a directory of root's, which that user may pass through and not write in. The executor
  is root then, and root must follow no path that a lesser user could bend; so every directory on the way is root's, no
  part of the path is a link, and the state directory of the server, which is that user's, is not looked at at all. The
  socket is given to the server's uid with mode 0600. What the mode lets through is asked for its credentials as well: a
  mode can be changed by mistake, and a connection shows nothing but a number of the kernel's.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from sysadmd.errors import ExecutorError, StateError
from sysadmd.executor.protocol import socket_path

PASS_THROUGH = 0o711
"""Of a directory of root's: the server's user finds the socket by its name, and can neither list nor write."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where an executor is. `peers`: the uids whose connections it takes. `owner`: the uid that gets the socket."""

    directory: Path
    owner: int
    peers: frozenset[int]

    @property
    def socket(self) -> Path:
        """Where it listens."""
        return socket_path(self.directory)

    @property
    def lock(self) -> Path:
        """The file whose lock says that it runs."""
        return self.directory / "executor" / "lock"

    @property
    def journal(self) -> Path:
        """What it must remember."""
        return self.directory / "executor" / "journal"


def prepare_home(directory: Path, server_user: str | None = None) -> Home:
    """Make the directory where it is missing, and check that others cannot write in it. `server_user`: the account of
    the server, where it is another one. Raises StateError, ExecutorError, OSError.
    """
    directory = directory.absolute()
    own = os.geteuid()
    if server_user is None:
        _make(directory, 0o700, parents=True)
        _make(directory / "executor", 0o700)
        # Root connects to whatever it wants to; refusing it would protect nothing.
        return Home(directory, own, frozenset({0, own}))
    uid = _server_uid(server_user)
    _check_path(directory.parent)
    _make(directory, PASS_THROUGH)
    _make(directory / "executor", 0o700)
    os.chmod(directory, PASS_THROUGH)
    return Home(directory, uid, frozenset({0, uid}))


def _server_uid(name: str) -> int:
    if os.geteuid() != 0:
        raise ExecutorError("--server-user needs root: only root starts commands for a server of another user")
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        raise ExecutorError(f"there is no account {name!r} for the server to run as") from None


def _make(directory: Path, mode: int, *, parents: bool = False) -> None:
    """A directory of our own where nobody else may write: what is root's would follow their links."""
    directory.mkdir(mode=mode, parents=parents, exist_ok=True)
    found = directory.stat() if parents else directory.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise StateError(f"{directory} is a link; it must be a directory")
    if found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise StateError(
            f"{directory} belongs to uid {found.st_uid} and has mode {stat.S_IMODE(found.st_mode):04o}; it must belong"
            f" to uid {os.geteuid()}, and others must not write there"
        )


def _check_path(directory: Path) -> None:
    """Every directory from the root on is root's and no link; others may write only where they cannot rename what is
    root's (the sticky bit of /tmp)."""
    for part in (*reversed(directory.parents), directory):
        found = part.lstat()
        safe = not found.st_mode & 0o022 or found.st_mode & stat.S_ISVTX
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or not safe:
            raise StateError(
                f"{part}, above the executor's directory, must be a directory of root's where nobody else may write"
                f" (uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o})"
            )
