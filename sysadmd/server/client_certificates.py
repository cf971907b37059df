"""TLS client certificates on the WebSocket listener: a registered key that logs in during the handshake.

The key in the certificate decides who it is, and `Keys` who that is now; the chain only decides whether TLS takes the
certificate at all. That division is forced on us. OpenSSL verifies what it is shown or fails the handshake, and Python
gives no way in between, so each registered certificate is a trust anchor of the live context; and an anchor can be
added to a context but not taken out, so a revoked certificate may still finish a handshake. It logs nobody in.

A client that shows a certificate which is no anchor is turned away by TLS. The original clients may have one, so
nobody is asked as long as there is nothing to recognise (`CERT_NONE`): no registered certificate and no `client_ca`.
The listener for HTTP never asks, because browsers would trouble their users with it.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

import structlog

from sysadmd.auth.authenticator import Authenticator
from sysadmd.auth.keys import Keys
from sysadmd.auth.scope import Scope
from sysadmd.config import Listen
from sysadmd.errors import RpcError, Unauthorized
from sysadmd.keys.certificate import public_key, validity
from sysadmd.keys.signing import fingerprint
from sysadmd.keys.tls import ask_clients
from sysadmd.listen.websocket import Connection
from sysadmd.rpc.session import Session

log = structlog.get_logger(__name__)


class ClientCertificates:
    """Asks for certificates where one can be known, and logs in those who show one."""

    def __init__(self, keys: Keys, authenticator: Authenticator, *, clock: Callable[[], float] = time.time) -> None:
        self._keys, self._authenticator, self._clock = keys, authenticator, clock

    def prepare(self, context: ssl.SSLContext, listen: Listen) -> None:
        """From the next handshake on, ask as the configuration and the keyring say. Raises StateError (`client_ca`)."""
        if listen.client_certificates == "off":
            ask_clients(context, (), None)
            return
        known = (key.certificate for key in self._keys.of() if key.certificate is not None)
        ask_clients(context, known, listen.client_ca)

    async def identify(self, session: Session, connection: Connection) -> None:
        """Log in who showed a certificate of a registered key; whoever did not stays a stranger, and may still."""
        tls = connection.transport.get_extra_info("ssl_object")
        shown = None if tls is None else tls.getpeercert(binary_form=True)
        if not shown:
            return
        try:
            key, (_, until) = fingerprint(public_key(shown)), validity(shown)
        except ValueError:
            return
        left = until - self._clock()  # a resumed TLS session is not verified again
        if self._keys.scope(key) is None or left <= 0:
            log.info("client certificate of no account", key=key, peer=session.peer.address)
            return

        account = self._keys.account(key)

        def voucher() -> Scope | None:
            return self._keys.scope(key) if self._keys.account(key) == account else None

        async def proof() -> Scope:
            scope = await self._keys.admit(key)
            if scope is None:
                raise Unauthorized
            return scope

        try:
            await self._authenticator.attempt(
                "certificate", account, session.peer, proof, session=session.id, counted=False
            )
        except RpcError:
            return
        scope = voucher()
        if scope is None:  # revoked while the log-in was written down
            return
        expires = session.engine.monotonic() + min(left, session.engine.limits.token_absolute)
        session.login(scope, None, expires, voucher, method="certificate")
