"""Logging in by the certificate of a handshake: what counts, and when it stops to."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sysadmd.auth.authenticator import Authenticator
from sysadmd.auth.granting import Grantor
from sysadmd.auth.keys import Keys
from sysadmd.auth.scope import Scope
from sysadmd.auth.trail import NoTrail
from sysadmd.config import load
from sysadmd.errors import StateError
from sysadmd.keys.certificate import validity
from sysadmd.limits import Limits
from sysadmd.rpc.session import Session
from sysadmd.server.client_certificates import ClientCertificates
from tests.unit.auth.doubles import Auth
from tests.unit.keys.openssl import make_certificate, make_key, public_key
from tests.unit.rpc.rig import rig

ADMIN = Scope("root", (), ("call:*", "event:*", "job:*:*"))


class Bench:
    """Accounts ann and bob, a private key of ann's with its certificate, and sessions that show something."""

    def __init__(self, directory: Path, trail: Any = None) -> None:
        self.auth = Auth(directory)
        self.keys = Keys(self.auth.store, self.auth.log, self.auth.policy, clock=self.auth.clock)
        door = Authenticator(self.auth.accounts, self.auth.tokens, self.auth.throttle, trail=trail or NoTrail())
        self.private = make_key(directory, "ed25519")
        self.certificate = make_certificate(self.private)
        self.der = ssl.PEM_cert_to_DER_cert(self.certificate.read_text())
        start, self.end = validity(self.der)
        self.now = start + 60
        self.certificates = ClientCertificates(self.keys, door, clock=lambda: self.now)

    async def register(self, account: str = "ann") -> None:
        args = (Grantor(ADMIN), account, public_key(self.private))
        await self.keys.register(*args, certificate=self.certificate.read_text())

    async def show(self, session: Session, shown: bytes | None) -> None:
        tls = SimpleNamespace(getpeercert=lambda binary_form: shown)
        await self.certificates.identify(session, self._connection(tls))

    @staticmethod
    def _connection(tls: Any) -> Any:
        return SimpleNamespace(transport=SimpleNamespace(get_extra_info=lambda name: tls))


@asynccontextmanager
async def bench(directory: Path, trail: Any = None) -> AsyncIterator[tuple[Bench, Session]]:
    (directory / "auth").mkdir()
    async with rig(directory) as engine:
        made = Bench(directory / "auth", trail)
        try:
            for name in ("ann", "bob"):
                await made.auth.accounts.add(name, "secret", ["viewer"])
            session, _ = engine.session(login=None)
            yield made, session
        finally:
            made.auth.store.close()


async def test_the_key_in_the_certificate_says_who_it_is(tmp_path: Path) -> None:
    async with bench(tmp_path) as (made, session):
        await made.register()
        await made.show(session, made.der)
        assert session.scope is made.auth.policy.scope("ann")
        assert (session.method, session.token) == ("certificate", None)


@pytest.mark.parametrize("shown", [None, b"", b"no certificate", b"\x30\x82\xff\xff"])
async def test_what_is_no_certificate_is_nobodys(tmp_path: Path, shown: bytes | None) -> None:
    async with bench(tmp_path) as (made, session):
        await made.register()
        await made.show(session, shown)
        await made.certificates.identify(session, made._connection(None))
        assert session.scope is None


async def test_an_account_of_the_machine_that_left_its_groups_is_nobodys(tmp_path: Path) -> None:
    async def gone(name: str) -> Scope | None:
        assert name == "ann"
        return None

    async with bench(tmp_path) as (made, session):
        await made.register()
        made.keys._renew = gone
        await made.show(session, made.der)
        assert session.scope is None


async def test_a_certificate_of_an_unknown_key_is_nobodys(tmp_path: Path) -> None:
    async with bench(tmp_path) as (made, session):
        await made.show(session, made.der)
        assert session.scope is None


async def test_one_that_ended_meanwhile_is_nobodys(tmp_path: Path) -> None:
    """TLS looked at it when the session began that is resumed now."""
    async with bench(tmp_path) as (made, session):
        await made.register()
        made.now = made.end
        await made.show(session, made.der)
        assert session.scope is None


