"""The dispatcher on a fake executor: what is stored, told and sent in each case."""

from __future__ import annotations

import asyncio
import pwd
import threading
from pathlib import Path
from typing import Any

import anyio
import pytest
from sqlalchemy.exc import OperationalError

from sysadmd.config import Config, DispatcherConfig, Socket
from sysadmd.dispatcher import Dispatcher, ProcessSpec
from sysadmd.dispatcher.output import OutputFiles
from sysadmd.errors import BadRequest, Conflict, Forbidden, NotFound, TooManyRequests, Unavailable
from sysadmd.jobs import table
from sysadmd.limits import Limits
from sysadmd.store import Store
from tests.unit.dispatcher.fakes import Bench, FakeExecutor, RecordingLog, bench


async def started(b: Bench, count: int = 1) -> list[str]:
    """The attempts that the executor has been sent, once there are `count`."""
    await b.until(lambda: len(b.executor.starts) >= count)
    return [frame.attempt for frame in b.executor.starts]


async def test_a_process_is_told_pending_started_and_finished(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        assert await b.dispatcher.start({"p": "echo hi"}, "me") == ["p"]
        (attempt,) = await started(b)
        b.executor.write(attempt, b"hi\n")
        b.executor.exit(attempt)
        job = await b.dispatcher.wait("p")
        assert (job.state, job.steps[0].return_code, job.owner) == ("complete", "0", "me")
        assert b.phases() in (["pending", "started", "finished"], ["pending", "started", "output", "finished"])
        details = b.drafts[-1].data["details"]
        assert (details["echo hi"], details["return_codes/echo hi"]) == ("hi\n", "0")
        await b.until(lambda: b.executor.acknowledged == [attempt])


async def test_the_start_frame_has_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("LANG", "C.UTF-8")
    async with bench(tmp_path) as b:
        spec = ProcessSpec([["ls", "a b"]], cwd="/tmp", user="root", timeout=5.0)
        await b.dispatcher.start({"p": spec}, "me")
        await started(b)
        frame = b.executor.starts[0]
        assert (frame.argv, frame.cwd, frame.user, frame.limits.timeout) == (["ls", "a b"], "/tmp", "root", 5.0)
        assert (frame.env["LANG"], frame.env["USER"], frame.env["HOME"]) == ("C.UTF-8", "root", "/root")
        assert "SECRET" not in frame.env


@pytest.mark.parametrize(
    "everywhere, user, asked, locked",
    [
        (False, None, None, False),
        (False, "root", None, False),
        (False, "nobody", None, True),
        (False, "nobody", False, False),
        (False, None, True, True),
        (True, None, None, True),
        (True, None, False, False),
    ],
)
async def test_new_privileges_are_denied_by_job_by_user_or_by_configuration(
    tmp_path: Path, everywhere: bool, user: str | None, asked: bool | None, locked: bool
) -> None:
    async with bench(tmp_path, options=DispatcherConfig(no_new_privs=everywhere)) as b:
        await b.dispatcher.start({"p": ProcessSpec(["a"], user=user, no_new_privs=asked)}, "me")
        await started(b)
        assert b.executor.starts[0].limits.no_new_privs is locked


async def test_commands_of_an_executor_of_root_have_roots_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USER", "LOGNAME"):
        monkeypatch.setenv(name, "the server's")
    async with bench(tmp_path, options=DispatcherConfig(executor_socket=Path("/run/x"))) as b:
        await b.dispatcher.start({"p": ["a"]}, "me")
        await started(b)
        env, root = b.executor.starts[0].env, pwd.getpwnam("root")
        assert (env["HOME"], env["USER"], env["LOGNAME"]) == (root.pw_dir, "root", "root")


async def test_a_chain_goes_on_with_the_next_command_and_tells_of_the_first(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": ["a", "b"]}, "me")
        first = (await started(b))[0]
        b.executor.write(first, b"one")
        b.executor.exit(first)
        second = (await started(b, 2))[1]
        b.executor.exit(second)
        await b.dispatcher.wait("p")
        assert [phase for phase in b.phases() if phase != "output"] == ["pending", "started", "command", "finished"]
        command = next(d for d in b.drafts if d.data["phase"] == "command").data
        assert (command["details"]["a"], command["details"]["current_cmd"]) == ("one", "b")


async def test_a_chain_stops_at_the_first_failure(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": ["a", "b"]}, "me")
        b.executor.exit((await started(b))[0], 3)
        job = await b.dispatcher.wait("p")
        assert (job.state, len(b.executor.starts)) == ("error", 1)
        details = b.drafts[-1].data["details"]
        assert details["return_codes/a"] == "3"
        assert "b" not in details


async def test_the_lease_is_stored_before_the_executor_hears_of_it(tmp_path: Path) -> None:
    seen: list[str] = []

    class Looking(FakeExecutor):
        def start(self, frame: Any, descriptor: int) -> bool:
            (job,) = b.events._store.read_now(table.load_live)
            assert job.live_attempt is not None
            seen.append(job.live_attempt.lease)
            assert frame.lease == seen[-1]
            return super().start(frame, descriptor)

    async with bench(tmp_path, executor=Looking()) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        await started(b)
        b.executor.exit(b.executor.starts[0].attempt)
        await b.dispatcher.wait("p")
    assert len(seen) == 1


async def test_a_serial_lane_runs_in_order_and_has_positions(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        for name in "xyz":
            await b.dispatcher.start({name: ProcessSpec(["a"], lane="pkg_queue")}, "me")
        (attempt,) = await started(b)
        listed = await b.dispatcher.listing()
        assert listed == {
            "pkg_queue": {
                "x": {"commands": ["a"], "state": "running", "queue_position": "0"},
                "y": {"commands": ["a"], "state": "pending", "queue_position": "1"},
                "z": {"commands": ["a"], "state": "pending", "queue_position": "2"},
            }
        }
        b.executor.exit(attempt)
        assert (await started(b, 2))[1] != attempt
        assert b.dispatcher.figures() == {"pending": 1, "running": 1}


async def test_the_parallel_lane_is_bounded(tmp_path: Path) -> None:
    async with bench(tmp_path, limits=Limits(running_update=0.01, lane_parallel=2)) as b:
        await b.dispatcher.start(dict.fromkeys("xyz", "a"), "me")
        await started(b, 2)
        await anyio.sleep(0.05)
        assert len(b.executor.starts) == 2
        b.executor.exit(b.executor.starts[0].attempt)
        await started(b, 3)


async def test_a_listing_with_history_has_the_finished_ones_too(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        b.executor.exit((await started(b))[0])
        await b.dispatcher.wait("p")
        await b.dispatcher.start({"q": "b"}, "me")
        assert set((await b.dispatcher.listing())["no_queue"]) == {"q"}
        found = await b.dispatcher.listing(history=True)
        assert found["no_queue"]["p"] == {"commands": ["a"], "state": "finished"}
        assert await b.dispatcher.listing(lane="pkg_queue", history=True) == {"pkg_queue": {}}
        with pytest.raises(BadRequest, match="no lane 'nope'"):
            await b.dispatcher.listing(lane="nope")


class Nobody:
    def may_job(self, name: str, right: str) -> bool:
        return False


async def test_a_scope_without_the_right_sees_no_job_and_reads_no_log(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        assert await b.dispatcher.listing(Nobody(), history=True) == {"no_queue": {}}
        with pytest.raises(Forbidden):
            await b.dispatcher.read_log(Nobody(), process_id="p")


@pytest.mark.parametrize(
    "processes",
    [
        {},
        {"": "a"},
        {"x" * 257: "a"},
        {"p": []},
        {"p": ""},
        {"p": {"commands": ["a"], "lane": "nope"}},
        {"p": {"commands": ["a"], "user": "no-such-user-here"}},
        {"good": "a", "bad": ['a "']},
    ],
)
async def test_a_bad_request_starts_nothing(tmp_path: Path, processes: dict[str, Any]) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(BadRequest):
            await b.dispatcher.start(processes, "me")
        assert b.drafts == []
        assert b.dispatcher.figures() == {"pending": 0, "running": 0}


async def test_an_id_in_use_is_a_conflict_and_nothing_of_the_request_is_started(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        with pytest.raises(Conflict, match="'p'"):
            await b.dispatcher.start({"other": "a", "p": "a"}, "me")
        assert "other" not in (await b.dispatcher.listing())["no_queue"]


async def test_two_requests_in_one_turn_cannot_take_one_id(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        results = await asyncio.gather(
            b.dispatcher.start({"p": "a"}, "me"), b.dispatcher.start({"p": "a"}, "me"), return_exceptions=True
        )
        assert [type(result) for result in results] == [list, Conflict]


async def test_an_id_is_free_again_when_its_process_has_finished(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        for n in (1, 2):
            await b.dispatcher.start({"p": "a"}, "me")
            b.executor.exit((await started(b, n))[-1])
            await b.dispatcher.wait("p")


async def test_more_processes_than_the_bound_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysadmd.dispatcher.intake.LIVE_MAX", 2)
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"a": "a", "b": "b"}, "me")
        with pytest.raises(TooManyRequests):
            await b.dispatcher.start({"c": "c"}, "me")


# ---- kill


async def test_a_pending_process_is_killed_without_a_start(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"x": ProcessSpec(["a"], lane="pkg_queue")}, "me")
        await b.dispatcher.start({"y": ProcessSpec(["a"], lane="pkg_queue")}, "me")
        (attempt,) = await started(b)
        assert await b.dispatcher.kill(["y", "y", "nobody"], "boss") == ["y"]
        assert b.phases("y") == ["pending", "finished"]
        b.executor.exit(attempt)
        await b.dispatcher.wait("x")
        await anyio.sleep(0.03)
        assert len(b.executor.starts) == 1


async def test_a_running_process_is_signalled_and_has_one_finished_event(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": ["a", "b"]}, "me")
        (attempt,) = await started(b)
        assert await b.dispatcher.kill(["p"], "boss") == ["p"]
        assert await b.dispatcher.kill(["p"], "boss") == ["p"]
        assert b.executor.signals[0] == (attempt, "kill")
        b.executor.exit(attempt, None, signal=15, outcome="killed")
        job = await b.dispatcher.wait("p")
        assert (job.state, job.kill_requested_by, job.steps[0].return_code) == ("killed", "boss", "-15")
        assert b.phases().count("finished") == 1
        assert await b.dispatcher.kill(["p"]) == []


async def test_a_process_that_ended_by_itself_in_the_same_turn_is_not_killed(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        (attempt,) = await started(b)
        b.executor.exit(attempt)
        assert await b.dispatcher.kill(["p"]) == []
        assert (await b.dispatcher.wait("p")).state == "complete"


async def test_a_kill_in_the_turn_of_the_start_never_starts(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        start = asyncio.ensure_future(b.dispatcher.start({"p": "a"}, "me"))
        await asyncio.sleep(0)
        killed = await b.dispatcher.kill(["p"])
        await start
        assert killed == ["p"]
        await b.until(lambda: "finished" in b.phases() or b.executor.signals)


async def test_a_kill_while_the_link_is_down_is_sent_when_it_is_up(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        (attempt,) = await started(b)
        b.executor.disconnect()
        await b.dispatcher.kill(["p"])
        assert b.executor.signals == []
        b.executor.connect("i1")
        assert b.executor.signals == [(attempt, "kill")]


# ---- the link


async def test_nothing_is_leased_while_no_executor_is_there(tmp_path: Path) -> None:
    async with bench(tmp_path, executor=FakeExecutor(instance=None)) as b:
        assert not b.dispatcher.connected
        await b.dispatcher.start({"p": "a"}, "me")
        await anyio.sleep(0.03)
        assert b.phases() == ["pending"]
        b.executor.connect()
        await started(b)
        assert b.dispatcher.connected


async def test_a_start_that_the_same_instance_has_not_seen_is_sent_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.executor.swallow = True
        await b.dispatcher.start({"p": "a"}, "me")
        await b.until(lambda: "started" in b.phases())
        await anyio.sleep(0.02)
        b.executor.swallow = False
        b.executor.disconnect()
        b.executor.connect("i1")
        (attempt,) = await started(b)
        b.executor.exit(attempt)
        assert (await b.dispatcher.wait("p")).state == "complete"


async def test_what_a_dead_instance_had_is_lost_and_the_log_says_so(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": ["a", "b"]}, "me")
        (attempt,) = await started(b)
        b.executor.write(attempt, b"half a li")
        b.executor.running.clear()
        b.executor.disconnect()
        b.executor.connect("i2")
        job = await b.dispatcher.wait("p")
        assert (job.state, job.steps[0].return_code, job.steps[1].state) == ("error", "-1", "skipped")
        text = b.drafts[-1].data["details"]["a"]
        assert text == "half a li\nsysadmd: the result is lost: the executor ended while the command ran\n"


async def test_an_exit_that_a_new_instance_reports_of_the_dead_one_counts(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        (attempt,) = await started(b)
        b.executor.disconnect()
        b.executor.exit(attempt, 4)
        b.executor.connect("i2")
        assert (await b.dispatcher.wait("p")).steps[0].return_code == "4"


async def test_an_exit_told_twice_counts_once_and_is_acknowledged_twice(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        (attempt,) = await started(b)
        b.executor.exit(attempt)
        exit_frame = b.executor.exits[attempt]
        await b.dispatcher.wait("p")
        assert b.executor.handler is not None
        b.executor.handler.exited(exit_frame)
        await b.until(lambda: b.executor.acknowledged == [attempt, attempt])
        assert b.phases().count("finished") == 1


async def test_an_exit_under_another_lease_ends_nothing(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        (attempt,) = await started(b)
        b.executor.exit(attempt, lease="stale")
        await b.until(lambda: b.executor.acknowledged == [attempt])
        assert b.dispatcher.figures()["running"] == 1


async def test_a_refused_start_is_sent_again_at_the_next_look(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.executor.refuse = "full"
        await b.dispatcher.start({"p": "a"}, "me")
        await started(b, 2)
        b.executor.refuse = None
        await b.until(lambda: b.executor.running)
        b.executor.exit(b.executor.starts[0].attempt)
        assert (await b.dispatcher.wait("p")).state == "complete"


async def test_a_refused_start_may_be_killed(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        b.executor.refuse = "full"
        await b.dispatcher.start({"p": "a"}, "me")
        await started(b)
        assert await b.dispatcher.kill(["p"]) == ["p"]
        job = await b.dispatcher.wait("p")
        assert (job.state, job.steps[0].return_code) == ("killed", "-1")


@pytest.mark.parametrize("refuse", ["protocol", "large"])
async def test_a_start_that_can_never_be_right_ends_with_its_reason(tmp_path: Path, refuse: str) -> None:
    async with bench(tmp_path) as b:
        b.executor.refuse = refuse
        await b.dispatcher.start({"p": "a"}, "me")
        job = await b.dispatcher.wait("p")
        assert (job.state, job.steps[0].return_code) == ("error", "-1")
        assert b.drafts[-1].data["details"]["a"].startswith("sysadmd: ")


# ---- output


async def test_output_events_carry_only_what_is_new(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        (attempt,) = await started(b)
        for part in ("one ä"[:5], "two"):
            b.executor.write(attempt, part.encode())
            count = b.phases().count("output")
            await b.until(lambda count=count: b.phases().count("output") > count)
        updates = [d.data["update"]["a"] for d in b.drafts if d.data["phase"] == "output"]
        assert updates == ["one ä", "two"]


async def test_a_character_split_between_two_looks_is_not_broken(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        (attempt,) = await started(b)
        first, rest = "x😀".encode()[:3], "x😀".encode()[3:]
        b.executor.write(attempt, first)
        await b.until(lambda: "output" in b.phases())
        await anyio.sleep(0.03)
        b.executor.write(attempt, rest)
        await b.until(lambda: b.phases().count("output") == 2)
        assert [d.data["update"]["a"] for d in b.drafts if d.data["phase"] == "output"] == ["x", "😀"]


async def test_a_large_increment_is_head_and_tail_and_the_finished_log_too(tmp_path: Path) -> None:
    limits = Limits(running_update=0.01, process_log=1000)
    async with bench(tmp_path, limits=limits) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        (attempt,) = await started(b)
        b.executor.write(attempt, b"h" * 100_000 + b"t" * 100_000)
        await b.until(lambda: "output" in b.phases())
        text = next(d for d in b.drafts if d.data["phase"] == "output").data["update"]["a"]
        assert len(text) < 66_000
        assert f"[sysadmd: {200_000 - 65_536} bytes are left out here" in text
        b.executor.exit(attempt)
        await b.dispatcher.wait("p")
        text = b.drafts[-1].data["details"]["a"]
        assert text.startswith("h" * 500 + "\n[sysadmd: 199000 bytes")
        assert text.endswith("]\n" + "t" * 500)


async def test_output_above_the_cap_is_ended_with_output_limit(tmp_path: Path) -> None:
    async with bench(tmp_path, limits=Limits(running_update=0.01, output_cap=10)) as b:
        await b.dispatcher.start({"p": ["a", "b"]}, "me")
        (attempt,) = await started(b)
        b.executor.write(attempt, b"0123456789")
        await b.until(lambda: "output" in b.phases())
        assert b.executor.signals == []
        b.executor.write(attempt, b"x")
        await b.until(lambda: b.executor.signals == [(attempt, "KILL")])
        b.executor.exit(attempt, None, signal=9, outcome="killed")
        job = await b.dispatcher.wait("p")
        assert job.steps[0].attempt is not None
        assert (job.state, job.steps[0].attempt.outcome, job.steps[0].return_code) == ("error", "output_limit", "-9")
        assert "output is above the limit" in b.drafts[-1].data["details"]["a"]


async def test_the_kill_for_too_much_output_is_sent_again_when_a_broken_link_has_lost_it(tmp_path: Path) -> None:
    async with bench(tmp_path, limits=Limits(running_update=0.01, output_cap=10)) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        (attempt,) = await started(b)
        b.executor.disconnect()
        b.executor.write(attempt, b"0123456789x")
        await b.until(lambda: "output" in b.phases())
        assert b.executor.signals == []
        b.executor.connect()
        b.executor.write(attempt, b"x")
        await b.until(lambda: b.executor.signals == [(attempt, "KILL")])


async def test_a_disk_that_cannot_be_asked_ends_nobody(tmp_path: Path) -> None:
    def gone(_directory: Path) -> float:
        raise OSError("stale file handle")

    files = OutputFiles(tmp_path / "output", gone)
    assert files.disk_use() == 0.0


async def test_a_full_disk_ends_who_writes_and_spares_who_does_not(tmp_path: Path) -> None:
    async with bench(tmp_path, use=0.96) as b:
        await b.dispatcher.start({"w": "a", "quiet": "b"}, "me")
        await started(b, 2)
        attempts = {frame.argv[0]: frame.attempt for frame in b.executor.starts}
        b.executor.write(attempts["a"], b"x")
        await b.until(lambda: b.executor.signals)
        await anyio.sleep(0.03)
        assert b.executor.signals == [(attempts["a"], "KILL")]


async def test_a_pid_is_stored_when_the_process_outlives_a_look(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        (attempt,) = await started(b)
        b.executor.say_started(attempt)
        found: list[Any] = []

        def stored() -> bool:
            found[:] = b.events._store.read_now(table.load_live)
            return bool(found[0].live_attempt.pid == 77)

        await b.until(stored)
        assert found[0].steps[0].state == "running"


async def test_a_waiting_process_of_a_namespace_is_told_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sysadmd.dispatcher.service.WAITING_EVERY", 0.02)
    async with bench(tmp_path) as b:
        spec = ProcessSpec(["a"], lane="pkg_queue")
        await b.dispatcher.start({"raw": spec}, "me")
        await b.dispatcher.start({"typed": spec}, "me", event_system="sysadm/pkg", extra={"action": "x"})
        await b.until(lambda: b.phases("typed").count("waiting") >= 2)
        assert "waiting" not in b.phases("raw")


# ---- read_log


async def test_read_log_gives_parts_until_the_end(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        assert (await b.dispatcher.read_log(process_id="p"))["data"] == ""
        (attempt,) = await started(b)
        b.executor.write(attempt, "aäb".encode())
        part = await b.dispatcher.read_log(process_id="p", length=4)
        assert part == {
            "process_id": "p",
            "command": 0,
            "offset": 0,
            "next_offset": 4,
            "data": "aäb",
            "eof": False,
            "state": "running",
        }
        b.executor.exit(attempt)
        await b.dispatcher.wait("p")
        part = await b.dispatcher.read_log(process_id="p", command=0, offset=3)
        assert (part["data"], part["next_offset"], part["eof"], part["state"]) == ("b", 4, True, "finished")


async def test_read_log_follows_until_there_is_more_or_the_end_or_the_deadline(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        (attempt,) = await started(b)
        assert (await b.dispatcher.read_log(process_id="p", follow=0.05))["data"] == ""
        waiting = asyncio.ensure_future(b.dispatcher.read_log(process_id="p", follow=5))
        await asyncio.sleep(0.02)
        b.executor.write(attempt, b"more")
        assert (await waiting)["data"] == "more"
        waiting = asyncio.ensure_future(b.dispatcher.read_log(process_id="p", offset=4, follow=5))
        await asyncio.sleep(0.02)
        b.executor.exit(attempt)
        assert (await waiting)["eof"]


async def test_read_log_of_nothing_is_not_found(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        with pytest.raises(NotFound) as nobody:
            await b.dispatcher.read_log(process_id="nobody")
        assert nobody.value.path == "args.process_id"
        await b.dispatcher.start({"p": "a"}, "me")
        with pytest.raises(NotFound, match="1 commands"):
            await b.dispatcher.read_log(process_id="p", command=1)
        with pytest.raises(BadRequest):
            await b.dispatcher.read_log(process_id="p", offset=-1)


async def test_an_account_that_comes_and_goes_is_known_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bench(tmp_path) as b:
        spec = ProcessSpec(["a"], user="newcomer")
        with pytest.raises(BadRequest, match="no account"):
            await b.dispatcher.start({"p": spec}, "me")
        monkeypatch.setattr("pwd.getpwnam", lambda name: pwd.struct_passwd((name, "x", 7, 7, "", "/home/n", "/bin/sh")))
        await b.dispatcher.start({"p": spec}, "me")
        await started(b)
        assert b.executor.starts[0].env["HOME"] == "/home/n"


# ---- faults


def disk_full() -> OperationalError:
    return OperationalError("insert", {}, Exception("database or disk is full"))


async def test_a_start_that_cannot_be_stored_is_unavailable_and_its_id_stays_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysadmd.dispatcher.scheduler.RETRY", 0.05)
    async with bench(tmp_path) as b:
        assert isinstance(b.events, RecordingLog)
        b.events.failing = disk_full()
        with pytest.raises(Unavailable):
            await b.dispatcher.start({"p": "a"}, "me")
        b.events.failing = None
        await b.dispatcher.start({"p": "a"}, "me")
        b.executor.exit((await started(b))[0])
        await b.dispatcher.wait("p")
        assert b.phases() == ["pending", "started", "finished"]


async def test_who_waits_for_a_process_that_cannot_be_stored_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysadmd.dispatcher.scheduler.RETRY", 0.05)
    async with bench(tmp_path) as b:
        assert isinstance(b.events, RecordingLog)
        b.events.failing = disk_full()
        starting = asyncio.ensure_future(b.dispatcher.start({"p": "a"}, "me"))
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(b.dispatcher.wait("p"))
        with anyio.fail_after(5), pytest.raises(Unavailable):
            await waiting
        with pytest.raises(Unavailable):
            await starting


async def test_a_start_that_we_have_ended_ourselves_is_not_sent_while_its_end_is_being_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysadmd.dispatcher.scheduler.RETRY", 0.2)
    async with bench(tmp_path) as b:
        assert isinstance(b.events, RecordingLog)
        b.executor.refuse = "full"
        await b.dispatcher.start({"p": "a"}, "me")
        await started(b)
        b.events.failing = disk_full()
        with pytest.raises(Unavailable):
            await b.dispatcher.kill(["p"])
        b.executor.refuse = None
        b.executor.disconnect()
        b.executor.connect()
        await anyio.sleep(0.05)
        assert b.executor.running == {}
        b.events.failing = None
        assert (await b.dispatcher.wait("p")).state == "killed"


async def test_a_store_that_fails_at_the_end_does_not_keep_the_dispatcher_from_ending(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        assert isinstance(b.events, RecordingLog)
        await b.dispatcher.start({"p": "a"}, "me")
        b.executor.write((await started(b))[0], b"x")
        await b.until(lambda: "output" in b.phases())
        b.events.failing = disk_full()


async def test_an_exit_that_cannot_be_stored_is_tried_again_and_acknowledged_only_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysadmd.dispatcher.scheduler.RETRY", 0.05)
    async with bench(tmp_path) as b:
        assert isinstance(b.events, RecordingLog)
        await b.dispatcher.start({"p": ["a", "b"]}, "me")
        (attempt,) = await started(b)
        b.events.failing = disk_full()
        b.executor.exit(attempt)
        await anyio.sleep(0.12)
        assert b.executor.acknowledged == []
        b.events.failing = None
        second = (await started(b, 2))[1]
        b.executor.exit(second)
        assert (await b.dispatcher.wait("p")).state == "complete"
        assert [phase for phase in b.phases() if phase != "output"] == ["pending", "started", "command", "finished"]


async def test_an_output_file_that_cannot_be_made_fails_the_command(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        (tmp_path / "output").chmod(0o700)
        (tmp_path / "output").rmdir()
        (tmp_path / "output").write_text("in the way")
        await b.dispatcher.start({"p": "a"}, "me")
        job = await b.dispatcher.wait("p")
        assert job.last_error is not None
        assert (job.state, job.last_error["outcome"]) == ("error", "spawn_failed")
        assert "cannot make the output file" in job.last_error["message"]


# ---- restart


async def test_a_restart_adopts_what_runs_and_goes_on_with_the_chain(tmp_path: Path) -> None:
    fake = FakeExecutor()
    async with bench(tmp_path, executor=fake) as b:
        await b.dispatcher.start({"p": ["a", "b"], "q": ProcessSpec(["c"], lane="pkg_queue")}, "me")
        first = next(f.attempt for f in b.executor.starts) if b.executor.starts else (await started(b, 2))[0]
        await started(b, 2)
        first = next(frame.attempt for frame in b.executor.starts if frame.argv == ["a"])
        fake.write(first, b"before ")
        await b.until(lambda: "output" in b.phases("p"))
    fake.instance = None
    fake.write(first, b"between")
    async with bench(tmp_path, executor=fake) as b:
        await b.until(lambda: "output" in b.phases("p"))
        assert b.drafts[0].data["update"]["a"] == "between"
        fake.exit(first)
        second = (await started(b, 3))[2]
        fake.exit(second)
        job = await b.dispatcher.wait("p")
        assert job.state == "complete"
        assert b.drafts[-1].data["details"]["a"] == "before between"
        with pytest.raises(Conflict):
            await b.dispatcher.start({"q": "x"}, "me")
    fake.close()


async def test_a_lease_that_was_never_sent_is_sent_after_the_restart(tmp_path: Path) -> None:
    fake = FakeExecutor()
    fake.swallow = True
    async with bench(tmp_path, executor=fake) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        await b.until(lambda: "started" in b.phases())
    fake.swallow = False
    async with bench(tmp_path, executor=fake) as b:
        (attempt,) = await started(b)
        fake.exit(attempt)
        assert (await b.dispatcher.wait("p")).state == "complete"
        assert b.phases() == ["finished"]


async def test_a_stopped_dispatcher_refuses(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        waiting = asyncio.ensure_future(b.dispatcher.wait("p"))
        await asyncio.sleep(0)
        await b.dispatcher.close()
        with pytest.raises(Unavailable):
            await waiting
        with pytest.raises(Unavailable):
            await b.dispatcher.start({"q": "a"}, "me")
        with pytest.raises(Unavailable):
            await b.dispatcher.kill(["p"])


async def test_execute_gives_the_log_and_kills_when_nobody_waits(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        call = asyncio.ensure_future(b.dispatcher.execute("a", "me"))
        (attempt,) = await started(b)
        b.executor.write(attempt, b"x")
        b.executor.exit(attempt)
        details = await call
        assert (details["a"], details["return_codes/a"]) == ("x", "0")
        call = asyncio.ensure_future(b.dispatcher.execute("a", "me"))
        second = (await started(b, 2))[1]
        call.cancel()
        await b.until(lambda: (second, "kill") in b.executor.signals)


async def test_changed_lanes_and_limits_count_at_once(tmp_path: Path) -> None:
    async with bench(tmp_path) as b:
        spec = ProcessSpec(["a"], lane="pkg_queue")
        await b.dispatcher.start({"x": spec, "y": spec}, "me")
        await started(b)
        lanes = {"no_queue": None, "pkg_queue": 2, "new": 1}
        b.dispatcher.reconfigure(
            Config(
                state_dir=tmp_path, node="n", socket=Socket(tmp_path / "s"), lanes=lanes, limits=Limits(kill_grace=1)
            )
        )
        await started(b, 2)
        assert b.executor.starts[1].limits.grace == 1
        await b.dispatcher.start({"z": ProcessSpec(["a"], lane="new")}, "me")


def test_the_dispatcher_is_made_without_a_loop(tmp_path: Path) -> None:
    from sysadmd.events import EventLog
    from sysadmd.store import Store

    config = Config(state_dir=tmp_path, node="n", socket=Socket(tmp_path / "s"))
    store = Store.open(tmp_path / "sysadmd.db")
    try:
        assert not Dispatcher(store, EventLog(store, node="n", limits=config.limits), config).connected
    finally:
        store.close()


async def test_what_a_restored_database_had_leased_is_lost_on_the_same_executor_and_not_run_again(
    tmp_path: Path,
) -> None:
    executor = FakeExecutor()
    async with bench(tmp_path, executor=executor) as b:
        await b.dispatcher.start({"p": "a"}, "me")
        await started(b)
    executor.running.clear()
    store = Store.open(tmp_path / "sysadmd.db")
    store.new_epoch()
    store.close()
    async with bench(tmp_path, executor=executor) as b:
        job = await b.dispatcher.wait("p")
        assert job.steps[0].attempt is not None
        assert (job.state, job.steps[0].attempt.outcome) == ("error", "lost")
        assert len(executor.starts) == 1


async def test_what_waits_in_a_restored_database_takes_no_attempt_name_that_was_used(tmp_path: Path) -> None:
    async with bench(tmp_path, executor=FakeExecutor(None)) as b:
        await b.dispatcher.start({"p": "a"}, "me")
    store = Store.open(tmp_path / "sysadmd.db")
    store.new_epoch()
    store.close()
    async with bench(tmp_path) as b:
        (attempt,) = await started(b)
        assert int(attempt.rsplit(".", 1)[1]) > 1
        b.executor.exit(attempt)
        assert (await b.dispatcher.wait("p")).state == "complete"


async def test_a_disk_that_hangs_does_not_keep_the_dispatcher_from_closing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    hang = threading.Event()
    async with bench(tmp_path, limits=Limits(running_update=0.01, drain=0.1)) as b:
        blocked = b.events.submit(lambda _: (hang.wait(10), []))
        starting = asyncio.ensure_future(b.dispatcher.start({"p": "a"}, "me"))
        await asyncio.sleep(0.02)
        with anyio.fail_after(5):
            await b.dispatcher.close()
        assert "not stored after 0.1 s" in caplog.text
        hang.set()
        await asyncio.gather(blocked, starting)
