"""TLS client certificates on the WebSocket port, made by the openssl program and shown in real handshakes."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from sysadmd.client import AsyncClient, RemoteError
from tests.integration.apps import LiveApp, running_app
from tests.integration.keyrings import Keypair, code_of, revoke
from tests.integration.servers import Peer
from tests.unit.keys.openssl import make_certificate, openssl

TURNED_AWAY = (ssl.SSLError, ConnectionError, ConnectionClosed, InvalidHandshake, InvalidMessage, EOFError)
"""With TLS 1.3 a client learns of it when it reads, and whatever reads first says it in its own way."""


def certificate_of(key: Keypair, *options: str) -> Path:
    return make_certificate(key.file, *options)


async def register(live: LiveApp, account: str, key: Keypair, certificate: Path) -> None:
    async with live.connect() as admin:
        args = {"pub_key": key.pem, "user": account, "certificate": certificate.read_text()}
        assert await admin.call("rpc", "settings", {"action": "register_ssl_cert", **args}) == {}


@contextlib.asynccontextmanager
async def showing(live: LiveApp, key: Keypair, certificate: Path, **options: Any) -> AsyncIterator[Peer]:
    """A connection that shows a certificate and says nothing else of who it is."""
    context = live.ssl_context()
    assert context is not None
    context.load_cert_chain(certificate, key.file)
    for name, value in options.items():
        setattr(context, name, value)
    async with live.connect(login=None, ssl=context) as peer:
        yield peer


async def code(peer: Peer, name: str = "query", args: Any = None) -> int:
    return code_of(await peer.request("rpc", name, args))


async def turned_away(live: LiveApp, key: Keypair, certificate: Path) -> bool:
    try:
        async with showing(live, key, certificate) as peer:
            await code(peer)
    except TURNED_AWAY:
        return True
    return False


def session_of(live: LiveApp, method: str) -> Any:
    (session,) = (one for one in live.app.engine.sessions if one.method == method)
    return session


# Who is in


@pytest.mark.parametrize("kind", ["rsa-2048", "ed25519"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_registered_certificate_logs_in_as_the_account_of_its_key(
    tmp_path: Path, kind: str, version: ssl.TLSVersion
) -> None:
    key = Keypair.make(tmp_path, kind)
    certificate = certificate_of(key)
    async with running_app(tmp_path, tls=True) as live:
        await register(live, "oper", key, certificate)
        async with showing(live, key, certificate, maximum_version=version) as peer:
            assert "rpc/dispatcher" in await peer.call("rpc", "query")
            assert await code(peer, "accounts", {"action": "list"}) == 403
            session = session_of(live, "certificate")
            assert (session.scope.account, session.token) == ("oper", None)


async def test_who_shows_none_is_welcome_as_before(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    async with running_app(tmp_path, tls=True) as live:
        await register(live, "oper", key, certificate_of(key))
        async with live.connect(login=None) as peer:
            assert await code(peer) == 401
            await peer.login("view")
            assert await code(peer) == 200


async def test_a_certificate_that_nobody_registered_is_turned_away_by_tls(tmp_path: Path) -> None:
    key, other = Keypair.make(tmp_path), Keypair.make(tmp_path, name="other")
    async with running_app(tmp_path, tls=True) as live:
        await register(live, "oper", key, certificate_of(key))
        assert await turned_away(live, other, certificate_of(other))
        assert not await turned_away(live, key, key.file.with_suffix(".crt"))


async def test_nobody_is_asked_before_there_is_one_to_know(tmp_path: Path) -> None:
    """The original clients may have a certificate of their own, and must not be turned away for it."""
    key = Keypair.make(tmp_path)
    certificate = certificate_of(key)
    async with running_app(tmp_path, tls=True) as live, showing(live, key, certificate) as peer:
        assert await code(peer) == 401
        await peer.login()
        assert await code(peer) == 200


async def test_a_key_without_its_certificate_does_not_log_in_by_tls(tmp_path: Path) -> None:
    key, other = Keypair.make(tmp_path), Keypair.make(tmp_path, name="other")
    async with running_app(tmp_path, tls=True) as live:
        await register(live, "view", other, certificate_of(other))
        async with live.connect() as admin:
            args = {"action": "register_ssl_cert", "pub_key": key.pem, "user": "oper"}
            await admin.call("rpc", "settings", args)
        assert await turned_away(live, key, certificate_of(key))


async def test_the_names_in_a_certificate_open_nothing(tmp_path: Path) -> None:
    """It is the key that counts: `CN=admin` on somebody's own certificate is somebody's own."""
    key = Keypair.make(tmp_path)
    certificate = make_certificate(key.file, name="admin")
    async with running_app(tmp_path, tls=True) as live:
        await register(live, "view", key, certificate)
        async with showing(live, key, certificate) as peer:
            assert await code(peer) == 200
            assert session_of(live, "certificate").scope.account == "view"


async def test_a_certificate_of_a_registered_one_is_turned_away(tmp_path: Path) -> None:
    """A registered certificate vouches for itself, not for what its key signed."""
    key, other = Keypair.make(tmp_path), Keypair.make(tmp_path, name="other")
    certificate = certificate_of(key)
    async with running_app(tmp_path, tls=True) as live:
        await register(live, "oper", key, certificate)
        assert await logs_nobody_in(live, other, signed_by(certificate, key, other))


async def test_logging_out_takes_the_identity_and_another_log_in_replaces_it(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    certificate = certificate_of(key)
    async with running_app(tmp_path, tls=True) as live:
        await register(live, "oper", key, certificate)
        async with showing(live, key, certificate) as peer:
            assert await code(peer) == 200
            await peer.login("view")
            assert session_of(live, "password").scope.account == "view"
            await peer.call("rpc", "auth_clear")
            assert await code(peer) == 401


# Revoked, expired, renewed


async def test_revoking_the_key_ends_its_session_and_makes_strangers_of_who_shows_it(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    certificate = certificate_of(key)
    async with running_app(tmp_path, tls=True) as live:
        await register(live, "oper", key, certificate)
        async with showing(live, key, certificate) as peer, live.connect("oper") as by_password:
            assert await code(peer) == 200
            await revoke(live, "oper", key)
            with pytest.raises(ConnectionClosed, match="revoked"):
                async with asyncio.timeout(5):
                    await peer.connection.recv()
            assert await code(by_password) == 200
        assert await logs_nobody_in(live, key, certificate)


async def test_removing_the_account_ends_the_session(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    certificate = certificate_of(key)
    async with running_app(tmp_path, tls=True) as live:
        await register(live, "oper", key, certificate)
        async with showing(live, key, certificate) as peer:
            assert await code(peer) == 200
            await live.app.auth.accounts.remove("oper")
            with pytest.raises(ConnectionClosed, match="revoked"):
                async with asyncio.timeout(5):
                    await peer.connection.recv()
        assert await logs_nobody_in(live, key, certificate)


async def test_an_expired_certificate_is_turned_away(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    certificate = expired(key)
    async with running_app(tmp_path, tls=True) as live:
        await register(live, "oper", key, certificate)
        assert await turned_away(live, key, certificate)


async def test_a_session_does_not_outlive_its_certificate(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    certificate = certificate_of(key, "-days", "1")
    async with running_app(tmp_path, tls=True, limits__token_absolute=7 * 86400.0) as live:
        await register(live, "oper", key, certificate)
        async with showing(live, key, certificate) as peer:
            assert await code(peer) == 200
            session = session_of(live, "certificate")
            left = session.expires - live.app.engine.monotonic()
            assert 86400 - 60 < left <= 86400


async def test_a_renewed_certificate_is_known_once_it_is_registered(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    old = certificate_of(key)
    old = old.rename(old.with_suffix(".old"))
    renewed = certificate_of(key, "-days", "60")
    async with running_app(tmp_path, tls=True) as live:
        await register(live, "oper", key, old)
        assert await turned_away(live, key, renewed)
        await register(live, "oper", key, renewed)
        async with showing(live, key, renewed) as peer:
            assert await code(peer) == 200
            assert session_of(live, "certificate").scope.account == "oper"


async def test_certificates_are_known_after_a_restart(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    certificate = certificate_of(key)
    async with running_app(tmp_path, tls=True) as live:
        await register(live, "oper", key, certificate)
    async with running_app(tmp_path, tls=True, accounts={}) as live, showing(live, key, certificate) as peer:
        assert await code(peer) == 200


# Authorities, and none of it


async def test_an_authority_vouches_for_certificates_and_the_key_says_whose_they_are(tmp_path: Path) -> None:
    ca, key, stranger = (Keypair.make(tmp_path, name=name) for name in ("ca", "mine", "stranger"))
    authority = certificate_of(ca)
    async with running_app(tmp_path, tls=True, listen__client_ca=str(authority)) as live:
        async with live.connect() as admin:
            args = {"action": "register_ssl_cert", "pub_key": key.pem, "user": "oper"}
            await admin.call("rpc", "settings", args)
        # A key that is registered, whichever certificate of it the authority signed, the first or a renewed one.
        for _ in range(2):
            async with showing(live, key, signed_by(authority, ca, key)) as peer:
                assert await code(peer) == 200
                assert session_of(live, "certificate").scope.account == "oper"
        # One that is not: TLS takes it, and it is nobody's.
        certificate = signed_by(authority, ca, stranger)
        assert not await turned_away(live, stranger, certificate)
        assert await logs_nobody_in(live, stranger, certificate)
        assert await turned_away(live, key, certificate_of(key))


async def test_a_file_of_authorities_that_is_gone_keeps_no_key_from_being_revoked(tmp_path: Path) -> None:
    ca, key = Keypair.make(tmp_path, name="ca"), Keypair.make(tmp_path)
    authority, certificate = certificate_of(ca), certificate_of(key)
    async with running_app(tmp_path, tls=True, listen__client_ca=str(authority)) as live:
        await register(live, "oper", key, certificate)
        async with showing(live, key, certificate) as peer:
            assert await code(peer) == 200
            authority.unlink()
            await revoke(live, "oper", key)
            with pytest.raises(ConnectionClosed, match="revoked"):
                async with asyncio.timeout(5):
                    await peer.connection.recv()


async def test_switched_off_a_certificate_is_not_even_asked_for(tmp_path: Path) -> None:
    key, other = Keypair.make(tmp_path), Keypair.make(tmp_path, name="other")
    certificate = certificate_of(key)
    async with running_app(tmp_path, tls=True, listen__client_certificates="off") as live:
        await register(live, "oper", key, certificate)
        assert await logs_nobody_in(live, key, certificate)
        assert not await turned_away(live, other, certificate_of(other))


async def test_the_http_port_asks_nobody(tmp_path: Path) -> None:
    """Browsers would trouble their users with it, and a page must not act by what its visitor's browser holds."""
    key, other = Keypair.make(tmp_path), Keypair.make(tmp_path, name="other")
    certificate = certificate_of(key)
    async with running_app(tmp_path, tls=True) as live:
        await register(live, "oper", key, certificate)
        for one in (key, other):
            context = live.ssl_context()
            assert context is not None
            context.load_cert_chain(certificate_of(one), one.file)
            async with aiohttp.ClientSession(live.rest_url) as http:
                url = "/rpc/identify"
                async with http.post(url, json={}, ssl=context) as reply:
                    assert reply.status == 200
                async with http.post("/rpc/query", json={}, ssl=context) as reply:
                    assert reply.status == 401


