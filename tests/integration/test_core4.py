"""core4's API over real sockets: log-in, roles, profile, permissions, and what its original did wrong."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.integration.apps import running_app
from tests.integration.core4_client import HISTORY, Api, logged_in, user
from tests.integration.servers import PASSWORD, running_server


def authorization(name: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


# Log-in


@pytest.mark.parametrize("path", ["/core4/api/login", "/core4/api/v1/login"])
async def test_each_way_to_log_in_gives_a_token(tmp_path: Path, path: str) -> None:
    credentials = {"username": "admin", "password": PASSWORD}
    async with running_app(tmp_path) as live:
        api = Api(live)
        ways: list[dict[str, Any]] = [
            {"verb": "GET", "params": credentials},
            {"verb": "POST", "json": credentials},
            {"verb": "POST", "json": {"username": "admin", "passwd": PASSWORD}},
            {"verb": "POST", "data": credentials},
            {"verb": "GET", "headers": authorization("admin", PASSWORD)},
        ]
        for way in ways:
            token = (await api.data(way.pop("verb"), path, **way))["token"]
            assert (await Api(live, token).get("profile"))["data"]["name"] == "admin"
            assert (await api.get("profile", token=token))["data"]["name"] == "admin"


async def test_a_log_in_by_a_token_returns_that_token(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        assert (await admin.get("login"))["data"]["token"] == admin.token
        assert (await Api(live).get("login", token=admin.token))["data"]["token"] == admin.token


async def test_a_confined_token_does_not_become_a_whole_one(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, live.connect() as peer:
        args = {"action": "create", "name": "narrow", "scopes": ["call:core4/core4.api.v1.request.standard*/read"]}
        made = await peer.call("rpc", "tokens", args)
        narrow = Api(live, made["token"])
        assert (await narrow.get("login"))["data"]["token"] == made["token"]
        assert (await narrow.get("profile"))["code"] == 200
        assert (await narrow.get("roles"))["code"] == 403


async def test_nobody_is_told_401_and_sent_nowhere(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        for path in ("profile", "roles", "jobs/history", "event/history", "login", "logout"):
            body = await Api(live).get(path)
            assert (body["code"], body["message"]) == (401, "Unauthorized")
        async with aiohttp.ClientSession() as http:
            answer = await http.get(f"{live.rest_url}/core4/api/v1/profile", allow_redirects=False)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"].startswith("Basic")


@pytest.mark.parametrize("token", ["", "x", "eyJhbGciOiJub25lIn0.e30.", "a" * 32])
async def test_a_token_that_is_none_is_401(tmp_path: Path, token: str) -> None:
    async with running_app(tmp_path) as live:
        assert (await Api(live).get("profile", token=token))["code"] == 401
        assert (await Api(live, token or "-").get("profile"))["code"] == 401


async def test_a_log_out_ends_the_token(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        assert (await admin.post("logout"))["code"] == 200
        assert (await admin.get("profile"))["code"] == 401
        assert (await Api(live).get("profile", token=admin.token))["code"] == 401


async def test_foreign_pages_may_not_call(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        body = await admin.ask("GET", "profile", headers={"Origin": "https://evil.example"})
        assert body["code"] == 403


async def test_a_secret_of_a_query_is_in_no_log_and_no_file(tmp_path: Path) -> None:
    secret, wrong = "tokenintheurlofarequest", "a wrong pass phrase"
    async with running_server(tmp_path, config='[log]\nlevel = "debug"\n') as server, aiohttp.ClientSession() as http:
        base = f"{server.rest_url}/core4/api/v1"
        good = await (await http.get(f"{base}/login", params={"username": "admin", "password": PASSWORD})).json()
        token = good["data"]["token"]
        await http.get(f"{base}/login", params={"username": "admin", "password": wrong})
        await http.get(f"{base}/nowhere", params={"token": secret, "passwd": secret})
        await http.get(f"{base}/event", params={"token": secret})
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await http.ws_connect(f"{base}/event", params={"token": secret})
        socket = await http.ws_connect(f"{base}/event", params={"token": token})
        await socket.close()
        made = {"name": "ada", "password": "chosen for ada", "email": "ada@example.org"}
        answer = await http.post(f"{base}/roles", params={"token": token}, json=made)
        assert answer.status == 200
        log = server.log_file.read_bytes()
        files = {path: path.read_bytes() for path in server.state_dir.rglob("*") if path.is_file()}
    for place, data in {Path("log"): log, **files}.items():
        for one in (secret, wrong, token, PASSWORD, "chosen for ada"):
            assert one.encode() not in data, (place, one)
    assert any(b"core4/core4.api.v1.request.role.main.RoleHandler/create" in data for data in files.values())


# Errors


async def test_the_paths_that_one_may_call_are_described(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        described = {}
        for account in (None, "view", "admin"):
            async with live.http(account) as http:
                document = await (await http.get("/openapi.json")).json()
            described[account] = {
                (verb, path.removeprefix("/core4/api")): operation
                for path, item in document["paths"].items()
                if path.startswith("/core4/")
                for verb, operation in item.items()
            }
        assert {path for _, path in described[None]} == {"/login", "/v1/login", "/logout", "/v1/logout"}
        assert ("get", "/v1/job") in described["view"]
        assert ("post", "/v1/job") not in described["view"]
        assert ("delete", "/v1/roles/{key}/{etag}") in described["admin"]
        page = described["admin"]["get", "/v1/roles"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert "page_count" in page["properties"]
        assert all(operation["summary"] for operation in described["admin"].values())


async def test_a_fault_of_ours_tells_no_details(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)

        async def broken(look: Any) -> Any:
            raise ValueError("a secret of the inside")

        monkeypatch.setattr(live.app.auth.accounts, "read", broken)
        body = await admin.get("roles")
        assert (body["code"], body["error"]) == (500, "Internal Server Error")


async def test_paths_and_verbs_that_are_none(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        assert (await admin.get("nowhere"))["code"] == 404
        assert (await admin.ask("PATCH", "roles"))["code"] == 405
        assert (await admin.ask("DELETE", "profile"))["code"] == 405


@pytest.mark.parametrize("body", ["[1]", "{", "7", '{"a":' * 40 + "1" + "}" * 40])
async def test_a_body_that_is_none_is_400(tmp_path: Path, body: str) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        assert (await admin.ask("POST", "roles", data=body.encode()))["code"] == 400


async def test_a_stranger_may_send_little(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        assert (await Api(live).post("login", username="x" * 9000))["code"] == 413


# Roles


async def test_a_user_is_made_with_either_word_for_the_password(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        for word in ("password", "passwd"):
            body = await admin.post("roles", name=word, email=f"{word}@example.org", **{word: "chosen by hand"})
            assert body["code"] == 200
            assert "chosen by hand" not in json.dumps(body)
            await logged_in(live, word, "chosen by hand")


async def test_a_user_is_shown_in_the_words_that_it_was_made_with(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        await user(live, "test", HISTORY, "job://a.Job/x")
        admin = await logged_in(live)
        (one,) = [row for row in (await admin.get("roles", per_page=100))["data"] if row["name"] == "test"]
        assert (one["role"], one["perm"]) == (["standard_user"], [HISTORY, "job://a.Job/x"])
        assert (one["realname"], one["email"], one["is_active"]) == ("Test User", "test@example.org", True)
        detail = (await admin.get(f"roles/{one['_id']}"))["data"]
        assert detail["role_total"] == ["standard_user"]
        assert "api://core4.api.v1.request.standard.*" in detail["perm_total"]
        assert (await admin.get("roles/test"))["data"] == detail
        assert "test" in (await admin.get("roles/distinct"))["data"]


async def test_roles_come_in_pages(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        whole = await admin.get("roles", per_page=100)
        names = [row["name"] for row in whole["data"]]
        assert whole["total_count"] == len(names)
        pages = [await admin.get("roles", per_page=2, page=page) for page in range(whole["count"])]
        assert [row["name"] for page in pages for row in page["data"]] == names
        last = await admin.get("roles", per_page=2, page=-1)
        assert last["data"][-1]["name"] == names[-1]
        assert last["page"] == last["page_count"] - 1
        backwards = await admin.get("roles", per_page=100, order=-1)
        assert [row["name"] for row in backwards["data"]] == names[::-1]
        for wrong in ({"per_page": 0}, {"page": "x"}, {"sort": "password"}, {"per_page": 1001}):
            assert (await admin.get("roles", **wrong))["code"] == 400


async def test_a_change_says_which_version_it_changes(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        await user(live)
        admin = await logged_in(live)
        one = (await admin.get("roles/test"))["data"]
        assert (await admin.put(f"roles/{one['_id']}", realname="x"))["code"] == 400
        assert (await admin.put(f"roles/{one['_id']}", realname="x", etag="f" * 24))["code"] == 400
        same = await admin.put(f"roles/{one['_id']}", realname="Test User", etag=one["etag"])
        assert same["data"] == "no changes"
        after = (await admin.put(f"roles/{one['_id']}", realname="Other", etag=one["etag"]))["data"]
        assert (after["realname"], after["etag"] != one["etag"], after["_id"]) == ("Other", True, one["_id"])
        assert (await admin.put(f"roles/{one['_id']}", realname="y", etag=one["etag"]))["code"] == 400
        assert (await admin.put(f"roles/{one['_id']}", name="renamed", etag=after["etag"]))["code"] == 400


@pytest.mark.parametrize("form", ["query", "path"])
async def test_a_role_that_is_removed_is_taken_from_all(tmp_path: Path, form: str) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        one = (await admin.post("roles", name="readers", perm=["job://a.*/r"]))["data"]
        assert "email" not in one
        await user(live, "test", role=("readers",))
        stale = await admin.delete(f"roles/{one['_id']}", etag="0" * 24)
        assert stale["code"] == 400
        if form == "query":
            gone = await admin.delete(f"roles/{one['_id']}", etag=one["etag"])
        else:
            gone = await admin.delete(f"roles/{one['_id']}/{one['etag']}")
        assert gone["data"] is True
        assert (await admin.get("roles/test"))["data"]["role"] == []
        assert (await admin.get(f"roles/{one['_id']}"))["code"] == 404


@pytest.mark.parametrize(
    "given,code",
    [
        ({}, 400),
        ({"name": "two words"}, 400),
        ({"name": "test"}, 400),
        ({"name": "operator"}, 400),
        ({"name": "new", "email": "test@example.org"}, 400),
        ({"name": "new", "email": "nowhere"}, 400),
        ({"name": "new", "role": ["emperor"]}, 404),
        ({"name": "new", "role": "emperor"}, 400),
        ({"name": "new", "perm": ["api://a(b|c)"]}, 400),
        ({"name": "new", "perm": ["nonsense"]}, 400),
        ({"name": {"$ne": None}}, 400),
        ({"name": "new", "password": ""}, 400),
    ],
)
async def test_what_cannot_be_made_is_refused(tmp_path: Path, given: dict[str, Any], code: int) -> None:
    async with running_app(tmp_path) as live:
        await user(live)
        admin = await logged_in(live)
        body = await admin.post("roles", **given)
        assert body["code"] == code
        assert "new" not in (await admin.get("roles/distinct"))["data"]


async def test_who_is_made_inactive_is_out_at_once(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        test = await user(live)
        admin = await logged_in(live)
        etag = (await admin.get("roles/test"))["data"]["etag"]
        assert (await admin.put("roles/test", is_active=False, etag=etag))["data"]["is_active"] is False
        assert (await test.get("profile"))["code"] == 401
        assert (await Api(live).get("login", username="test", password=PASSWORD))["code"] == 401


# Profile


async def test_ones_own_profile(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        test = await user(live, "test", HISTORY)
        own = (await test.get("profile"))["data"]
        assert (own["name"], own["role_total"]) == ("test", ["standard_user"])
        assert HISTORY in own["perm_total"]
        assert own["token_expires"] is not None
        after = (await test.put("profile", realname="Ada", etag=own["etag"]))["data"]
        assert after["realname"] == "Ada"
        for word, value in (("perm", ["cop"]), ("role", ["admin"]), ("is_active", False)):
            assert (await test.put("profile", etag=after["etag"], **{word: value}))["code"] == 400


async def test_a_new_password_needs_the_present_one(tmp_path: Path) -> None:
    """There, whoever holds a token sets the password by it."""
    async with running_app(tmp_path) as live:
        test = await user(live)
        etag = (await test.get("profile"))["data"]["etag"]
        new = {"password": "chosen by a thief", "etag": etag}
        assert (await test.put("profile", **new))["code"] == 400
        assert (await test.put("profile", **new, current_password="a guess"))["code"] == 400
        assert (await test.put("login", token=test.token, password="chosen by a thief"))["code"] == 400
        assert (await test.put("profile", **new, current_password=PASSWORD))["code"] == 200
        assert (await test.get("profile"))["code"] == 401  # a new password ends every token
        await logged_in(live, "test", "chosen by a thief")


async def test_a_user_called_like_an_id_is_not_taken_for_whom_it_names(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        made = [(await admin.post("roles", name=f"v{n}"))["data"] for n in range(20)]
        victim = next(one for one in made if one["_id"][0].isalpha())  # an account's name begins with a letter
        sneaky = await user(live, victim["_id"], HISTORY)
        own = (await sneaky.get("profile"))["data"]
        assert (own["name"], own["perm"]) == (victim["_id"], [HISTORY])
        assert (await sneaky.put("profile", realname="mine now", etag=victim["etag"]))["code"] == 400
        assert (await sneaky.put("profile", realname="my own", etag=own["etag"]))["code"] == 200
        assert (await admin.get(f"roles/{victim['name']}"))["data"]["realname"] == ""


# Permissions, in both directions


async def test_a_permission_opens_its_handler_and_no_other(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        with_it, without = await user(live, "test", HISTORY), await user(live, "other")
        assert (await with_it.get("jobs/history"))["code"] == 200
        assert (await without.get("jobs/history"))["code"] == 403
        for api in (with_it, without):
            assert (await api.get("event/history"))["code"] == 200
            assert (await api.get("profile"))["code"] == 200
            assert (await api.get("roles"))["code"] == 403
            assert (await api.post("roles", name="puppet"))["code"] == 403


@pytest.mark.parametrize(
    "perm,get,post",
    [
        ("api://core4.api.v1.request.role.main.RoleHandler/r", 200, 403),
        ("api://core4.api.v1.request.role.main.RoleHandler/c", 403, 200),
        ("api://core4.api.v1.request.role.RoleHandler", 200, 200),
        ("api://core4.api.v1.request.role.*", 200, 200),
        ("api://core4.api.v1.request.role.main.RoleHandlerX", 403, 403),
        ("api://core4.api.v1.request.rol", 403, 403),
        ("cop", 200, 200),
    ],
)
async def test_a_letter_is_a_verb(tmp_path: Path, perm: str, get: int, post: int) -> None:
    async with running_app(tmp_path) as live:
        api = await user(live, "test", perm, role=())
        assert (await api.get("roles"))["code"] == get
        assert (await api.post("roles", name="nothing"))["code"] == post


async def test_our_own_roles_open_what_is_like_their_methods(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        for name, roles in (("admin", 200), ("oper", 403), ("view", 403), ("nobody-much", 403)):
            assert (await (await logged_in(live, name)).get("roles"))["code"] == roles
        for name, history in (("oper", 200), ("view", 200), ("nobody-much", 403)):
            assert (await (await logged_in(live, name)).get("jobs/history"))["code"] == history


# What the original did wrong


async def test_who_edits_roles_grants_no_more_than_they_hold(tmp_path: Path) -> None:
    clerk_may = "api://core4.api.v1.request.role.*"
    async with running_app(tmp_path) as live:
        clerk = await user(live, "clerk", clerk_may)
        for perm, role in ((["cop"], []), ([], ["admin"]), (["job://a/x"], []), ([], ["operator"])):
            body = await clerk.post("roles", name="puppet", password=PASSWORD, perm=perm, role=role)
            assert body["code"] == 403, body
        own = (await clerk.get("roles/clerk"))["data"]
        assert (await clerk.put("roles/clerk", perm=["cop"], etag=own["etag"]))["code"] == 403
        chief = (await clerk.get("roles/admin"))["data"]
        takeover = await clerk.put("roles/admin", password="long enough", etag=chief["etag"])
        assert takeover["code"] == 403
        assert (await clerk.delete("roles/admin", etag=chief["etag"]))["code"] == 403
        assert (await clerk.post("roles", name="peer", perm=[clerk_may]))["code"] == 200
        await logged_in(live)


async def test_a_name_is_no_pattern(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        await user(live, "test_role")
        await user(live, "test")
        for name in ("adm", "ADMIN", ".*", "a.min", "tes", "^admin$", "admin|test", "", "%"):
            assert (await Api(live).get("login", username=name, password=PASSWORD))["code"] == 401, name
        assert (await (await logged_in(live, "test")).get("profile"))["data"]["name"] == "test"


async def test_what_is_inherited_does_not_become_ones_own(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        inner = (await admin.post("roles", name="inner", perm=[HISTORY]))["data"]
        test = await user(live, "test", role=("inner", "standard_user"))
        assert (await test.get("jobs/history"))["code"] == 200
        own = (await test.get("profile"))["data"]
        await test.put("profile", realname="saved once more", etag=own["etag"])
        await admin.put(f"roles/{inner['_id']}", perm=[], etag=inner["etag"])
        assert (await test.get("jobs/history"))["code"] == 403
        assert (await test.get("profile"))["data"]["perm"] == []


OPERATORS: list[Any] = [
    {"$where": "true"},
    {"channel": {"$ne": "x"}},
    {"channel": ["message", "queue"]},
    {"data": "x"},
    {"created": {"$gt": ""}},
    ["channel"],
]


@pytest.mark.parametrize("path", ["jobs/history", "event/history"])
async def test_a_filter_is_no_query(tmp_path: Path, path: str) -> None:
    async with running_app(tmp_path) as live:
        admin = await logged_in(live)
        for wanted in OPERATORS:
            assert (await admin.get(path, filter=json.dumps(wanted)))["code"] == 400, wanted
            assert (await admin.post(path, filter=wanted))["code"] == 400, wanted


async def test_a_filter_does_not_reach_into_another_history(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        test = await user(live)
        for channel in ("queue", "system"):
            assert (await test.get("event/history", filter=json.dumps({"channel": channel})))["data"] == []


async def test_a_fresh_server_has_no_account(tmp_path: Path) -> None:
    async with running_app(tmp_path, accounts={}) as live:
        for name, password in (("admin", "hans"), ("admin", "admin"), ("admin", "secret"), ("admin", "")):
            assert (await Api(live).get("login", username=name, password=password))["code"] == 401


async def test_no_other_origin_may_read_the_answers(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, aiohttp.ClientSession() as http:
        token = (await logged_in(live)).token
        for verb in ("GET", "HEAD", "OPTIONS"):
            for origin in ("https://evil.example", "null", live.rest_url):
                headers = {"Authorization": f"Bearer {token}", "Origin": origin}
                answer = await http.request(verb, f"{live.rest_url}/core4/api/v1/profile", headers=headers)
                assert not [name for name in answer.headers if name.lower().startswith("access-control")]
                allowed = 405 if verb == "OPTIONS" else 200 if origin == live.rest_url else 403
                assert answer.status == allowed, (verb, origin)
