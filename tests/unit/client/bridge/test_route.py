"""Clients of a `bridge://` address, over real sockets with TLS: keys, pins, and who can be reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sysadmd.client import AsyncClient, BadAddress, Client, ConnectFailed, Untrusted
from sysadmd.client.bridge import reachable
from sysadmd.client.pins import KnownServers
from sysadmd.keys.certificate import CertificateFiles
from sysadmd.keys.seal import SealingContext
from sysadmd.keys.signing import PrivateKey
from tests.unit.client.bridge.scripted import OriginalServer, ScriptedBridge, ScriptedServer, on_loopback
from tests.unit.keys.openssl import make_key

ECHO: dict[str, Any] = {"test/echo": lambda args: args}


@pytest.fixture
def known(tmp_path: Path) -> Path:
    return tmp_path / "known_servers"


async def test_a_client_reaches_a_server_whose_key_is_known(
    certificates: CertificateFiles, context: SealingContext, key_file: Path, file_key: PrivateKey, known: Path
) -> None:
    KnownServers(known).pin("nas.example", context.fingerprint)
    bridge = ScriptedBridge(file_key.public)
    bridge.join(ScriptedServer("nas.example", context, {**ECHO, "rpc/auth_token": lambda args: [args["token"], 900]}))
    async with on_loopback(bridge, certificates) as where:
        options: dict[str, Any] = {"token": "t", "known_servers": known, "ca": certificates.cert}
        async with AsyncClient(f"{where}/nas", bridge_key=key_file, **options) as client:
            assert await client.call("test/echo", {"n": 1}) == {"n": 1}


@pytest.mark.parametrize("typed", ["nas", "NAS", "nas.example"])
@pytest.mark.parametrize("kept", ["nas", "nas.example"])
async def test_a_key_is_found_under_the_name_and_under_the_host_name_that_begins_so(
    certificates: CertificateFiles,
    context: SealingContext,
    key_file: Path,
    file_key: PrivateKey,
    known: Path,
    typed: str,
    kept: str,
) -> None:
    KnownServers(known).pin(kept, context.fingerprint)
    bridge = ScriptedBridge(file_key.public)
    bridge.join(ScriptedServer("nas.example", context))
    async with on_loopback(bridge, certificates) as where:
        client = AsyncClient(f"{where}/{typed}", bridge_key=key_file, known_servers=known, ca=certificates.cert)
        if (typed, kept) == ("nas.example", "nas"):
            with pytest.raises(ConnectFailed, match="not known here"):
                await client.__aenter__()
        else:
            await client.__aenter__()
        await client.aclose()


async def test_a_short_name_of_two_known_servers_is_nobodys(
    certificates: CertificateFiles, context: SealingContext, key_file: Path, file_key: PrivateKey, known: Path
) -> None:
    """The bridge would choose which of the two is meant."""
    KnownServers(known).pin("nas.example", context.fingerprint)
    KnownServers(known).pin("nas.example.org", "ab" * 32)
    bridge = ScriptedBridge(file_key.public)
    bridge.join(ScriptedServer("nas.example", context))
    async with on_loopback(bridge, certificates) as where:
        with pytest.raises(ConnectFailed, match="not known here"):
            await AsyncClient(
                f"{where}/nas", bridge_key=key_file, known_servers=known, ca=certificates.cert
            ).__aenter__()


async def test_an_id_takes_the_key_of_any_known_server(
    certificates: CertificateFiles, context: SealingContext, key_file: Path, file_key: PrivateKey, known: Path
) -> None:
    KnownServers(known).pin("some other name", context.fingerprint)
    bridge = ScriptedBridge(file_key.public)
    nas = bridge.join(ScriptedServer("nas", context, ECHO))
    async with (
        on_loopback(bridge, certificates) as where,
        AsyncClient(f"{where}/{nas.id}", bridge_key=key_file, known_servers=known, ca=certificates.cert) as client,
    ):
        assert await client.call("test/echo", {}) == {}


async def test_a_pin_goes_before_the_known_servers_and_counts_where_all_is_trusted(
    certificates: CertificateFiles, context: SealingContext, key_file: Path, file_key: PrivateKey, known: Path
) -> None:
    KnownServers(known).pin("nas", "ab" * 32)
    bridge = ScriptedBridge(file_key.public)
    bridge.join(ScriptedServer("nas", context))
    options: dict[str, Any] = {"bridge_key": key_file, "known_servers": known}
    async with on_loopback(bridge, certificates) as where:
        right = context.fingerprint.upper()
        async with AsyncClient(f"{where}/nas", pin=right, ca=certificates.cert, **options):
            pass
        with pytest.raises(Untrusted):
            await AsyncClient(f"{where}/nas", ca=certificates.cert, **options).__aenter__()
        with pytest.raises(Untrusted):
            await AsyncClient(f"{where}/nas", pin="cd" * 32, insecure=True, **options).__aenter__()


async def test_a_bridge_whose_certificate_is_not_trusted_hears_nothing(
    certificates: CertificateFiles, key_file: Path, file_key: PrivateKey, known: Path
) -> None:
    bridge = ScriptedBridge(file_key.public)
    async with on_loopback(bridge, certificates) as where:
        with pytest.raises(Untrusted, match=r"the bridge's certificate is not trusted.*if the bridge printed"):
            await AsyncClient(f"{where}/nas", bridge_key=key_file, known_servers=known).__aenter__()
    assert bridge.lines == []


def test_a_program_without_an_event_loop_does_the_same(known: Path, key_file: Path) -> None:
    client = Client("bridge://127.0.0.1:1/nas", bridge_key=key_file, pin="ab" * 32, known_servers=known)
    with pytest.raises(ConnectFailed):
        client.open()


async def test_with_a_user_name_the_key_only_introduces(
    certificates: CertificateFiles, context: SealingContext, tmp_path: Path, file_key: PrivateKey, key_file: Path
) -> None:
    """The password is what was asked for; the key would log in as somebody else."""
    bridge = ScriptedBridge(file_key.public)
    handlers: dict[str, Any] = {"rpc/auth": lambda args: ["t", 900], "rpc/auth_clear": lambda args: {}}
    nas = bridge.join(ScriptedServer("nas", context, handlers))
    own = make_key(tmp_path, "ed25519")
    options: dict[str, Any] = {"username": "ann", "password": "x", "pin": context.fingerprint, "ca": certificates.cert}
    async with (
        on_loopback(bridge, certificates) as where,
        AsyncClient(f"{where}/nas", key=own, bridge_key=key_file, **options),
    ):
        pass
    assert [request.name for request in nas.requests] == ["auth", "auth_clear"]


def test_a_bridge_needs_a_key_and_a_server() -> None:
    with pytest.raises(BadAddress, match="needs a key"):
        AsyncClient("bridge://relay/nas")
    with pytest.raises(BadAddress, match="needs a key"):
        AsyncClient("bridge://relay/nas", token="t")


async def test_an_address_without_a_server_is_refused(key_file: Path) -> None:
    with pytest.raises(BadAddress, match="no server behind the bridge"):
        AsyncClient("bridge://relay", bridge_key=key_file)


@pytest.mark.parametrize("pin", ["", "ab", "SHA256:" + "AB:" * 31 + "AB", "zz" * 32])
def test_a_pin_is_a_fingerprint(key_file: Path, pin: str) -> None:
    with pytest.raises(BadAddress, match="64 hexadecimal digits"):
        AsyncClient("bridge://relay/nas", bridge_key=key_file, pin=pin)


# Who can be reached


@pytest.mark.parametrize("original", [False, True])
async def test_the_servers_behind_a_bridge_are_listed(
    certificates: CertificateFiles,
    context: SealingContext,
    other_context: SealingContext,
    tmp_path: Path,
    known: Path,
    original: bool,
) -> None:
    KnownServers(known).pin("nas", context.fingerprint)
    own = make_key(tmp_path, "rsa-2048")
    bridge = ScriptedBridge(PrivateKey.load(own.read_bytes()).public, original=original)
    bridge.join(ScriptedServer("nas", context, nick="rack 1"))
    bridge.join(ScriptedServer("mail", other_context))
    bridge.join(OriginalServer("attic"))
    async with on_loopback(bridge, certificates) as where:
        found = await reachable(where, key=own, known_servers=known, ca=certificates.cert)
    assert [(each.hostname, each.sealed, each.pinned) for each in found] == [
        ("attic", False, False),
        ("mail", True, False),
        ("nas", True, True),
    ]
    assert [each.key for each in found] == ["", other_context.fingerprint, context.fingerprint]
    assert found[2].nick == ("" if original else "rack 1")


@pytest.mark.parametrize("url", ["wss://relay", "bridge://relay/nas"])
async def test_only_a_bridge_is_asked_whom_it_reaches(key_file: Path, url: str) -> None:
    with pytest.raises(BadAddress, match="is not a bridge"):
        await reachable(url, key=key_file)
