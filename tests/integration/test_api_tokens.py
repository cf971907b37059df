"""API tokens against a whole server: on every door, never more than they may, gone at once when they are revoked."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from sysadmd.events.record import Draft
from sysadmd.keys.signing import PrivateKey
from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import Peer, running_server
from tests.integration.test_rest import answer, refused
from tests.unit.rpc.test_engine import pending

LIST = "call:rpc/dispatcher/list"


async def code(peer: Peer, name: str, args: Any = None, namespace: str = "rpc") -> int:
    reply = await peer.request(namespace, name, args)
    return int(reply["args"]["code"]) if reply["name"] == "error" else 200


async def create(peer: Peer, name: str = "monitor", **args: Any) -> dict[str, Any]:
    made: dict[str, Any] = await peer.call("rpc", "tokens", {"action": "create", "name": name, **args})
    return made


async def closed(peer: Peer) -> tuple[int, str]:
    """The code and reason with which the server closes, whatever events come before."""
    try:
        while True:
            await peer.receive()
    except ConnectionClosed as ended:
        return (ended.rcvd.code, ended.rcvd.reason) if ended.rcvd is not None else (1006, "")


async def records(live: LiveApp, kind: str) -> list[dict[str, Any]]:
    """What the trail has of this kind, once everything that was to be written is."""
    await live.app.events.submit(lambda connection: (None, ()))
    found: list[dict[str, Any]] = (await live.app.auth.audit.list(limit=1000, kind=kind))["records"]
    return found


def header(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# Using one


async def test_it_opens_the_websocket_and_rest_and_is_answered_as_any_token(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect("view") as owner, live.connect(login=None) as program:
        made = await create(owner)
        assert await program.call("rpc", "auth_token", {"token": made["token"]}) == [made["token"], 900]
        assert await code(program, "dispatcher", {"action": "list"}) == 200
        assert await code(program, "accounts", {"action": "list"}) == 403
        async with live.http(None) as http:
            called = await http.get("/rpc/dispatcher", json={"action": "list"}, headers=header(made["token"]))
            assert await answer(called) == (200, {"jobs": {}})


async def test_a_confined_one_may_only_what_its_scopes_grant_on_every_door(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect(login=None) as program:
        made = await create(admin, scopes=[LIST])
        await program.call("rpc", "auth_token", {"token": made["token"]})
        assert await code(program, "dispatcher", {"action": "list"}) == 200
        for name, args in (
            ("dispatcher", {"action": "run", "a": "true"}),
            ("accounts", {"action": "list"}),
            ("tokens", {"action": "create", "name": "wider"}),
            ("settings", {"action": "register_ssl_cert", "pub_key": "x"}),
        ):
            assert await code(program, name, args) == 403, name
        assert await code(program, "subscribe", ["dispatcher"], "events") == 403
        async with live.http(None) as http:
            assert await refused(await http.get("/rpc/query", headers=header(made["token"]))) == 403
            stream = await http.get("/api/v1/events?topic=dispatcher", headers=header(made["token"]))
            assert await refused(stream) == 403


async def test_discovery_shows_a_confined_one_what_it_may_call(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect(login=None) as program:
        made = await create(admin, scopes=[LIST, "call:rpc/discover"])
        await program.call("rpc", "auth_token", {"token": made["token"]})
        document = str(await program.call("rpc", "discover"))
        assert "rpc/dispatcher/list" in document
        assert "rpc/dispatcher/run" not in document
        assert "rpc/accounts/add" not in document


async def test_nobody_makes_one_for_another_or_with_more_than_they_may(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect("view") as viewer:
        for args in ({"user": "admin"}, {"scopes": ["call:*"]}, {"scopes": ["call:rpc/dispatcher/run"]}):
            assert await code(viewer, "tokens", {"action": "create", "name": "more", **args}) == 403, args
        assert (await create(viewer, scopes=["call:rpc/dispatcher/list"]))["token"]
        made = await viewer.call("rpc", "tokens", {"action": "list"})
        assert [one["name"] for one in made["tokens"]] == ["monitor"]


async def test_a_confined_one_finds_no_way_out_of_its_bound(tmp_path: Path) -> None:
    """It may call all that makes and changes identities, and each of that would give it more than it has."""
    key = PrivateKey.generate("ed25519").public.registered
    ways: list[tuple[str, dict[str, Any]]] = [
        ("tokens", {"action": "create", "name": "wider"}),
        ("tokens", {"action": "create", "name": "wider", "scopes": ["call:*"]}),
        ("tokens", {"action": "create", "name": "wider", "user": "view"}),
        ("settings", {"action": "register_ssl_cert", "pub_key": key}),
        ("accounts", {"action": "passwd", "name": "admin", "password": "mine from now on"}),
        ("accounts", {"action": "add", "name": "puppet", "password": "mine from now on", "roles": ["admin"]}),
        ("accounts", {"action": "set_roles", "name": "view", "roles": ["admin"]}),
        ("roles", {"action": "set", "name": "viewer", "patterns": ["call:*"]}),
    ]
    scopes = [f"call:rpc/{name}/*" for name in ("accounts", "roles", "settings", "tokens", "sessions")]
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect(login=None) as program:
        made = await create(admin, scopes=scopes)
        await program.call("rpc", "auth_token", {"token": made["token"]})
        for name, args in ways:
            assert await code(program, name, args) == 403, (name, args)
        async with live.connect("view") as viewer:
            found = (await admin.call("rpc", "sessions", {"action": "list"}))["sessions"]
            (theirs,) = [one["id"] for one in found if one["account"] == "view"]
            assert await code(program, "sessions", {"action": "kill", "id": theirs}) == 404
            assert await code(viewer, "query") == 200
        assert (await create(program, "narrower", scopes=["call:rpc/sessions/list"]))["token"]


# Ends


async def test_a_revocation_ends_its_connections_and_no_others_now(tmp_path: Path) -> None:
    async with (
        running_app(tmp_path) as live,
        live.connect() as admin,
        live.connect(login=None) as program,
        live.connect(login=None) as other,
    ):
        gone, kept = await create(admin, "gone"), await create(admin, "kept")
        await program.call("rpc", "auth_token", {"token": gone["token"]})
        await other.call("rpc", "auth_token", {"token": kept["token"]})
        assert await code(admin, "tokens", {"action": "revoke", "id": gone["id"]}) == 200
        assert await closed(program) == (1008, "the identity was revoked")
        assert await code(other, "query") == 200
        async with live.http(None) as http, live.connect(login=None) as late:
            assert await refused(await http.get("/rpc/query", headers=header(gone["token"]))) == 401
            assert await code(late, "auth_token", {"token": gone["token"]}) == 401


async def test_what_is_another_s_is_not_there_for_who_does_not_administer(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect("view") as viewer:
        theirs, mine = await create(admin, "theirs"), await create(viewer, "mine")
        replies = [
            (await viewer.request("rpc", "tokens", {"action": "revoke", "id": one}))["args"]
            for one in (theirs["id"], "000000000000")
        ]
        assert replies[0] == replies[1]
        assert replies[0]["code"] == 404
        assert await code(admin, "tokens", {"action": "revoke", "id": mine["id"]}) == 200


async def test_logging_out_and_in_again_leaves_it_good(tmp_path: Path) -> None:
    async with (
        running_app(tmp_path) as live,
        live.connect() as admin,
        live.connect(login=None) as program,
        live.connect(login=None) as other,
    ):
        token = (await create(admin))["token"]
        for peer in (program, other):
            await peer.call("rpc", "auth_token", {"token": token})
        assert await code(program, "auth_token", {"token": token}) == 200
        await program.call("rpc", "auth_clear")
        assert await code(program, "query") == 401
        assert await code(program, "auth_token", {"token": token}) == 200
        await program.login("view")
        assert await code(other, "query") == 200
        async with live.http(None) as http:
            await http.post("/rpc/auth_clear", headers=header(token))
            assert (await http.get("/rpc/query", headers=header(token))).status == 200


ENDINGS: list[dict[str, Any]] = [
    {"action": "passwd", "password": "another one"},
    {"action": "set_disabled", "disabled": True},
    {"action": "remove"},
]


@pytest.mark.parametrize("how", ENDINGS, ids=[one["action"] for one in ENDINGS])
async def test_it_ends_with_the_password_and_the_account_and_so_do_its_connections(
    tmp_path: Path, how: dict[str, Any]
) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect(login=None) as program:
        made = await create(admin, user="view", scopes=["event:*", LIST])
        await program.call("rpc", "auth_token", {"token": made["token"]})
        await admin.call("rpc", "accounts", {**how, "name": "view"})
        assert await closed(program) == (1008, "the identity was revoked")
        async with live.connect(login=None) as late:
            assert await code(late, "auth_token", {"token": made["token"]}) == 401
        assert await admin.call("rpc", "tokens", {"action": "list"}) == {"tokens": []}


async def test_changed_roles_reach_an_open_connection_and_its_bound_stays(tmp_path: Path) -> None:
    accounts = {"admin": ("admin",), "robot": ("admin",)}
    scopes = ["call:rpc/dispatcher/list", "call:rpc/dispatcher/kill", "call:events/subscribe", "event:dispatcher"]
    async with (
        running_app(tmp_path, accounts=accounts) as live,
        live.connect() as admin,
        live.connect(login=None) as program,
    ):
        made = await create(admin, user="robot", scopes=scopes)
        await program.call("rpc", "auth_token", {"token": made["token"]})
        await program.call("events", "subscribe", ["dispatcher"])
        for roles, kill in (("viewer", 403), ("admin", 200)):
            await admin.call("rpc", "accounts", {"action": "set_roles", "name": "robot", "roles": [roles]})
            assert await code(program, "dispatcher", {"action": "kill", "job_id": "none"}) == kill
            assert await code(program, "dispatcher", {"action": "list"}) == 200
            assert await code(program, "accounts", {"action": "list"}) == 403
            live.app.events.publish(Draft("dispatcher", pending(roles), durable=False))
            assert (await program.event(bool))["args"]["process_id"] == roles
        await admin.call("rpc", "accounts", {"action": "set_roles", "name": "robot", "roles": []})
        live.app.events.publish(Draft("dispatcher", pending("unseen"), durable=False))
        assert await code(program, "dispatcher", {"action": "list"}) == 403
        assert program.events == []


# Guesses (spec sysadm §3.8(1)(5), spec job-queues §4.3)


async def test_nothing_but_the_whole_token_opens_anything(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect(login=None) as stranger:
        made = await create(admin)
        token = made["token"]
        wrong = ["", " ", token[:-1], token[1:], token[:16], token.swapcase(), token + "\0", token[:-1] + "\0", "\0"]
        wrong += [f" {token}", f"{token}\n", token * 2, made["id"], made["name"], "admin", "*" * 32, "%" * 32]
        for guess in wrong:
            assert await code(stranger, "auth_token", {"token": guess}) == 401, guess
            assert await code(stranger, "query") == 401
        for value in (None, 0, True, [], [token], {"token": token}):
            assert await code(stranger, "auth_token", {"token": value}) == 400, value
        assert await code(stranger, "auth_token", {"token": token}) == 200


async def test_a_failed_one_is_in_the_trail_on_every_door_and_a_bearer_that_holds_is_not(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect(login=None) as program:
        made, guess = await create(admin), "x" * 32
        assert await code(program, "auth_token", {"token": guess}) == 401
        async with live.http(None) as http:
            assert await refused(await http.get("/rpc/query", headers=header(guess))) == 401
            failed = await records(live, "login_failed")
            assert [(one["method"], one["via"]) for one in failed] == [("token", "tcp"), ("token", "rest")]
            before = await records(live, "login")
            for _ in range(5):
                assert (await http.get("/rpc/query", headers=header(made["token"]))).status == 200
            assert await records(live, "login") == before
        await program.call("rpc", "auth_token", {"token": made["token"]})
        last = (await records(live, "login"))[-1]
        assert (last["account"], last["method"], last["via"]) == ("admin", "token", "tcp")
        assert guess not in str(failed)


async def test_who_made_and_revoked_which_is_in_the_trail_without_the_token(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin:
        made = await create(admin, user="view", scopes=[LIST])
        await admin.call("rpc", "tokens", {"action": "revoke", "id": made["id"]})
        assert await code(admin, "tokens", {"action": "create", "name": "ghost", "user": "nobody"}) == 404
        create_record, revoke_record, refused_record = await records(live, "call")
        (failed,) = await records(live, "failed")
    assert create_record["account"] == "admin"
    assert create_record["args"] == {"name": "monitor", "user": "view", "scopes": [LIST]}
    assert (revoke_record["method"], revoke_record["args"]) == ("rpc/tokens/revoke", {"id": made["id"]})
    assert (failed["n"], failed["code"]) == (refused_record["n"], 404)
    assert made["token"] not in str((create_record, revoke_record))


async def test_wrong_tokens_lock_nobody_out(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect(login=None) as stranger:
        made = await create(admin)
        for _ in range(live.app.config.limits.login_failures + 1):
            assert await code(stranger, "auth_token", {"token": "x" * 32}) == 401
        assert await code(stranger, "auth_token", {"token": made["token"]}) == 200


async def test_no_token_is_in_the_log_in_the_trail_or_anywhere_in_the_database(tmp_path: Path) -> None:
    async with running_server(tmp_path, config='[log]\nlevel = "debug"\n') as server, server.connect() as admin:
        made = await create(admin, scopes=["call:*"])
        guess = "Guess0123456789Guess0123456789Zz"
        async with server.connect(None) as program:
            assert await code(program, "auth_token", {"token": guess}) == 401
            login = await program.login()
            assert await code(program, "auth_token", {"token": made["token"]}) == 200
            # Who takes the token for its id has not told it to anybody.
            assert await code(program, "tokens", {"action": "revoke", "id": made["token"]}) == 400
            assert await code(program, "tokens", {"action": "revoke", "id": made["id"]}) == 200
        trail = await admin.call("rpc", "audit", {"action": "list", "limit": 1000})
        assert {one["kind"] for one in trail["records"]} >= {"login", "login_failed", "call"}
        await server.end()
        files = [server.log_file, *(one for one in server.state_dir.rglob("*") if one.is_file())]
        secrets = (guess, login, made["token"])
        assert [one.name for one in files for secret in secrets if secret.encode() in one.read_bytes()] == []
        assert server.log_file.stat().st_size > 0


async def test_a_token_that_ends_by_its_time_ends_its_connection(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as admin, live.connect(login=None) as program:
        made = await create(admin, expires=1)
        await program.call("rpc", "auth_token", {"token": made["token"]})
        async with asyncio.timeout(10):
            assert await closed(program) in {(1008, "the session expired"), (1008, "the identity was revoked")}
        async with live.connect(login=None) as late:
            assert await code(late, "auth_token", {"token": made["token"]}) == 401
