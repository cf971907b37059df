"""The classic dialect: vectors captured from the original programs (spec sysadm §2, §5, A6)."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from sysadmd.errors import (
    BadRequest,
    Conflict,
    Forbidden,
    InternalError,
    NotFound,
    RpcError,
    TooManyRequests,
    Unauthorized,
    WireError,
)
from sysadmd.wire import CLASSIC, Meta, Request, decode
from sysadmd.wire.classic import MESSAGES, stringified


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def request(text: str) -> Request:
    frame = decode(text, classic=True)
    assert frame.dialect is CLASSIC
    (entry,) = frame.entries
    assert isinstance(entry, Request), entry
    return entry


def answer_to(text: str) -> bytes:
    frame = decode(text, classic=True)
    (entry,) = frame.entries
    assert isinstance(entry, WireError)
    return frame.dialect.error(None, entry)


def frames(topic: str, data: Any) -> list[Any]:
    return [json.loads(frame) for frame in CLASSIC.event(topic, data)]


# The start-up of the graphical client, as captured


@pytest.mark.parametrize(
    "sent,result,received",
    [
        (
            '{"args":"","id":"sysadm_client_identify","name":"identify","namespace":"rpc"}',
            {"hostname": "vm", "type": "server"},
            '{"args":{"hostname":"vm","type":"server"},"id":"sysadm_client_identify","name":"response","namespace":"rpc"}',
        ),
        (
            '{"args":{"password":"","username":"alice"},"id":"sysadm-client-auth-auto","name":"auth","namespace":"rpc"}',
            ["6fyTCUHeu0qfqxL5Vh96", 900],
            '{"args":["6fyTCUHeu0qfqxL5Vh96",900],"id":"sysadm-client-auth-auto","name":"response","namespace":"rpc"}',
        ),
        (
            '{"args":"simple-query","id":"cp_client_auto_query_id","name":"query","namespace":"rpc"}',
            {"rpc/dispatcher": "read/write", "rpc/accounts": "read"},
            (
                '{"args":{"rpc/accounts":"read","rpc/dispatcher":"read/write"},'
                '"id":"cp_client_auto_query_id","name":"response","namespace":"rpc"}'
            ),
        ),
        (
            '{"args":"system-state","id":"sysadm-client-event-auto","name":"subscribe","namespace":"events"}',
            {"subscribe": "system-state"},
            (
                '{"args":{"subscribe":"system-state"},'
                '"id":"sysadm-client-event-auto","name":"response","namespace":"events"}'
            ),
        ),
    ],
)
def test_the_start_of_the_graphical_client(sent: str, result: Any, received: str) -> None:
    assert CLASSIC.reply(request(sent), result).decode() == received


def test_the_replayed_system_state() -> None:
    data = {"hostname": "goldhost", "hostnamechanged": False, "priority": 9, "zpools": {}}
    assert CLASSIC.event("system_state", data) == [
        (
            b'{"args":{"hostname":"goldhost","priority":"9 - Urgent","zpools":{}},'
            b'"id":"","name":"system-state","namespace":"events"}'
        )
    ]


# Requests


def test_a_request_without_an_id_is_answered_by_its_own_name() -> None:
    text = CLASSIC.reply(request('{"namespace":"rpc","name":"query","args":{}}'), {})
    assert text == b'{"args":{},"id":"","name":"query","namespace":"rpc"}'


@pytest.mark.parametrize("value", ["7", "null", "true", "[1]", "{}"])
def test_an_id_that_is_no_string_is_empty(value: str) -> None:
    assert request(f'{{"namespace":"rpc","name":"query","id":{value},"args":{{}}}}').id == ""


def test_without_args_the_other_keys_are_the_arguments() -> None:
    found = request('{"namespace":"sysadm","name":"fs","id":"x","action":"dirlist","dir":"/"}')
    assert (found.action, found.args) == ("dirlist", {"dir": "/"})


def test_the_namespace_keeps_its_spelling() -> None:
    text = CLASSIC.reply(request('{"namespace":"SysAdm","name":"FS","id":"x","args":{}}'), {})
    assert json.loads(text)["namespace"] == "SysAdm"


def test_jobs_of_another_type_are_left_out() -> None:
    args = {"action": "run", "a": "date", "b": ["ls", 5, "id"], "c": 7, "d": {"commands": "x"}, "e": None}
    found = request(json.dumps({"namespace": "rpc", "name": "Dispatcher", "id": "x", "args": args}))
    assert found.args == {"a": "date", "b": ["ls", "id"]}


def test_arguments_of_other_methods_stay_as_they_are() -> None:
    found = request('{"namespace":"rpc","name":"dispatcher","id":"x","args":{"action":"kill","job_id":5}}')
    assert found.args == {"job_id": 5}


@pytest.mark.parametrize(
    "args,left",
    [
        ("dispatcher", ["dispatcher"]),
        (["weather", "dispatcher", 5, "life-preserver"], ["dispatcher", "life-preserver"]),
        (["system_state"], ["system_state"]),
        (["weather"], {"topics": []}),
        ("weather", {"topics": []}),
        (["queue", "workqueue"], {"topics": []}),
        ([], []),
        (5, 5),
    ],
)
@pytest.mark.parametrize("name", ["subscribe", "unsubscribe"])
def test_unknown_topics_are_left_out(name: str, args: Any, left: Any) -> None:
    found = request(json.dumps({"namespace": "events", "name": name, "id": "x", "args": args}))
    assert found.args == left


# Errors


@pytest.mark.parametrize(
    "text,request_id",
    [
        ("{bad json}", ""),
        ('{"id":"x"}', "x"),
        ("garbage", ""),
        ('{"id":7}', ""),
        ('{"namespace":"","name":"a","id":"x"}', "x"),
    ],
)
def test_a_frame_that_is_no_request(text: str, request_id: str) -> None:
    assert answer_to(text).decode() == (
        f'{{"args":{{"code":"400","message":"Bad Request"}},"id":"{request_id}","name":"error","namespace":"error"}}'
    )


def test_an_error_as_captured() -> None:
    asked = Request("rpc", "query", None, "q1", {})
    assert CLASSIC.error(asked, Unauthorized("whatever we would say")) == (
        b'{"args":{"code":"401","message":"Unauthorized"},"id":"q1","name":"error","namespace":"error"}'
    )


@pytest.mark.parametrize(
    "error,code",
    [
        (BadRequest("x"), "400"),
        (Forbidden(), "403"),
        (NotFound(), "404"),
        (Conflict(), "400"),
        (TooManyRequests(), "400"),
        (InternalError(), "400"),
    ],
)
def test_only_the_codes_of_the_originals_are_sent(error: RpcError, code: str) -> None:
    args = json.loads(CLASSIC.error(Request("a", "b", None, "x", {}), error))["args"]
    assert args == {"code": code, "message": MESSAGES[int(code)]}


def test_logging_out_is_not_answered() -> None:
    assert CLASSIC.reply(Request("rpc", "auth_clear", None, "x", {}), {}) == b""


# Values


class Figures(msgspec.Struct):
    """What services hand over besides plain objects."""

    calls: int
    which: list[bool]


@pytest.mark.parametrize(
    "value,text",
    [
        (True, "true"),
        (False, "false"),
        (None, ""),
        (7, "7"),
        (2.0, "2"),
        (2.5, "2.5"),
        (1e300, "1e+300"),
        ("x", "x"),
        ([1, [True]], ["1", ["true"]]),
        ({"b": 1, "a": {"d": None, "c": 2}}, {"b": "1", "a": {"d": "", "c": "2"}}),
        ([Figures(7, [True])], [{"calls": "7", "which": ["true"]}]),
    ],
)
def test_scalars_become_strings(value: Any, text: Any) -> None:
    assert stringified(value) == text


def test_keys_are_sorted_at_every_level() -> None:
    text = CLASSIC.reply(Request("a", "b", None, "x", {}), {"b": 1, "a": {"d": 1, "c": 2}})
    assert text.startswith(b'{"args":{"a":{"c":"2","d":"1"},"b":"1"}')


# Events


def test_life_preserver_has_a_hyphen_and_a_dash() -> None:
    (frame,) = frames("life_preserver", {"message": "m", "priority": 7, "class": "replication"})
    assert frame == {
        "args": {"class": "replication", "message": "m", "priority": "7 - Critical"},
        "id": "",
        "name": "life-preserver",
        "namespace": "events",
    }


def test_pools_have_a_priority_too() -> None:
    pool = {"health": "DEGRADED", "priority": 9}
    data = {"hostname": "h", "hostnamechanged": True, "priority": 9, "zpools": {"tank": pool}}
    (frame,) = frames("system_state", data)
    assert frame["args"] == {
        "hostname": "h",
        "hostnamechanged": "true",
        "priority": "9 - Urgent",
        "zpools": {"tank": {"health": "DEGRADED", "priority": "9 - Urgent"}},
    }


def test_the_resume_token_has_no_place() -> None:
    data = {"message": "m", "priority": 1, "class": "snapshot"}
    assert CLASSIC.event("life_preserver", data, Meta("e", 1, 1.0, "n")) == CLASSIC.event("life_preserver", data)


DETAILS = {
    "state": "running",
    "process_id": "p",
    "time_started": 1_795_316_400.9,
    "cmd_list": ["a", "b"],
    "current_cmd": "a",
}


def phase(name: str, *, system: str | None, details: Any = DETAILS, update: Any = None, extra: Any = None) -> list[Any]:
    data = {
        "phase": name,
        "process_id": "p",
        "event_system": system,
        "extra": extra or {},
        "details": details,
        "update": update,
    }
    return [frame["args"] for frame in frames("dispatcher", data)]


def test_a_raw_job_tells_that_it_runs_and_how_it_ended() -> None:
    ended = {**DETAILS, "state": "finished", "time_finished": 1_795_316_401.0, "a": "out", "return_codes/a": 0}
    del ended["current_cmd"]
    told = [phase(name, system=None) for name in ("pending", "waiting", "started", "output", "command")]
    assert told == [[], [], [{"process_id": "p", "state": "running"}], [], []]
    assert phase("finished", system=None, details=ended) == [
        {
            "a": "out",
            "cmd_list": ["a", "b"],
            "process_id": "p",
            "return_codes/a": "0",
            "state": "finished",
            "time_finished": "2026-11-22T04:00:01",
            "time_started": "2026-11-22T04:00:00",
        }
    ]


@pytest.mark.parametrize("name", ["pending", "waiting"])
def test_a_typed_job_tells_that_it_waits(name: str) -> None:
    details = {"state": "pending", "process_id": "p", "cmd_list": ["a"]}
    (args,) = phase(name, system="sysadm/pkg", details=details, extra={"action": "pkg_install"})
    assert args == {
        "action": "pkg_install",
        "event_system": "sysadm/pkg",
        "process_details": details,
        "state": "pending",
    }


def test_a_typed_job_starts_with_a_bare_event_and_a_typed_one() -> None:
    bare, typed = phase("started", system="sysadm/pkg")
    assert bare == {"process_id": "p", "state": "running"}
    assert typed["process_details"] == {
        "cmd_list": ["a", "b"],
        "process_id": "p",
        "state": "running",
        "time_started": "2026-11-22T04:00:00",
    }


def test_a_typed_job_tells_new_text_while_a_command_runs_and_all_of_it_at_its_end() -> None:
    update = {**DETAILS, "a": "new"}
    whole = {**DETAILS, "a": "old new"}
    (output,) = phase("output", system="sysadm/update", details=whole, update=update, extra={"update_log": "new"})
    (command,) = phase("command", system="sysadm/update", details=whole, update=update)
    assert (output["process_details"]["a"], output["update_log"]) == ("new", "new")
    assert command["process_details"]["a"] == "old new"


def test_a_typed_job_ends_with_everything() -> None:
    ended = {"state": "finished", "process_id": "p", "cmd_list": ["a"], "a": "out", "return_codes/a": "-1"}
    (args,) = phase("finished", system="sysadm/pkg", details=ended, extra={"pkg_log": "out"})
    assert args == {"event_system": "sysadm/pkg", "pkg_log": "out", "process_details": ended, "state": "finished"}
