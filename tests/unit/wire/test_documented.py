"""The documented dialect, block by block of the protocol's reference (its `<placeholders>` filled in)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sysadmd.errors import BadRequest, Forbidden, Unauthorized, WireError
from sysadmd.wire import SYSADM, Meta, Request, decode

META = Meta("9f86d081884c7d65", 4711, 1_795_316_400.25, "vault")
STARTED, FINISHED = 1_795_316_400.25, 1_795_316_405.5


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The zone of the machine, for the offsets in the times."""
    import time

    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def request(text: str) -> Request:
    frame = decode(text, classic=False)
    assert frame.dialect is SYSADM
    (entry,) = frame.entries
    assert isinstance(entry, Request), entry
    return entry


def refused(text: str | bytes) -> WireError:
    frame = decode(text, classic=False)
    (entry,) = frame.entries
    assert isinstance(entry, WireError), entry
    return entry


def frames(topic: str, data: Any, meta: Meta | None = None) -> list[Any]:
    return [json.loads(frame) for frame in SYSADM.event(topic, data, meta)]


def dispatcher(phase: str, *, system: str | None = None, extra: Any = None, **parts: Any) -> Any:
    data = {"phase": phase, "process_id": "0f1e", "event_system": system, "extra": extra or {}}
    return {**data, "details": parts.get("details", {}), "update": parts.get("update")}


RUNNING = {
    "state": "running",
    "process_id": "0f1e",
    "time_started": STARTED,
    "cmd_list": ["uname -s", "uname -r"],
    "uname -s": "FreeBSD\n",
    "return_codes/uname -s": "0",
    "current_cmd": "uname -r",
}
ENDED = {
    "state": "finished",
    "process_id": "0f1e",
    "time_started": STARTED,
    "time_finished": FINISHED,
    "cmd_list": ["uname -s", "uname -r"],
    "uname -s": "FreeBSD\n",
    "return_codes/uname -s": "0",
    "uname -r": "14.1\n",
    "return_codes/uname -r": "0",
}


# Requests


@pytest.mark.parametrize("name", ["subscribe", "unsubscribe"])
@pytest.mark.parametrize(
    "topics", [["dispatcher", "life-preserver", "system-state"], ["dispatcher"], ["life-preserver"], ["system-state"]]
)
def test_a_subscription_as_the_reference_shows_it(name: str, topics: list[str]) -> None:
    text = json.dumps({"namespace": "events", "name": name, "id": "sampleID", "args": topics}, indent=1)
    assert request(text) == Request("events", name, None, "sampleID", topics)


def test_the_action_is_taken_out_of_the_arguments() -> None:
    text = '{"namespace":"rpc","name":"dispatcher","id":"x","args":{"action":"run","job":"date"}}'
    assert request(text) == Request("rpc", "dispatcher", "run", "x", {"job": "date"})


def test_an_action_that_is_no_string_stays_an_argument() -> None:
    assert request('{"namespace":"a","name":"b","id":"x","args":{"action":5}}').args == {"action": 5}


def test_without_args_the_other_keys_are_the_arguments() -> None:
    found = request('{"namespace":"sysadm","name":"fs","id":"x","action":"dirlist","dir":"/"}')
    assert found == Request("sysadm", "fs", "dirlist", "x", {"dir": "/"})


@pytest.mark.parametrize("value", ["fooid", "", 7, 1.5, 2**70, None, True, ["a", 1], {"a": {"b": 1}}])
def test_any_id_comes_back_as_it_was(value: Any) -> None:
    found = request(json.dumps({"namespace": "rpc", "name": "query", "id": value, "args": ""}))
    assert json.loads(SYSADM.reply(found, {}))["id"] == value


def test_a_missing_id_is_answered_with_an_empty_one() -> None:
    assert json.loads(SYSADM.reply(request('{"namespace":"rpc","name":"query","args":{}}'), {}))["id"] == ""


