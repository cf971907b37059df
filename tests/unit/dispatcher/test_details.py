from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.dispatcher import payloads
from sysadmd.dispatcher.details import RESERVED, detail_keys, log_object, seed_state
from sysadmd.jobs import transitions
from sysadmd.jobs.model import Job
from sysadmd.jobs.transitions import End


def make(*texts: str, **options: object) -> Job:
    commands = [(text, (text,)) for text in texts]
    return transitions.new_job(id="j", ext_id="p", lane="l", owner="o", commands=commands, now=1.0, **options)


def leased(job: Job) -> Job:
    return transitions.lease(job, lease="L", instance="i", output_path="f", now=2.0)


def ended(job: Job, code: int = 0) -> Job:
    return transitions.finish(job, End(outcome="fail" if code else "ok", exit_code=code), lease="L", now=3.0)


def test_commands_are_their_own_keys() -> None:
    assert detail_keys(("ls -l", "date")) == ("ls -l", "date")


def test_a_repeated_command_gets_its_position() -> None:
    assert detail_keys(("a", "b", "a", "a")) == ("a", "b", "a #3", "a #4")


@pytest.mark.parametrize("text", sorted(RESERVED))
def test_a_command_called_like_a_key_gets_its_position(text: str) -> None:
    assert detail_keys((text,)) == (f"{text} #1",)


def test_a_command_called_like_the_key_of_another_is_told_apart() -> None:
    assert detail_keys(("a", "a", "a #2")) == ("a", "a #2", "a #2 #3")
    assert detail_keys(("a", "return_codes/a")) == ("a", "return_codes/a #2")
    assert detail_keys(("return_codes/a", "a")) == ("return_codes/a", "a #2")


words = st.sampled_from(["a", "a #2", "a #3", "state", "return_codes/a", "return_codes/a #2", "return_codes/state #1"])


@given(st.lists(words, max_size=8))
def test_no_key_overwrites_another(texts: list[str]) -> None:
    keys = detail_keys(tuple(texts))
    every = [*keys, *(f"return_codes/{key}" for key in keys), *RESERVED]
    assert len(set(every)) == len(every)
    assert keys[: len(texts) - 1] == detail_keys(tuple(texts[:-1]))[: len(texts)]


def test_the_log_object_of_a_pending_job() -> None:
    assert log_object(make("a"), {}) == {"state": "pending", "process_id": "p", "cmd_list": ["a"]}


def test_the_log_object_of_a_running_job_is_the_seeds() -> None:
    job = ended(leased(make("command1", "command 2")))
    assert log_object(job, {0: "log\n"}) == {
        "state": "running",
        "process_id": "p",
        "time_started": 2.0,
        "cmd_list": ["command1", "command 2"],
        "command1": "log\n",
        "return_codes/command1": "0",
        "current_cmd": "command 2",
    }


def test_the_log_object_of_a_finished_job_has_no_key_for_what_was_skipped() -> None:
    job = ended(leased(make("a", "b")), 3)
    assert log_object(job, {0: "x"}) == {
        "state": "finished",
        "process_id": "p",
        "time_started": 2.0,
        "time_finished": 3.0,
        "cmd_list": ["a", "b"],
        "a": "x",
        "return_codes/a": "3",
    }


def test_a_job_killed_while_it_waited_has_no_start() -> None:
    details = log_object(transitions.kill(make("a"), by="x", now=5.0), {})
    assert details == {"state": "finished", "process_id": "p", "time_finished": 5.0, "cmd_list": ["a"]}


def test_states_are_the_three_of_the_seed() -> None:
    assert [seed_state(job) for job in (make("a"), leased(make("a")), ended(leased(make("a"))))] == [
        "pending",
        "running",
        "finished",
    ]


def test_every_event_names_its_phase_process_and_permission() -> None:
    job = leased(make("a", "b"))
    drafts = [
        payloads.pending(make("a")),
        payloads.waiting(make("a")),
        payloads.started(job),
        payloads.output(job, 0, "x"),
        payloads.command(ended(job), 0, "xy", "y"),
        payloads.finished(ended(job, 1), {0: "xy"}),
    ]
    assert [draft.data["phase"] for draft in drafts] == [
        "pending",
        "waiting",
        "started",
        "output",
        "command",
        "finished",
    ]
    assert {draft.permission for draft in drafts} == {"dispatcher.l"}
    assert {draft.topic for draft in drafts} == {"dispatcher"}
    assert [draft.durable for draft in drafts] == [True, False, True, False, True, True]
    assert {draft.data["process_id"] for draft in drafts} == {"p"}


def test_a_command_event_has_the_whole_text_and_the_new_one() -> None:
    data = payloads.command(ended(leased(make("a", "b"))), 0, "old new", "new").data
    assert (data["details"]["a"], data["update"]["a"]) == ("old new", "new")
    assert data["details"]["current_cmd"] == data["update"]["current_cmd"] == "b"


def test_a_started_event_has_the_current_command_and_no_text() -> None:
    details = payloads.started(leased(make("a"))).data["details"]
    assert details["current_cmd"] == "a"
    assert "a" not in details


def test_extra_keys_are_kept_and_logs_filled_in() -> None:
    job = leased(make("a", "b", event_system="sysadm/pkg", extra={"action": "pkg_install", "pkg_log": ""}))
    assert payloads.started(job).data["extra"] == {"action": "pkg_install", "pkg_log": ""}
    assert payloads.output(job, 0, "new").data["extra"]["pkg_log"] == "new"
    done = ended(leased(ended(job)))
    data = payloads.finished(done, {0: "first", 1: "last"}).data
    assert (data["event_system"], data["extra"]["pkg_log"]) == ("sysadm/pkg", "last")
