"""`rpc/settings`: the registered keys, in the words of the documents and of the originals (spec sysadm §3.9)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from sysadmd.errors import BadRequest, Forbidden
from tests.integration.apps import running_app
from tests.integration.keyrings import Keypair, code_of
from tests.integration.servers import Peer
from tests.integration.test_classic_client import LOGIN, error, exchange, original
from tests.unit.keys.openssl import make_certificate
from tests.unit.keys.vectors import CHECKSUM, REGISTERED_KEY

SPELLINGS = [(namespace, suffix) for namespace in ("rpc", "sysadm") for suffix in ("ssl_cert", "ssl_certificate")]
DESCRIPTION = r"Nickname: laptop\nEmail: o@example\.org\nDate Registered: \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"


async def settings(peer: Peer, action: str, **args: Any) -> Any:
    return await peer.call("rpc", "settings", {"action": action, **args})


async def refused(peer: Peer, action: str, **args: Any) -> int:
    return code_of(await peer.request("rpc", "settings", {"action": action, **args}))


async def checksums(peer: Peer) -> list[str]:
    found: list[str] = (await settings(peer, "list_ssl_checksums"))["md5_keys"]
    return found


@pytest.mark.parametrize("namespace,suffix", SPELLINGS)
async def test_a_key_is_registered_listed_and_revoked_in_every_spelling(
    tmp_path: Path, namespace: str, suffix: str
) -> None:
    async with running_app(tmp_path) as live, live.connect("oper") as peer:

        async def call(action: str, **args: str) -> Any:
            return await peer.call(namespace, "settings", {"action": action, **args})

        named = {"nickname": "laptop", "email": "o@example.org"}
        assert await call(f"register_{suffix}", pub_key=REGISTERED_KEY, **named) == {}
        found = await call(f"list_{suffix}s")
        assert list(found) == ["oper"]
        ((key, text),) = found["oper"].items()
        assert key == REGISTERED_KEY
        assert re.fullmatch(DESCRIPTION, text)
        assert await call("list_ssl_checksums") == {"md5_keys": [CHECKSUM]}
        assert await call(f"revoke_{suffix}", pub_key=REGISTERED_KEY) == {}
        assert await call(f"list_{suffix}s") == {}


async def test_the_graphical_client_registers_after_its_first_log_in_byte_for_byte(tmp_path: Path) -> None:
    async with running_app(tmp_path, accounts={"alice": ("operator",)}) as live, original(live) as peer:
        await exchange(peer, LOGIN)
        auto = "sysadm-auto-cert-register"
        args = {"action": "register_ssl_cert", "email": "", "nickname": "desk", "pub_key": REGISTERED_KEY}
        request = {"args": args, "id": auto, "name": "settings", "namespace": "rpc"}
        assert await exchange(peer, request) == f'{{"args":{{}},"id":"{auto}","name":"response","namespace":"rpc"}}'
        listed = await exchange(peer, {**request, "id": "q1", "args": {"action": "list_ssl_checksums"}})
        assert listed == f'{{"args":{{"md5_keys":["{CHECKSUM}"]}},"id":"q1","name":"response","namespace":"rpc"}}'
        shown = json.loads(await exchange(peer, {**request, "args": {"action": "list_ssl_certs"}}))
        assert shown["args"]["alice"][REGISTERED_KEY].startswith("Nickname: desk\nEmail: \nDate Registered: 2")
        revoke = {**request, "id": "q1", "args": {"action": "revoke_ssl_cert", "pub_key": REGISTERED_KEY}}
        assert await exchange(peer, revoke) == '{"args":{},"id":"q1","name":"response","namespace":"rpc"}'
        assert await exchange(peer, revoke) == error(400, "Bad Request")


@pytest.mark.parametrize(
    "args",
    [
        {"action": "register_ssl_cert"},
        {"action": "register_ssl_cert", "pub_key": ""},
        {"action": "register_ssl_cert", "pub_key": "no key"},
        {"action": "revoke_ssl_cert"},
        {"action": "revoke_ssl_cert", "pub_key": REGISTERED_KEY, "user": "admin"},
        {"action": "read_minds"},
        {},
    ],
)
async def test_the_originals_answers_to_what_cannot_be_done(tmp_path: Path, args: dict[str, str]) -> None:
    """400 is what they know; a stranger is 401 whatever it asks for."""
    request = {"args": args, "id": "q1", "name": "settings", "namespace": "rpc"}
    async with running_app(tmp_path, accounts={"alice": ("operator",)}) as live, original(live) as peer:
        assert await exchange(peer, request) == error(401, "Unauthorized")
        await exchange(peer, LOGIN)
        assert await exchange(peer, request) == error(400, "Bad Request")


async def test_registering_for_another_is_403_and_leaves_the_connection_open(tmp_path: Path) -> None:
    """The original closed it, which took a whole bridge link down (spec sysadm §2.3)."""
    args = {"action": "register_ssl_cert", "pub_key": REGISTERED_KEY, "user": "bob"}
    request = {"args": args, "id": "q1", "name": "settings", "namespace": "rpc"}
    accounts = {"alice": ("operator",), "bob": ("viewer",)}
    async with running_app(tmp_path, accounts=accounts) as live, original(live) as peer:
        await exchange(peer, LOGIN)
        assert await exchange(peer, request) == error(403, "Forbidden")
        assert json.loads(await exchange(peer, {**request, "args": {"action": "list_ssl_certs"}}))["args"] == {}


# Whose keys


async def test_everybody_sees_and_revokes_their_own_and_administrators_all(tmp_path: Path) -> None:
    keys = {name: Keypair.make(tmp_path, "ed25519", name) for name in ("view", "oper", "admin")}
    async with running_app(tmp_path) as live:
        for name, key in keys.items():
            async with live.connect(name) as peer:
                await settings(peer, "register_ssl_cert", pub_key=key.pem)
        async with live.connect("view") as peer:
            assert await checksums(peer) == [keys["view"].checksum]
            assert list(await settings(peer, "list_ssl_certs")) == ["view"]
            assert await refused(peer, "revoke_ssl_cert", pub_key=keys["oper"].pem) == 400
            assert await refused(peer, "revoke_ssl_cert", pub_key=keys["oper"].pem, user="oper") == 400
        async with live.connect() as peer:
            assert sorted(await checksums(peer)) == sorted(key.checksum for key in keys.values())
            assert sorted(await settings(peer, "list_ssl_certs")) == ["admin", "oper", "view"]
            await settings(peer, "revoke_ssl_cert", pub_key=keys["oper"].pem, user="oper")
            assert sorted(await settings(peer, "list_ssl_certs")) == ["admin", "view"]


async def test_what_is_not_there_and_what_is_not_ones_own_are_answered_alike(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect("view") as peer:
        await settings(admin, "register_ssl_cert", pub_key=REGISTERED_KEY, user="oper")
        args = {"action": "revoke_ssl_cert", "pub_key": REGISTERED_KEY}
        answers = [
            (await peer.request("rpc", "settings", {**args, "user": user}))["args"]
            for user in ("oper", "admin", "none")
        ]
        assert answers[0] == answers[1] == answers[2]
        assert answers[0]["code"] == BadRequest.code


async def test_a_key_for_an_account_that_may_more_than_the_caller_is_403(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect("oper") as oper, live.connect() as admin:
        for user in ("admin", "view", "nobody-at-all"):
            assert await refused(oper, "register_ssl_cert", pub_key=REGISTERED_KEY, user=user) == Forbidden.code
        # One who administers, and yet holds less than `admin`, makes no way to it either.
        await live.app.auth.accounts.set_role("clerk", ("call:@admin", "call:@read"), ())
        await live.app.auth.accounts.set_roles("view", ("clerk",))
        async with live.connect("view") as clerk:
            assert await refused(clerk, "register_ssl_cert", pub_key=REGISTERED_KEY, user="admin") == Forbidden.code
            assert await refused(clerk, "register_ssl_cert", pub_key=REGISTERED_KEY) == 200
        assert list(await settings(admin, "list_ssl_certs")) == ["view"]


async def test_a_key_is_one_accounts_and_so_many_keys_are_enough(tmp_path: Path) -> None:
    keys = [Keypair.make(tmp_path, "ed25519", f"k{number}") for number in range(3)]
    async with (
        running_app(tmp_path, limits__keys_per_account=2) as live,
        live.connect("oper") as oper,
        live.connect("view") as view,
    ):
        for key in keys[:2]:
            await settings(oper, "register_ssl_cert", pub_key=key.registered)
        assert await refused(oper, "register_ssl_cert", pub_key=keys[2].registered) == 429
        assert await refused(view, "register_ssl_cert", pub_key=keys[0].registered) == 409
        await settings(oper, "register_ssl_cert", pub_key=keys[0].registered, nickname="again")
        assert "again" in (await settings(oper, "list_ssl_certs"))["oper"][keys[0].registered]


async def test_only_administrators_register_certificates(tmp_path: Path) -> None:
    key, other = Keypair.make(tmp_path), Keypair.make(tmp_path, "ed25519", "other")
    certificate, others = make_certificate(key.file).read_text(), make_certificate(other.file).read_text()
    async with running_app(tmp_path) as live, live.connect("oper") as oper, live.connect() as admin:
        args = {"pub_key": key.pem, "certificate": certificate}
        assert await refused(oper, "register_ssl_cert", **args) == 403
        assert await refused(admin, "register_ssl_cert", pub_key=key.pem, certificate=others) == 400
        assert await refused(admin, "register_ssl_cert", pub_key=key.pem, certificate=key.pem) == 400
        assert await refused(admin, "register_ssl_cert", **args, user="oper") == 200
        # A certificate in the key's place is the key in it, which is everybody's to register.
        assert await refused(oper, "register_ssl_cert", pub_key=others) == 200
        (plain,) = (one for one in live.app.auth.keys.of("oper") if one.fingerprint == other.fingerprint)
        assert plain.certificate is None


@pytest.mark.parametrize("kind,reason", [("rsa-1024", "1024 bits"), ("p256", "expected an RSA or Ed25519 key")])
async def test_a_weak_key_is_refused_with_the_reason(tmp_path: Path, kind: str, reason: str) -> None:
    key = Keypair.make(tmp_path, kind)
    async with running_app(tmp_path) as live, live.connect("oper") as peer:
        args = {"action": "register_ssl_cert", "pub_key": key.registered}
        reply = await peer.request("rpc", "settings", args)
        assert reply["args"]["code"] == 400
        assert reason in reply["args"]["message"]


async def test_a_name_cannot_forge_a_line_of_the_listing(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect("oper") as peer:
        args = {"pub_key": REGISTERED_KEY, "nickname": "a\nEmail: forged"}
        assert await refused(peer, "register_ssl_cert", **args) == 400


async def test_keys_outlive_the_server(tmp_path: Path) -> None:
    key = Keypair.make(tmp_path, "ed25519")
    async with running_app(tmp_path) as live, live.connect("oper") as peer:
        await settings(peer, "register_ssl_cert", pub_key=key.pem)
    async with running_app(tmp_path, accounts={}) as live, live.connect("oper") as peer:
        assert await checksums(peer) == [key.checksum]
