"""Where commands find the accounts, roles, tokens and keys of a state directory.

The server has them in memory and must learn of every change, so it is asked first, through its Unix socket. Where
nobody answers, the state directory is locked, so that no server starts meanwhile, and the same methods run here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from sysadmd.errors import StateError

if TYPE_CHECKING:
    from sysadmd.client import Client

LOCK_WAIT = 10.0
"""Seconds to wait for another command on the same state directory, or for a server that is just starting or stopping.
"""


class Directory(Protocol):
    """The server of a state directory, running or not."""

    def call(self, method: str, args: dict[str, Any] | None = None) -> Any:
        """The result of a method. Raises SysadmdError."""
        ...


@contextmanager
def open_directory(state_dir: Path | None) -> Iterator[Directory]:
    """The server of this state directory (None: the default one). Raises StateError when somebody else has it."""
    from sysadmd.config import default_state_dir

    directory = (state_dir or default_state_dir()).absolute()
    client = _running_server(directory)
    if client is not None:
        try:
            yield client
        finally:
            client.close()
        return
    from sysadmd.cli.owner import become_owner
    from sysadmd.server.offline import Offline
    from sysadmd.store.lock import StateLock

    become_owner(directory)
    lock = StateLock(directory)
    try:
        lock.acquire(wait=LOCK_WAIT)
    except StateError as error:
        raise StateError(f"{error}, and no server answers at {_socket(directory)}") from error
    try:
        yield Offline(directory)
    finally:
        lock.release()


def _socket(state_dir: Path) -> Path:
    from sysadmd.config import runtime_socket

    return runtime_socket(state_dir)


def _running_server(state_dir: Path) -> Client | None:
    socket = _socket(state_dir)
    if not socket.exists():
        return None
    from sysadmd.client import Client, ConnectFailed

    client = Client(f"unix://{quote(str(socket))}")
    try:
        client.open()
    except ConnectFailed:
        return None
    return client
