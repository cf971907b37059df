"""`sysadmd job` and `coco` against a real server and its own worker: as a person types them, as a script reads them."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.integration.servers import RunningServer, running_server
from tests.integration.test_cli_server import finish, line_of, start, sysadmd

DUMMY = "core4.queue.helper.job.example.DummyJob"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


async def enqueue(server: RunningServer, *words: str) -> dict[str, Any]:
    done = await sysadmd(server, "job", "enqueue", DUMMY, *words)
    assert done.code == 0, done.err
    made: dict[str, Any] = done.json
    return made


async def state(server: RunningServer, reference: str | int) -> str:
    done = await sysadmd(server, "job", "show", str(reference))
    assert done.code == 0, done.err
    return str(done.json["job"]["state"])


async def until(server: RunningServer, reference: str, wanted: str) -> None:
    async with asyncio.timeout(30):
        while await state(server, reference) != wanted:
            await asyncio.sleep(0.1)


async def test_a_job_is_followed_to_its_end(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        done = await sysadmd(server, "job", "enqueue", DUMMY, "sleep=1", "--follow")
        assert done.code == 0, done.err
        made, *told = lines(done.out)
        assert (made["name"], made["args"], made["owner"]) == (DUMMY, {"sleep": 1}, made["owner"])
        assert told[-1]["state"] == "complete"
        assert {one["id"] for one in told} == {made["id"]}
        said = await sysadmd(server, "job", "output", str(made["seq"]))
        assert "slept for 1 seconds" in said.out
        assert (await sysadmd(server, "job", "output", made["id"][:14], "--attempt", "1")).out == said.out
        archived = await sysadmd(server, "job", "list", "--archived")
        assert [one["id"] for one in lines(archived.out)] == [made["id"]]
        assert (await sysadmd(server, "job", "counts")).json == {}


async def test_the_output_is_followed_while_the_job_runs(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        made = await enqueue(server, "sleep=2")
        done = await sysadmd(server, "job", "output", made["id"], "--follow")
        assert done.code == 0, done.err
        assert "sleeping for 2 seconds" in done.out
        assert "slept for 2 seconds" in done.out


async def test_a_job_that_waits_and_one_that_runs_are_killed(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        waits = await enqueue(server, "sleep=600", "--delay", "1h")
        runs = await enqueue(server, "sleep=600")
        await until(server, runs["id"], "running")
        follower = await start(server, "job", "enqueue", DUMMY, "sleep=600", "--follow")
        third = (await line_of(follower))["id"]
        done = await sysadmd(server, "job", "kill", waits["id"], str(runs["seq"]))
        assert (done.code, sorted(done.out.split())) == (0, sorted([waits["id"], runs["id"]]))
        assert await state(server, waits["seq"]) == "killed"
        await until(server, runs["id"], "killed")
        assert (await sysadmd(server, "job", "kill", DUMMY)).out.split() == [third]
        code, err = await finish(follower)
        assert code == 1
        assert "ended as killed" in err


async def test_a_killed_job_is_restarted_and_removed(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        made = await enqueue(server, "sleep=600", "--delay", "1h")
        assert (await sysadmd(server, "job", "restart", made["id"])).json["id"] == made["id"]
        await sysadmd(server, "job", "kill", made["id"])
        await until(server, made["id"], "killed")
        again = (await sysadmd(server, "job", "restart", str(made["seq"]))).json
        assert again["parent_id"] == made["id"]
        assert again["id"] != made["id"]
        await sysadmd(server, "job", "kill", again["id"])
        await until(server, again["id"], "killed")
        assert (await sysadmd(server, "job", "remove", DUMMY)).out.split() == [again["id"]]
        assert (await sysadmd(server, "job", "list")).out == ""


async def test_a_list_is_json_and_may_be_filtered(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        await enqueue(server, "sleep=1", "--delay", "1h", "--priority", "3", "--retry", "2", "--unique", "k")
        await enqueue(server, "sleep=1", "--at", "2199-01-31T04:00")
        found = lines((await sysadmd(server, "job", "list", "pending", "--name", DUMMY)).out)
        assert [(one["seq"], one["priority"], one["tries_max"]) for one in found] == [(2, 0, 1), (1, 3, 3)]
        assert (await sysadmd(server, "job", "list", "running")).out == ""
        assert (await sysadmd(server, "job", "counts")).json == {"pending": 2}
        assert (await sysadmd(server, "status")).json["queue"] == {"pending": 2}
        taken = await sysadmd(server, "job", "enqueue", DUMMY, "--unique", "k")
        assert (taken.code, "unique_key" in taken.err) == (1, True)


async def test_a_watched_list_tells_what_changes(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        first = await enqueue(server, "--delay", "1h")
        watcher = await start(server, "job", "list", "--watch")
        assert (await line_of(watcher))["id"] == first["id"]
        second = await enqueue(server, "--delay", "1h")
        assert (await line_of(watcher))["id"] == second["id"]
        assert (await finish(watcher, signal.SIGINT))[0] == 130


async def test_lanes_are_paused_and_workers_listed(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        assert (await sysadmd(server, "job", "pause", "default")).out == "default\n"
        made = await enqueue(server, "sleep=0")
        assert await state(server, made["id"]) == "pending"
        await sysadmd(server, "job", "resume")
        await until(server, made["id"], "complete")
        (worker,) = lines((await sysadmd(server, "job", "workers")).out)
        assert "task" in worker["kinds"]
        assert DUMMY in (await sysadmd(server, "job", "tasks")).out.split()


# On a terminal


def on_terminal(server: RunningServer, *words: str, interrupt: bytes = b"") -> tuple[int, str]:
    """Exit code and screen of a command; it is interrupted once `interrupt` was drawn."""
    controller, terminal = pty.openpty()
    environment = {**server.env, "TERM": "xterm", "COLUMNS": "160", "NO_COLOR": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "sysadmd", *words], env=environment, stdin=terminal, stdout=terminal, stderr=terminal
    )
    os.close(terminal)
    screen, interrupted = b"", not interrupt
    with contextlib.suppress(OSError):  # how Linux says that nobody writes any more
        while data := os.read(controller, 65536):
            screen += data
            if not interrupted and interrupt in screen:
                process.send_signal(signal.SIGINT)
                interrupted = True
    os.close(controller)
    return process.wait(), screen.decode()


async def test_people_see_a_bar_a_table_and_no_json(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        code, screen = await asyncio.to_thread(on_terminal, server, "job", "enqueue", DUMMY, "sleep=1", "--follow")
        assert code == 0
        assert "slept for 1 seconds" in screen
        assert "100 %" in screen
        made = await enqueue(server, "--delay", "1h")
        watched = ("job", "list", "--watch")
        code, screen = await asyncio.to_thread(on_terminal, server, *watched, interrupt=made["id"].encode())
        assert code == 130
        assert "Progress" in screen
        for words, said in (
            (("list",), "Owner"),
            (("show", "2"), "pending"),
            (("workers",), "Slots"),
            (("counts",), "1"),
        ):
            code, screen = await asyncio.to_thread(on_terminal, server, "job", *words)
            assert (code, said in screen, "{" in screen) == (0, True, False)


# coco


async def coco(server: RunningServer, *words: str, code: int = 0) -> list[str]:
    """The lines that it prints; those on standard error where it is to fail."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "sysadmd.cli.coco", *words),
        env=server.env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        out, err = await process.communicate()
    assert process.returncode == code, err.decode()
    return (err if code else out).decode().splitlines()


