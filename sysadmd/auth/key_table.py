"""Registered public keys in the database: functions over a connection, for the server and for commands
on a stopped one.

A key belongs to one account, because the one who holds its private half logs in as that account without saying which.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, or_, select, update

from sysadmd.errors import Conflict, NotFound, TooManyRequests
from sysadmd.keys.signing import PublicKey
from sysadmd.store.tables import account, public_key


@dataclass(frozen=True, slots=True)
class Registered:
    """A key and whose it is. `registered_at` is Unix seconds; `certificate` is PEM."""

    fingerprint: str
    account: str
    pem: str
    checksum: str
    certificate: str | None
    nickname: str
    email: str
    registered_at: float

    @property
    def registered(self) -> str:
        """The key as the originals write it: base64 of its PEM text."""
        return base64.b64encode(self.pem.encode("ascii")).decode("ascii")


Keyring = Mapping[str, Registered]
"""Every registered key, by its fingerprint."""

_COLUMNS = [public_key.c[name] for name in Registered.__slots__]


def keyring(connection: Connection) -> Keyring:
    """Every key, in the order of their registration."""
    rows = connection.execute(select(*_COLUMNS).order_by(public_key.c.registered_at, public_key.c.fingerprint))
    return {row.fingerprint: Registered(**row._mapping) for row in rows}  # noqa: SLF001  # SQLAlchemy's public name


def register(
    connection: Connection, name: str, key: PublicKey, nickname: str, email: str, *, now: float, limit: int
) -> None:
    """Register a key for an account; one that it has already gets the new nickname, email and certificate.

    Raises NotFound (no such account), Conflict (the key is another account's) and TooManyRequests (`limit` keys).
    """
    if connection.scalar(select(account.c.name).where(account.c.name == name)) is None:
        raise NotFound(f"there is no account {name[:40]!r}")
    same = or_(public_key.c.fingerprint == key.fingerprint, public_key.c.checksum == key.checksum)
    known = connection.execute(select(public_key.c.fingerprint, public_key.c.account).where(same)).first()
    values: dict[str, Any] = {"nickname": nickname, "email": email}
    if known is not None:
        if tuple(known) != (key.fingerprint, name):
            raise Conflict("this key is registered already, for another account")
        if key.certificate is not None:
            values["certificate"] = key.certificate
        connection.execute(update(public_key).where(public_key.c.fingerprint == key.fingerprint).values(values))
        return
    held = connection.scalar(select(func.count()).select_from(public_key).where(public_key.c.account == name)) or 0
    if held >= limit:
        raise TooManyRequests(f"account {name!r} has {limit} keys already; revoke one first")
    names = {"fingerprint": key.fingerprint, "checksum": key.checksum, "account": name, "registered_at": now}
    connection.execute(insert(public_key).values(**names, pem=key.pem, certificate=key.certificate, **values))


def revoke(connection: Connection, name: str, fingerprint: str) -> None:
    """Revoke a key of an account, and with it the tokens that it opened. Raises NotFound."""
    mine = (public_key.c.account == name, public_key.c.fingerprint == fingerprint)
    if connection.execute(delete(public_key).where(*mine)).rowcount == 0:
        raise NotFound(f"account {name[:40]!r} has no such key")