def test_unknown_keys_beside_args_are_ignored() -> None:
    assert request('{"namespace":"a","name":"b","id":1,"args":{},"more":{"x":[1]}}') == Request("a", "b", None, 1, {})


def test_a_deadline_beside_the_id() -> None:
    assert request('{"namespace":"a","name":"b","id":1,"args":{},"timeout":2.5}').timeout == 2.5
    without_args = request('{"namespace":"a","name":"b","id":1,"timeout":2,"x":1}')
    assert (without_args.timeout, without_args.args) == (2.0, {"x": 1})


@pytest.mark.parametrize("timeout", ['"soon"', "true", "null", "[]"])
def test_a_timeout_that_is_no_number_is_an_unknown_key(timeout: str) -> None:
    assert request(f'{{"namespace":"a","name":"b","id":1,"args":{{}},"timeout":{timeout}}}').timeout is None


@pytest.mark.parametrize("timeout", ["0", "-1", "-1e9"])
def test_a_deadline_that_is_over_is_refused(timeout: str) -> None:
    error = refused(f'{{"namespace":"rpc","name":"b","id":1,"args":{{}},"timeout":{timeout}}}')
    assert (error.path, error.request_id, error.namespace) == ("timeout", 1, "rpc")


def test_a_deadline_is_bounded() -> None:
    assert request(f'{{"namespace":"a","name":"b","id":1,"args":{{}},"timeout":{"9" * 400}}}').timeout == 1e9


def test_a_binary_frame_is_read_as_utf_8() -> None:
    (entry,) = decode('{"namespace":"a","name":"b","id":"é","args":{}}'.encode(), classic=False).entries
    assert isinstance(entry, Request)
    assert entry.id == "é"


def test_white_space_around_the_frame_is_nothing() -> None:
    assert request(' \r\n{"namespace":"a","name":"b","id":1,"args":{}}\n\n').id == 1


# Replies and errors


def test_a_reply_in_the_order_of_the_reference() -> None:
    text = SYSADM.reply(Request("Rpc", "query", None, "fooid", {}), {"rpc/dispatcher": "read/write"})
    assert text == b'{"namespace":"Rpc","name":"response","id":"fooid","args":{"rpc/dispatcher":"read/write"}}'


def test_an_error_has_a_number_and_the_requests_namespace() -> None:
    text = SYSADM.error(Request("rpc", "query", None, "fooid", {}), Unauthorized())
    assert text == b'{"namespace":"rpc","name":"error","id":"fooid","args":{"code":401,"message":"Unauthorized"}}'


def test_an_error_names_the_path_once() -> None:
    asked = Request("rpc", "x", None, 1, {})
    named = BadRequest("args.lines: -1 is less than the minimum of 0", path="args.lines", rule="minimum")
    bare = BadRequest("-1 is less than the minimum of 0", path="args.lines", rule="minimum")
    for error in (named, bare):
        args = json.loads(SYSADM.error(asked, error))["args"]
        assert args == {"code": 400, "message": "args.lines: -1 is less than the minimum of 0"}


def test_an_error_without_words_names_its_rule() -> None:
    args = json.loads(SYSADM.error(None, Forbidden(rule="role")))["args"]
    assert args == {"code": 403, "message": "Forbidden (role)"}


@pytest.mark.parametrize(
    "text,message",
    [
        ("{bad json}", "malformed JSON: object keys must be strings (byte 1)"),
        ("garbage", "malformed JSON: invalid character (byte 0)"),
        ("", "malformed JSON: the text ends too early"),
        ('{"namespace":"a"', "malformed JSON: the text ends too early"),
        ('{"namespace":"a","name":"b","args":{}} {}', "malformed JSON: trailing characters (byte 40)"),
        ('{"namespace":"a","name":"b","args":NaN}', "malformed JSON: invalid character (byte 35)"),
        ('{"namespace":"a","name":"b","args":1e999}', "malformed JSON: Number out of range"),
        ('{"namespace":"a","name":"b","args":"\\ud800 alone"}', "malformed JSON: unexpected end of escaped utf-16"),
        ('\ufeff{"namespace":"a","name":"b","args":{}}', "malformed JSON: invalid character (byte 0)"),
        ("5", "frame: expected an object, got a number"),
        ('"text"', "frame: expected an object, got a string"),
        ("null", "frame: expected an object, got null"),
        ("true", "frame: expected an object, got a boolean"),
        ("{}", "namespace: a string is required"),
        ('{"namespace":"rpc"}', "name: a string is required"),
        ('{"namespace":"","name":"x"}', "namespace: must not be empty"),
        ('{"namespace":"rpc","name":7}', "name: expected a string, got a number"),
        ('{"namespace":["rpc"],"name":"x"}', "namespace: expected a string, got an array"),
    ],
)
def test_what_is_wrong_with_a_frame(text: str, message: str) -> None:
    assert refused(text).message.startswith(message)


