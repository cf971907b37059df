"""Registered keys of a running server: who has which, and logging in by one.

Memory answers: the keyring is small, and the copy here is replaced after each commit that changes it. A key that is
revoked is gone from it before its revocation is answered, and `on_change` tells those who end what it opened.

A classic proof does not say whose it is: every RSA key of the signature's size has to be tried. That is done off the
event loop and by one thread at a time, so that strangers who send signatures cost one core, at most. A stranger learns
nothing about which keys there are: an unknown key, a wrong signature and no signature at all are answered alike, and
for an unknown fingerprint a key of nobody is tried, which takes as long.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

import anyio.to_thread
from sqlalchemy import Connection

from sysadmd.auth import account_table, key_table
from sysadmd.auth.accounts import REFUSED
from sysadmd.auth.authenticator import Authenticator
from sysadmd.auth.challenge import Challenge
from sysadmd.auth.granting import Grantor
from sysadmd.auth.identity import Peer
from sysadmd.auth.key_table import Keyring, Registered
from sysadmd.auth.lane import Lane
from sysadmd.auth.policy import Policy, PolicyChange
from sysadmd.auth.scope import Scope
from sysadmd.auth.writing import Writer
from sysadmd.errors import Forbidden, Unauthorized
from sysadmd.keys import signing
from sysadmd.limits import Limits
from sysadmd.store import Store

Listener = Callable[[tuple[Registered, ...]], None]
Renewal = Callable[[str], Awaitable[Scope | None]]
"""The scope that an account has from now on (SystemAccounts.renewed)."""


class Keys:
    """The registered keys of every account. Used on the event loop only."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        policy: Policy,
        *,
        limits: Limits | None = None,
        renew: Renewal | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.limits = limits or Limits()
        self._store, self._writer, self._policy, self._clock = store, writer, policy, clock
        self._renew = renew
        self._ring: Keyring = store.read_now(key_table.keyring)
        self._listeners: list[Listener] = []
        self._lane = Lane(self.limits.password_checks_queued, "log-ins by key")
        self._decoys: dict[str, signing.PublicKey] = {}
        policy.on_change(self._policy_changed)

    # Who has which

    def on_change(self, listener: Listener) -> None:
        """Call `listener` on the event loop after each change of the keyring, with the keys that were revoked."""
        self._listeners.append(listener)

    def of(self, account: str | None = None) -> list[Registered]:
        """The keys of an account; None: of all."""
        return [key for key in self._ring.values() if account in (None, key.account)]

    def reconfigure(self, limits: Limits) -> None:
        """Take changed limits; keys that are registered stay."""
        self.limits, self._lane.queued = limits, limits.password_checks_queued

    def scope(self, fingerprint: str) -> Scope | None:
        """What the holder of this key may do; None when it is not registered, or its account may not log in."""
        key = self._ring.get(fingerprint)
        return None if key is None else self._policy.scope(key.account)

    async def admit(self, fingerprint: str) -> Scope | None:
        """The same for who has just proven it: an account of the machine has the groups of today."""
        key = self._ring.get(fingerprint)
        if key is None or self._renew is None:
            return self.scope(fingerprint)
        return await self._renew(key.account)

    def account(self, fingerprint: str) -> str | None:
        """Whose key this is."""
        key = self._ring.get(fingerprint)
        return None if key is None else key.account

    async def register(
        self,
        by: Grantor,
        account: str,
        text: str,
        *,
        nickname: str = "",
        email: str = "",
        certificate: str | None = None,
    ) -> None:
        """Register a key, and the certificate that goes with it, for an account.

        Whoever has the key has all that the account has, or will have once it is no longer disabled, so the caller must
        have that already. A certificate makes the listener ask every client for one, which is not for everybody to
        decide. Raises BadRequest (no usable key), Forbidden, and NotFound, Conflict and TooManyRequests as
        `key_table.register`.
        """
        if account != by.scope.account and not by.scope.administers:
            raise Forbidden("only an administrator may register a key for another account")
        if certificate is not None and not by.scope.administers:
            raise Forbidden("only an administrator may register a certificate")
        key = await anyio.to_thread.run_sync(_parsed, text, certificate)
        now, limit = self._clock(), self.limits.keys_per_account

        def write(connection: Connection) -> None:
            account_table.check_held(connection, account, by)
            key_table.register(connection, account, key, nickname, email, now=now, limit=limit)

        await self._change(write)

    async def revoke(self, account: str, text: str, *, by: Grantor | None = None) -> None:
        """Revoke a key of an account; sessions and tokens that it opened end. Raises BadRequest, NotFound, and
        Forbidden when the account is another one's that may do more than `by`.
        """
        key = await anyio.to_thread.run_sync(signing.parse, text)

        def write(connection: Connection) -> None:
            if by is not None and account != by.scope.account:
                account_table.check_held(connection, account, by)
            key_table.revoke(connection, account, key.fingerprint)

        await self._change(write)

    # Logging in

    async def log_in(
        self,
        authenticator: Authenticator,
        challenge: Challenge | None,
        answer: Mapping[str, Any],
        peer: Peer,
        session: str,
        *,
        binding: str = "",
    ) -> tuple[Scope, str]:
        """The scope and the fingerprint of the key that answers the challenge. Raises Unauthorized and
        TooManyRequests.

        `answer` is what `rpc/auth_ssl` takes; `challenge` is None when there was none, or it is over. In a session with
        a `binding` the answer has to be signed over that too, which a classic one cannot be.
        """
        proven: list[str] = []

        async def proof() -> Scope:
            fingerprint = None if challenge is None else await self._prove(challenge.text, answer, binding)
            scope = None if fingerprint is None else await self.admit(fingerprint)
            if fingerprint is None or scope is None:
                raise Unauthorized
            proven.append(fingerprint)
            return scope

        scope = await authenticator.attempt("key", None, peer, proof, session=session)
        if self.account(proven[0]) != scope.account or self._policy.scope(scope.account) is None:
            raise Unauthorized(REFUSED)  # revoked while the log-in was written down
        return scope, proven[0]

    async def decoy(self, kind: Literal["rsa", "ed25519"]) -> signing.PublicKey:
        """The public half of a key whose private one nobody has, made when it is first needed."""
        if kind not in self._decoys:
            self._decoys[kind] = await self._lane.run(lambda: signing.PrivateKey.generate(kind).public)
        return self._decoys[kind]

    async def _prove(self, challenge: str, answer: Mapping[str, Any], binding: str) -> str | None:
        signature = signing.signature_in(answer.get("signature" if "signature" in answer else "encrypted_string"))
        if "signature" not in answer:
            if binding:
                return None
            pems = {key.fingerprint: key.pem for key in self._ring.values()}
            return await self._lane.run(lambda: _signer(pems, challenge, signature))
        claimed, algorithm = str(answer.get("key")).lower(), str(answer.get("algorithm"))
        key = self._ring.get(claimed)
        decoy = await self.decoy("ed25519" if algorithm == "ed25519" else "rsa")
        pem = decoy.pem if key is None else key.pem
        good = await self._lane.run(lambda: signing.verify(pem, algorithm, challenge, signature, binding))
        return claimed if good and key is not None else None

    # Changes

    async def _change(self, write: Callable[[Connection], None]) -> None:
        """Commit a change and take the keyring that it leaves, even if whoever asked for it is gone by then."""

        def commit(connection: Connection) -> tuple[Keyring, tuple[()]]:
            write(connection)
            return key_table.keyring(connection), ()

        def committed(future: asyncio.Future[Keyring]) -> None:
            if not future.cancelled() and future.exception() is None:
                self._replace(future.result())

        future = self._writer.submit(commit)
        future.add_done_callback(committed)
        await asyncio.shield(future)

    def _replace(self, ring: Keyring) -> None:
        # What an account had and another one has now was revoked too: two commits may be read as one.
        revoked = tuple(
            key for name, key in self._ring.items() if name not in ring or ring[name].account != key.account
        )
        self._ring = ring
        for listener in self._listeners:
            listener(revoked)

    def _policy_changed(self, change: PolicyChange) -> None:
        """An account that was removed took its keys along; one that comes later with its name must not have them."""
        if change.scope is None:
            self._replace(self._store.read_now(key_table.keyring))


def described(key: Registered) -> str:
    """What the originals say about a key (spec sysadm §3.9)."""
    date = datetime.fromtimestamp(key.registered_at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"Nickname: {key.nickname}\nEmail: {key.email}\nDate Registered: {date}"


def _parsed(text: str, certificate: str | None) -> signing.PublicKey:
    """The key, with the certificate that goes with it."""
    key = signing.parse(text)
    return replace(key, certificate=None) if certificate is None else signing.certified(key, certificate)


def _signer(pems: Mapping[str, str], challenge: str, signature: bytes) -> str | None:
    """The fingerprint of the key under whose signature the challenge is."""
    wanted = challenge.encode("ascii")
    for fingerprint, pem in pems.items():
        found = signing.recover(pem, signature)
        if found is not None and hmac.compare_digest(found, wanted):
            return fingerprint
    return None
