"""Tokens in the database: functions over a connection. Of a token itself only the SHA-256 is ever stored.

There are two kinds. A *log-in token* is what a log-in returns: it ends soon when it is not used, and with its log-out.
An *API token* is made on purpose, for a program: it has a name, may be confined to some permissions, and ends at its
own time or when it is revoked.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, exists, func, insert, literal, select, update

from sysadmd.auth.scope import Scope
from sysadmd.errors import NotFound, TooManyRequests
from sysadmd.store.tables import account as account_rows
from sysadmd.store.tables import public_key as key_rows
from sysadmd.store.tables import token as token_rows

ALPHABET = string.ascii_letters + string.digits
LENGTH = 32
LOGIN, API = "login", "api"
ID_LENGTH = 12
"""Hexadecimal digits of the digest by which people call a token: 48 bits tell some thousands apart and open nothing."""


@dataclass(slots=True)
class LiveToken:
    """One token that holds. Times are Unix seconds; `expires` is absolute, None: never."""

    account: str
    created: float
    used: float
    expires: float | None
    key: str | None = None
    """Fingerprint of the public key that proved the log-in; the token ends with it."""
    kind: str = LOGIN
    name: str | None = None
    scopes: tuple[str, ...] | None = None
    """Patterns that it is confined to; None: all that its account has."""
    confined: tuple[Scope, Scope] | None = None
    """The account's scope and what the patterns leave of it, so that the second is compiled once for each change."""


def new_token() -> str:
    """32 characters from the system's generator."""
    return "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))


def digest_of(token: object) -> bytes | None:
    """What a token is kept by; None for what cannot be one, which is not even hashed."""
    if not (isinstance(token, str) and len(token) == LENGTH and token.isascii() and token.isalnum()):
        return None
    return hashlib.sha256(token.encode("ascii")).digest()


def id_of(digest: bytes) -> str:
    """What people call a token."""
    return digest.hex()[:ID_LENGTH]


def live_tokens(connection: Connection) -> dict[bytes, LiveToken]:
    """Every token, by its digest."""
    return {
        bytes.fromhex(row.hash): LiveToken(
            row.account,
            row.created_at,
            row.used_at,
            row.expires_at,
            row.key,
            row.kind,
            row.name,
            None if row.scopes is None else tuple(row.scopes),
        )
        for row in connection.execute(select(token_rows))
    }


def insert_login(connection: Connection, digest: bytes, token: LiveToken) -> None:
    """Nothing when the account was removed meanwhile, or the key revoked: its tokens go with it."""
    values = (digest.hex(), id_of(digest), token.account, LOGIN, token.key, token.created, token.used, token.expires)
    columns = ["hash", "id", "account", "kind", "key", "created_at", "used_at", "expires_at"]
    row = select(*map(literal, values)).where(exists().where(account_rows.c.name == token.account))
    if token.key is not None:
        row = row.where(exists().where(key_rows.c.fingerprint == token.key))
    connection.execute(insert(token_rows).from_select(columns, row))


def insert_api(connection: Connection, digest: bytes, token: LiveToken, limit: int) -> None:
    """Raises NotFound (no such account) and TooManyRequests (it has `limit` API tokens that hold)."""
    if connection.scalar(select(account_rows.c.name).where(account_rows.c.name == token.account)) is None:
        raise NotFound(f"there is no account {token.account[:40]!r}")
    mine = (token_rows.c.account == token.account, token_rows.c.kind == API)
    connection.execute(delete(token_rows).where(*mine, token_rows.c.expires_at <= token.created))
    if (connection.scalar(select(func.count()).select_from(token_rows).where(*mine)) or 0) >= limit:
        raise TooManyRequests(f"account {token.account!r} has {limit} API tokens already; revoke one first")
    row = {"hash": digest.hex(), "id": id_of(digest), "account": token.account, "kind": API, "name": token.name}
    scopes = None if token.scopes is None else list(token.scopes)
    times = {"created_at": token.created, "used_at": token.used, "expires_at": token.expires}
    connection.execute(insert(token_rows).values(**row, scopes=scopes, **times))


def delete_tokens(connection: Connection, digests: Iterable[bytes]) -> None:
    """Those that there are."""
    for digest in digests:
        connection.execute(delete(token_rows).where(token_rows.c.hash == digest.hex()))


def set_used(connection: Connection, used: Mapping[bytes, float]) -> None:
    """The times of use, by digest."""
    if used:
        statement = update(token_rows).where(token_rows.c.hash == bindparam("digest")).values(used_at=bindparam("used"))
        connection.execute(statement, [{"digest": digest.hex(), "used": at} for digest, at in used.items()])