async def test_the_session_ends_with_the_certificate_or_at_the_absolute_end(tmp_path: Path) -> None:
    async with bench(tmp_path) as (made, session):
        await made.register()
        await made.show(session, made.der)
        now = session.engine.monotonic()
        assert session.expires == now + Limits().token_absolute
        made.now = made.end - 5
        await made.show(session, made.der)
        assert session.expires == now + 5


async def test_the_identity_lasts_as_long_as_the_key_is_that_accounts(tmp_path: Path) -> None:
    async with bench(tmp_path) as (made, session):
        await made.register()
        await made.show(session, made.der)
        assert session.voucher is not None
        assert session.voucher() is made.auth.policy.scope("ann")
        await made.keys.revoke("ann", public_key(made.private))
        assert session.voucher() is None
        await made.register("bob")
        assert session.voucher() is None


async def test_a_key_that_is_revoked_while_the_log_in_is_written_down_is_nobodys(tmp_path: Path) -> None:
    written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    recorded = asyncio.Event()

    class Slow:
        def record(self, kind: str, **data: Any) -> asyncio.Future[None]:
            recorded.set()
            return written

    async with bench(tmp_path, Slow()) as (made, session):
        await made.register()
        showing = asyncio.create_task(made.show(session, made.der))
        await recorded.wait()
        await made.keys.revoke("ann", public_key(made.private))
        written.set_result(None)
        await showing
        assert session.scope is None


async def test_without_an_audit_record_it_is_nobodys(tmp_path: Path) -> None:
    class Full:
        def record(self, kind: str, **data: Any) -> asyncio.Future[None]:
            failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            failed.set_exception(OSError("disk full"))
            return failed

    async with bench(tmp_path, Full()) as (made, session):
        await made.register()
        await made.show(session, made.der)
        assert session.scope is None


# Asking


def mode(context: ssl.SSLContext) -> ssl.VerifyMode:
    return context.verify_mode


def context() -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)


async def test_clients_are_asked_once_there_is_a_certificate_to_know(tmp_path: Path) -> None:
    listen = load(None, {}).listen
    async with bench(tmp_path) as (made, _):
        asked = context()
        made.certificates.prepare(asked, listen)
        assert mode(asked) == ssl.CERT_NONE
        await made.register()
        made.certificates.prepare(asked, listen)
        assert mode(asked) == ssl.CERT_OPTIONAL
        assert asked.get_ca_certs(binary_form=True) == [made.der]
        await made.keys.revoke("ann", public_key(made.private))
        made.certificates.prepare(asked, listen)
        assert mode(asked) == ssl.CERT_NONE


async def test_an_authority_is_reason_enough_to_ask_and_off_is_off(tmp_path: Path) -> None:
    async with bench(tmp_path) as (made, _):
        ca = {"listen.client_ca": str(made.certificate)}
        asked = context()
        made.certificates.prepare(asked, load(None, ca).listen)
        assert mode(asked) == ssl.CERT_OPTIONAL
        await made.register()
        made.certificates.prepare(asked, load(None, {**ca, "listen.client_certificates": "off"}).listen)
        assert mode(asked) == ssl.CERT_NONE


@pytest.mark.parametrize("text", [None, "no certificate"])
async def test_a_file_of_authorities_that_cannot_be_used_is_named(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    async with bench(tmp_path) as (made, _):
        with pytest.raises(StateError, match=r"ca\.pem"):
            made.certificates.prepare(context(), load(None, {"listen.client_ca": str(file)}).listen)


async def test_a_stored_certificate_that_tls_cannot_use_does_not_keep_the_others_out(tmp_path: Path) -> None:
    async with bench(tmp_path) as (made, _):
        await made.register()
        broken = f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(b'broken').decode()}\n-----END CERTIFICATE-----\n"
        (key,) = made.keys.of()
        other = SimpleNamespace(certificate=broken)
        keys: Any = SimpleNamespace(of=lambda: [other, key])
        asked, door = context(), made.certificates._authenticator
        ClientCertificates(keys, door).prepare(asked, load(None, {}).listen)
        assert asked.get_ca_certs(binary_form=True) == [made.der]