def test_a_frame_that_is_not_utf_8() -> None:
    assert refused(b'{"namespace":"\xff"}').message == "the frame is not UTF-8: byte 14"


def test_a_frame_from_a_text_with_a_lone_surrogate() -> None:
    assert refused('{"namespace":"\ud800"}').rule == "utf-8"


def test_what_can_be_read_of_a_bad_request_is_echoed() -> None:
    error = refused('{"id":"x","namespace":"rpc"}')
    answer = json.loads(SYSADM.error(None, error))
    assert (answer["id"], answer["namespace"], answer["name"]) == ("x", "rpc", "error")
    assert answer["args"]["code"] == 400


def test_an_unreadable_frame_is_answered_with_an_empty_id() -> None:
    answer = json.loads(SYSADM.error(None, refused("{bad json}")))
    assert (answer["id"], answer["namespace"], answer["name"]) == ("", "", "error")


def test_of_a_repeated_key_the_last_value_counts() -> None:
    assert request('{"namespace":5,"namespace":"a","name":"b","id":1,"args":{"x":1,"x":2}}').args == {"x": 2}


# Events


def test_life_preserver() -> None:
    data = {"message": "New snapshot of tank", "priority": 6, "class": "snapshot"}
    (frame,) = SYSADM.event("life_preserver", data)
    assert frame == (
        b'{"namespace":"events","name":"life_preserver","id":"none",'
        b'"args":{"message":"New snapshot of tank","priority":"6/Critical","class":"snapshot"}}'
    )


def test_system_state() -> None:
    columns = {
        "size": "107G",
        "alloc": "13.1G",
        "free": "93.9G",
        "frag": "6%",
        "expandsz": "-",
        "dedup": "1.00x",
        "altroot": "-",
        "capacity": "12%",
        "health": "online",
    }
    data = {"hostname": "vault", "hostnamechanged": True, "priority": 3, "zpools": {"tank": {**columns, "priority": 0}}}
    (frame,) = frames("system_state", data)
    assert frame == {
        "namespace": "events",
        "name": "system_state",
        "id": "none",
        "args": {
            "hostname": "vault",
            "hostnamechanged": "true",
            "zpools": {"tank": {**columns, "priority": "0/Information"}},
        },
    }


def test_system_state_of_a_machine_without_zfs_and_without_news() -> None:
    (frame,) = frames("system_state", {"hostname": "vault", "hostnamechanged": False, "priority": 0})
    assert frame["args"] == {"hostname": "vault"}


def test_bridge() -> None:
    (frame,) = SYSADM.event("bridge", {"available_connections": ["ID1", "ID2"]})
    assert frame == b'{"id":"","namespace":"events","name":"bridge","args":{"available_connections":["ID1","ID2"]}}'


def test_gap() -> None:
    (frame,) = frames("gap", {"from": 5, "to": 9, "cause": "overflow"})
    assert (frame["name"], frame["args"]) == ("gap", {"from": 5, "to": 9, "cause": "overflow"})


