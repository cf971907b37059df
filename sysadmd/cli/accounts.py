"""Where `sysadmd user` finds the accounts: in the running server, or in the database of a stopped one.

The server has its accounts in memory and must learn of every change, so it is asked first, through its Unix socket.
Where nobody answers, the state directory is locked, so that no server starts meanwhile, and its database is changed
in place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote

from sysadmd.errors import StateError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from sysadmd.client import Client
    from sysadmd.store import Store

T = TypeVar("T")

LOCK_WAIT = 10.0
"""Seconds to wait for another command on the same state directory, or for a server that is just starting or stopping.
"""


class Accounts(Protocol):
    """What `sysadmd user` does with accounts."""

    def rows(self) -> list[dict[str, Any]]:
        """Every account: `name` and `roles`."""
        ...

    def add(self, name: str, password: str, roles: Sequence[str]) -> None:
        """Add an account."""
        ...

    def remove(self, name: str) -> None:
        """Remove an account."""
        ...

    def passwd(self, name: str, password: str) -> None:
        """Set a password."""
        ...


class ServerAccounts:
    """The accounts of a running server."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def rows(self) -> list[dict[str, Any]]:
        """`rpc/accounts/list`."""
        rows: list[dict[str, Any]] = self._client.call("rpc/accounts/list")["accounts"]
        return rows

    def add(self, name: str, password: str, roles: Sequence[str]) -> None:
        """`rpc/accounts/add`."""
        self._client.call("rpc/accounts/add", {"name": name, "password": password, "roles": list(roles)})

    def remove(self, name: str) -> None:
        """`rpc/accounts/remove`."""
        self._client.call("rpc/accounts/remove", {"name": name})

    def passwd(self, name: str, password: str) -> None:
        """`rpc/accounts/passwd`."""
        self._client.call("rpc/accounts/passwd", {"name": name, "password": password})


class StoredAccounts:
    """The accounts in the database of a locked state directory."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def rows(self) -> list[dict[str, Any]]:
        """Read them."""
        from sysadmd.auth.account_table import list_accounts

        return self._store.read_now(list_accounts)

    def add(self, name: str, password: str, roles: Sequence[str]) -> None:
        """Insert one."""
        from sysadmd.auth.account_table import add_account
        from sysadmd.auth.password import Passwords, check_name

        check_name(name)
        hashed = Passwords().hash(password)
        self._write(lambda connection: add_account(connection, name, hashed, roles, time.time()))

    def remove(self, name: str) -> None:
        """Delete one."""
        from sysadmd.auth.account_table import remove_account

        self._write(lambda connection: remove_account(connection, name))

    def passwd(self, name: str, password: str) -> None:
        """Update one."""
        from sysadmd.auth.account_table import set_password
        from sysadmd.auth.password import Passwords

        hashed = Passwords().hash(password)
        self._write(lambda connection: set_password(connection, name, hashed, time.time()))

    def _write(self, change: Callable[[Connection], T]) -> T:
        return self._store.write_now(change)


@contextmanager
def open_accounts(state_dir: Path) -> Iterator[Accounts]:
    """The accounts of a state directory, by the server where one answers, else by its database."""
    client = _running_server(state_dir)
    if client is not None:
        try:
            yield ServerAccounts(client)
        finally:
            client.close()
        return
    from sysadmd.store import DATABASE_FILE, Store
    from sysadmd.store.lock import StateLock

    lock = StateLock(state_dir)
    try:
        lock.acquire(wait=LOCK_WAIT)
    except StateError as error:
        raise StateError(f"{error}, and no server answers at {_socket(state_dir)}") from error
    try:
        store = Store.open(state_dir / DATABASE_FILE)
        try:
            yield StoredAccounts(store)
        finally:
            store.close()
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