async def test_coco_enqueues_the_example_and_shows_it(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        (job_id,) = await coco(server, "--enqueue", DUMMY, "sleep=1")
        await until(server, job_id, "complete")
        (shown,) = await coco(server, "--detail", job_id)
        assert json.loads(shown)["job"]["args"] == {"sleep": 1}


async def test_coco_reads_each_form_of_arguments_and_the_settings_among_them(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        assert "default" in await coco(server, "--pause")
        for words in (["sleep:600", "priority:3", "attempts=2"], ['{"sleep": 601, "priority": 3, "attempts": 2}']):
            (job_id,) = await coco(server, "--enqueue", DUMMY, *words)
            job = (await sysadmd(server, "job", "show", job_id)).json["job"]
            assert (job["args"]["sleep"] in {600, 601}, job["priority"], job["tries_max"]) == (True, 3, 2)
        (said,) = await coco(server, "--enqueue", DUMMY, "sleep=600", code=1)
        assert "unique_key" in said
        head, *rows = await coco(server, "--listing", "pending")
        assert head.split()[:6] == ["_id", "state", "flag", "progress", "prio", "attempts"]
        assert [row.split()[1:6] for row in rows] == [["pending", "....", "0%", "3", "0/2"]] * 2
        assert (await coco(server, "--info"))[1].split() == ["2", "pending", "....", DUMMY]
        assert (await coco(server, "--alive"))[1].split()[0] == "working"
        assert DUMMY in await coco(server, "--jobs")


async def test_coco_ends_restarts_and_removes_by_name(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        await coco(server, "--pause", "default")
        (job_id,) = await coco(server, "--enqueue", DUMMY, "sleep=600")
        assert await coco(server, "--kill", DUMMY) == [job_id]
        (again,) = await coco(server, "--restart", DUMMY)
        assert again != job_id
        assert await coco(server, "--resume", "default") == ["default"]
        await until(server, again, "running")
        await coco(server, "--kill", again)
        await until(server, again, "killed")
        assert await coco(server, "--remove", DUMMY) == [again]
        (said,) = await coco(server, "--detail", DUMMY, code=1)
        assert said.startswith("coco: no job in the queue")


async def test_a_worker_of_cocos_works_until_it_is_sent_away(tmp_path: Path) -> None:
    async with running_server(tmp_path, config=f'[jobs]\ntask_slots = 0\nuser = "{getpass.getuser()}"\n') as server:
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sysadmd.cli.coco", "--worker", "w1"),
            env=server.env,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            (job_id,) = await coco(server, "--enqueue", DUMMY, "sleep=0.1")
            await until(server, job_id, "complete")
            assert any(line.split()[-1].startswith("w1@") for line in await coco(server, "--alive"))
            await coco(server, "--halt")
            async with asyncio.timeout(30):
                assert await worker.wait() == 0
        finally:
            if worker.returncode is None:
                worker.kill()


MISUSED = [
    ((), "is needed"),
    (("--kill",), "of what?"),
    (("--halt", "now"), "too many words"),
    (("--kill", "--remove", "x"), "exclude each other"),
    (("--enqueue", "x", "{"), "no JSON object"),
    (("--enqueue", "x", "word"), "no KEY=VALUE"),
    (("--listing", "asleep"), "no state"),
]


async def test_what_coco_does_not_take_is_said(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        for words, said in MISUSED:
            lines = await coco(server, *words, code=2)
            assert (words, lines[0].startswith("coco: "), said in lines[0]) == (words, True, True)


# What is wrong

WRONG = [
    (("enqueue", DUMMY, "sleep"), 2, "no KEY=VALUE"),
    (("enqueue", DUMMY, "sleep=1", "sleep=2"), 2, "given twice"),
    (("enqueue", DUMMY, "--at", "tomorrow"), 2, "no time"),
    (("enqueue", DUMMY, "snooze=1"), 1, "snooze"),
    (("enqueue", "no.such.Task"), 1, "no.such.Task"),
    (("show", "4711"), 1, "there is no job"),
    (("kill", "no.such.Name"), 1, "no job in the queue"),
    (("list", "asleep"), 2, "asleep"),
    (("output", "1", "--follow", "--step", "2"), 2, "one step"),
]


async def test_what_is_wrong_is_said_with_the_usual_exit_code(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        for words, code, said in WRONG:
            done = await sysadmd(server, "job", *words)
            assert (words, done.code, said in done.err, done.out) == (words, code, True, "")