def test_dispatcher_pending() -> None:
    details = {"state": "pending", "process_id": "0f1e", "cmd_list": ["date"]}
    (frame,) = SYSADM.event("dispatcher", dispatcher("pending", details=details))
    assert frame == (
        b'{"namespace":"events","name":"dispatcher","id":"none","args":{"state":"pending","process_id":"0f1e"}}'
    )


def test_dispatcher_running() -> None:
    (frame,) = frames("dispatcher", dispatcher("command", system="sysadm/pkg", details={}, update=RUNNING))
    assert frame == {
        "namespace": "events",
        "name": "dispatcher",
        "id": "none",
        "args": {
            "event_system": "sysadm/pkg",
            "state": "running",
            "process_id": "0f1e",
            "process_details": {**RUNNING, "time_started": "2026-11-22T04:00:00+01:00"},
        },
    }
    assert list(frame["args"]) == ["event_system", "state", "process_id", "process_details"]
    assert list(frame["args"]["process_details"])[-1] == "current_cmd"


def test_dispatcher_finished() -> None:
    (frame,) = frames("dispatcher", dispatcher("finished", system="sysadm/update", details=ENDED))
    times = {"time_started": "2026-11-22T04:00:00+01:00", "time_finished": "2026-11-22T04:00:05+01:00"}
    assert frame["args"] == {
        "event_system": "sysadm/update",
        "state": "finished",
        "process_id": "0f1e",
        "process_details": {**ENDED, **times},
    }
    # The order of the reference: the logs, then the return codes.
    assert list(frame["args"]["process_details"])[-4:] == [
        "uname -s",
        "uname -r",
        "return_codes/uname -s",
        "return_codes/uname -r",
    ]


def test_a_process_that_no_namespace_started_has_no_event_system() -> None:
    (frame,) = frames("dispatcher", dispatcher("finished", details=ENDED))
    assert "event_system" not in frame["args"]


def test_the_class_message_carries_its_own_fields_and_the_details() -> None:
    details = {"state": "pending", "process_id": "0f1e", "cmd_list": ["pkg install x"]}
    data = dispatcher("pending", system="sysadm/pkg", extra={"action": "pkg_install"}, details=details)
    (frame,) = frames("dispatcher", data)
    assert frame["args"] == {
        "event_system": "sysadm/pkg",
        "state": "pending",
        "process_id": "0f1e",
        "action": "pkg_install",
        "process_details": details,
    }


def test_an_extra_field_never_overwrites_a_key_of_the_reference() -> None:
    data = dispatcher("finished", system="sysadm/pkg", extra={"state": "mine", "process_id": "mine"}, details=ENDED)
    (frame,) = frames("dispatcher", data)
    assert (frame["args"]["state"], frame["args"]["process_id"]) == ("finished", "0f1e")


def test_running_updates_carry_only_what_is_new() -> None:
    update = {**RUNNING, "uname -s": "SD\n"}
    (frame,) = frames("dispatcher", dispatcher("output", details=RUNNING, update=update))
    assert frame["args"]["process_details"]["uname -s"] == "SD\n"


def test_waiting_again_tells_nothing() -> None:
    assert SYSADM.event("dispatcher", dispatcher("waiting")) == []


def test_an_extended_subscriber_gets_the_resume_token_beside_args() -> None:
    (frame,) = frames("life_preserver", {"message": "m", "priority": 1, "class": "snapshot"}, META)
    assert list(frame) == ["namespace", "name", "id", "args", "epoch", "seq", "time", "node"]
    assert (frame["epoch"], frame["seq"], frame["time"], frame["node"]) == (META.epoch, META.seq, META.time, "vault")


def test_an_extended_subscriber_gets_the_overall_priority() -> None:
    (frame,) = frames("system_state", {"hostname": "h", "hostnamechanged": False, "priority": 9}, META)
    assert frame["args"] == {"hostname": "h", "priority": "9/Urgent"}


def test_a_topic_without_a_form_of_its_own_passes_unchanged() -> None:
    (frame,) = frames("queue", {"a": [1, {"b": None}]})
    assert (frame["name"], frame["args"]) == ("queue", {"a": [1, {"b": None}]})