# Our own client


async def test_our_client_shows_its_certificate(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path)
    certificate = certificate_of(key)
    both = tmp_path / "both.pem"
    both.write_text(certificate.read_text() + key.file.read_text())
    async with running_app(tmp_path, tls=True) as live:
        await register(live, "oper", key, certificate)
        url = f"wss://127.0.0.1:{live.port}"
        async with AsyncClient(url, certificate=both, ca=live.certificate) as client:
            assert await client.call("rpc/query")
        async with AsyncClient(url, certificate=certificate, key=key.file, ca=live.certificate) as client:
            assert await client.call("rpc/query")
        async with AsyncClient(url, ca=live.certificate) as client:
            with pytest.raises(RemoteError, match="401"):
                await client.call("rpc/query")


async def logs_nobody_in(live: LiveApp, key: Keypair, certificate: Path) -> bool:
    """Whether one who shows this is turned away, or a stranger."""
    try:
        async with showing(live, key, certificate) as peer:
            return await code(peer) == 401
    except TURNED_AWAY:
        return True


def signed_by(authority: Path, ca: Keypair, key: Keypair) -> Path:
    """A certificate of a key, by an authority."""
    path = key.file.with_suffix(".signed")
    request = openssl("req", "-new", "-key", key.file, "-subj", "/CN=somebody")
    openssl(
        *("x509", "-req", "-CA", authority, "-CAkey", ca.file, "-CAcreateserial", "-days", "30", "-out", path),
        stdin=request,
    )
    return path


def expired(key: Keypair) -> Path:
    """A self-signed certificate that ended yesterday, which `openssl req` cannot make in every version."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.x509.oid import NameOID

    private: Any = serialization.load_pem_private_key(key.file.read_bytes(), None)
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "late")]), datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(7)
    builder = builder.public_key(private.public_key())
    builder = builder.not_valid_before(now - timedelta(days=2)).not_valid_after(now - timedelta(days=1))
    path = key.file.with_suffix(".late")
    path.write_bytes(builder.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    return path
