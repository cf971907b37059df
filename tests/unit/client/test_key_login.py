"""Logging in with a key: which proof is given to which challenge, and what is done when it is not taken."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sysadmd.client import AsyncClient, AuthFailed, BadAddress, ConnectFailed
from sysadmd.client.channel import _proof_in_clear
from sysadmd.client.mock import MockServer
from sysadmd.client.trust import client_context, read_key
from sysadmd.errors import Unauthorized
from sysadmd.keys.signing import PublicKey, parse, recover, verify
from tests.unit.client.test_async_client import client_of, methods
from tests.unit.keys.openssl import make_certificate, make_key, openssl, public_key

LONG, SHORT = "Zq7b" * 50, "bVHNHA0u4F8MEr4NbnwlU0QHu4P9KV5MJlzTm43m"


def is_modern(public: PublicKey, challenge: str, args: dict[str, str]) -> bool:
    if sorted(args) != ["algorithm", "key", "signature"] or args["key"] != public.fingerprint:
        return False
    return verify(public.pem, args["algorithm"], challenge, base64.b64decode(args["signature"]))


def is_classic(public: PublicKey, challenge: str, args: dict[str, str]) -> bool:
    signature = base64.b64decode(args.get("encrypted_string", ""))
    return sorted(args) == ["encrypted_string"] and recover(public.pem, signature) == challenge.encode()


def server_with_key(
    private: Path, challenge: Any = LONG, good: Callable[[PublicKey, str, dict[str, str]], bool] = is_modern
) -> MockServer:
    """A server that knows one key, and which proof it takes."""
    public, tokens = parse(public_key(private)), set[str]()

    def auth_ssl(args: Any) -> Any:
        if not args:
            return {"test_string": challenge}
        if not good(public, challenge, args):
            raise Unauthorized
        tokens.add(f"t{len(tokens)}")
        return [f"t{len(tokens) - 1}", 900]

    def auth_token(args: Any) -> Any:
        if args["token"] not in tokens:
            raise Unauthorized
        return [args["token"], 900]

    handlers = {"rpc/auth_ssl": auth_ssl, "rpc/auth_token": auth_token, "rpc/auth_clear": lambda args: {}}
    return MockServer({**handlers, "rpc/auth": lambda args: ["p", 900], "rpc/query": lambda args: {}})


@pytest.mark.parametrize("kind", ["rsa-2048", "ed25519"])
async def test_a_long_challenge_gets_the_modern_proof(tmp_path: Path, kind: str) -> None:
    private = make_key(tmp_path, kind)
    server = server_with_key(private)
    async with client_of(server, key=private) as client:
        await client.call("rpc/query")
    assert methods(server) == ["rpc/auth_ssl", "rpc/auth_ssl", "rpc/query", "rpc/auth_clear"]


async def test_the_short_challenge_of_an_original_server_gets_the_classic_proof(tmp_path: Path) -> None:
    private = make_key(tmp_path, "rsa-2048")
    server = server_with_key(private, SHORT, is_classic)
    async with client_of(server, key=private) as client:
        await client.call("rpc/query")


async def test_a_key_proves_itself_once_and_its_token_serves_later_connections(tmp_path: Path) -> None:
    private = make_key(tmp_path, "ed25519")
    server = server_with_key(private)
    async with client_of(server, key=private) as client:
        server.drop()
        await asyncio.sleep(0)
        await client.call("rpc/query")
    assert methods(server) == ["rpc/auth_ssl", "rpc/auth_ssl", "rpc/auth_token", "rpc/query", "rpc/auth_clear"]


async def test_a_token_is_tried_before_the_key_and_the_key_before_the_password(tmp_path: Path) -> None:
    known, unknown = make_key(tmp_path, "ed25519", "known"), make_key(tmp_path, "ed25519", "unknown")
    server = server_with_key(known)
    options = {"token": "old", "username": "ann", "password": "secret"}
    async with client_of(server, key=known, **options):
        pass
    assert methods(server)[:3] == ["rpc/auth_token", "rpc/auth_ssl", "rpc/auth_ssl"]
    assert "rpc/auth" not in methods(server)
    server.requests.clear()
    async with client_of(server, key=unknown, **options):
        pass
    assert methods(server)[:4] == ["rpc/auth_token", "rpc/auth_ssl", "rpc/auth_ssl", "rpc/auth"]


async def test_a_key_that_is_not_taken_is_told(tmp_path: Path) -> None:
    known, unknown = make_key(tmp_path, "ed25519", "known"), make_key(tmp_path, "ed25519", "unknown")
    server = server_with_key(known)
    with pytest.raises(AuthFailed, match="refused the log-in"):
        async with client_of(server, key=unknown):
            pass
    assert server.connections == []


async def test_in_a_sealed_session_the_proof_is_bound_to_the_server(tmp_path: Path) -> None:
    private, binding = make_key(tmp_path, "ed25519"), "ab" * 32

    def is_bound(public: PublicKey, challenge: str, args: dict[str, str]) -> bool:
        signature = base64.b64decode(args["signature"])
        assert not verify(public.pem, args["algorithm"], challenge, signature)
        return verify(public.pem, args["algorithm"], challenge + binding, signature)

    server = server_with_key(private, LONG, is_bound)
    server.binding = binding
    async with client_of(server, key=private) as client:
        await client.call("rpc/query")


async def test_a_sealed_session_gets_no_classic_proof(tmp_path: Path) -> None:
    private = make_key(tmp_path, "rsa-2048")
    server = server_with_key(private, SHORT, is_classic)
    server.binding = "ab" * 32
    with pytest.raises(AuthFailed):
        async with client_of(server, key=private):
            pass
    assert all("encrypted_string" not in request.args for request in server.requests)


async def test_a_challenge_with_a_binding_behind_it_is_not_signed(tmp_path: Path) -> None:
    """Whoever sends it would have a proof for a sealed session of theirs with another server."""
    private = make_key(tmp_path, "ed25519")
    with pytest.raises(AuthFailed, match="200 letters and digits"):
        async with client_of(server_with_key(private, LONG + "ab" * 32), key=private):
            pass


def test_in_the_clear_no_proof_is_given_that_a_server_of_today_would_take(tmp_path: Path) -> None:
    """The bridge could have the challenge from such a server, and log in there with the answer."""
    key = read_key(make_key(tmp_path, "rsa-2048"))
    with pytest.raises(AuthFailed, match="could seal the session"):
        _proof_in_clear(key, {"test_string": base64.b64encode(LONG.encode()).decode()})
    assert _proof_in_clear(key, {"test_string": base64.b64encode(SHORT.encode()).decode()})


@pytest.mark.parametrize("challenge", [None, "", 7, ["x"]])
async def test_what_is_no_challenge_is_not_signed(tmp_path: Path, challenge: Any) -> None:
    private = make_key(tmp_path, "ed25519")
    server = server_with_key(private, challenge)
    with pytest.raises(AuthFailed, match="something else than a challenge"):
        async with client_of(server, key=private):
            pass
    assert methods(server) == ["rpc/auth_ssl"]


@pytest.mark.parametrize("challenge", ["0!\x00\x06", "with blanks", "ä" * 40])
async def test_a_short_challenge_that_could_mean_something_is_not_signed(tmp_path: Path, challenge: str) -> None:
    """The classic proof signs what it is given; a hash or a certificate must not be what a server gives."""
    private = make_key(tmp_path, "rsa-2048")
    server = server_with_key(private, challenge, is_classic)
    with pytest.raises(AuthFailed, match="letters and digits"):
        async with client_of(server, key=private):
            pass
    assert methods(server) == ["rpc/auth_ssl"]


async def test_a_key_that_cannot_give_the_classic_proof_says_so(tmp_path: Path) -> None:
    private = make_key(tmp_path, "ed25519")
    with pytest.raises(AuthFailed, match="needs an RSA key"):
        async with client_of(server_with_key(private, SHORT), key=private):
            pass


# Files


def test_a_key_without_encryption_over_a_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadAddress, match="use wss"):
        AsyncClient("ws://nas.example", key=make_key(tmp_path, "ed25519"))


def test_a_file_that_holds_no_private_key_is_named_and_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "letter"
    file.write_text("dear olga")
    with pytest.raises(ConnectFailed, match="letter: not a private key") as caught:
        read_key(file)
    assert "olga" not in str(caught.value)
    with pytest.raises(ConnectFailed, match="nowhere: No such file"):
        read_key(tmp_path / "nowhere")
    locked = tmp_path / "locked.key"
    openssl("genpkey", "-algorithm", "ED25519", "-aes256", "-pass", "pass:secret", "-out", locked)
    with pytest.raises(ConnectFailed, match="encrypted; decrypt it first"):
        read_key(locked)


def test_a_certificate_needs_its_own_key(tmp_path: Path) -> None:
    one, other = make_key(tmp_path, "rsa-2048", "one"), make_key(tmp_path, "rsa-2048", "other")
    certificate = make_certificate(one)
    client_context(None, insecure=True, certificate=(certificate, one))
    with pytest.raises(ConnectFailed, match=r"one\.crt: not a certificate with its key"):
        client_context(None, insecure=True, certificate=(certificate, other))
    with pytest.raises(ConnectFailed, match=r"one\.crt: not a certificate with its key"):
        client_context(None, insecure=True, certificate=(certificate, None))


def test_an_encrypted_key_of_a_certificate_asks_nobody(tmp_path: Path) -> None:
    """The library would ask on the terminal, and hang a script."""
    locked = tmp_path / "locked.key"
    openssl("genpkey", "-algorithm", "ED25519", "-aes256", "-pass", "pass:secret", "-out", locked)
    certificate = tmp_path / "locked.crt"
    openssl("req", "-x509", "-key", locked, "-passin", "pass:secret", "-subj", "/CN=x", "-out", certificate)
    with pytest.raises(ConnectFailed, match="not a certificate with its key"):
        client_context(None, insecure=True, certificate=(certificate, locked))
