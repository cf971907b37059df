"""A server, its workers and a load of jobs, for tests that kill all of them: what was asked, and what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import random
import signal
import sqlite3
import sys
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from websockets.exceptions import WebSocketException

from tests.integration.servers import Peer, RunningServer

MARK = "JOB_CHAOS"
"""In the environment of every process of a task, with the directory of its test."""
PLANS = ("ok", "ok", "ok", "ok", "fails", "fails_first", "defers", "sleeps", "sleeps", "leaves")
WAITING = ("pending", "running", "deferred", "failed")
BROKEN = (WebSocketException, TimeoutError, OSError, KeyError)
"""What a client meets whose server is killed or not there yet."""


def settings(place: Path, packages: str, *, slots: int, lease: float = 3) -> str:
    """The configuration of a server whose tasks can be told from all other processes."""
    user = 'user = "root"\n' if os.geteuid() == 0 else ""
    return (
        f"[jobs]\nlease = {lease}\ntask_slots = {slots}\n{user}"
        "[limits]\nkill_grace = 0.5\ndrain = 1\ntask_stopped = 1\n"
        f'[dispatcher.variables]\nPYTHONPATH = "{packages}"\n{MARK} = "{place}"\n'
    )


class Load:
    """Jobs that are asked for until there is an answer: `jobs` has the plan of each by its id, `asked` by its key."""

    def __init__(self, place: Path, chance: random.Random) -> None:
        self.place, self.chance = place, chance
        self.asked: dict[str, str] = {}
        self.jobs: dict[str, str] = {}
        self.refused = 0
        self.enough = False

    async def feed(self, server: RunningServer, name: str, pause: float) -> None:
        """Ask for one job after another, each again with the same key when the connection broke before its answer."""
        number, answered = 0, True
        while not (self.enough and answered):
            with contextlib.suppress(*BROKEN):
                async with server.connect() as peer:
                    while not (self.enough and answered):
                        if answered:
                            number, answered = number + 1, False
                        answered = await self.ask(peer, f"{name}-{number}")
                        await asyncio.sleep(pause)
            await asyncio.sleep(0.1)

    async def ask(self, peer: Peer, key: str, ballast: int = 0) -> bool:
        """Whether there is a job now; not so when the server says that it cannot take it now. `ballast`: bytes more."""
        plan = self.asked.setdefault(key, self.chance.choice(PLANS))
        args = {
            "name": "sample.survives",
            "args": {"place": str(self.place), "plan": plan, "ballast": " " * ballast},
            "tries": 2 if plan == "fails" else 200,
            "retry_delay": 0.2,
            "defer_delay": 0.2,
            "request_key": key,
        }
        reply = await peer.request("queue", "enqueue", args)
        if reply["name"] == "response":
            self.jobs[reply["args"]["job"]["id"]] = plan
        else:
            assert reply["args"]["code"] == 503, reply
            self.refused += 1
        return bool(reply["name"] == "response")


class Follower:
    """Hears the topic `queue` from the beginning, and resumes where it was after each break."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, str, str]] = []
        self.odd: list[Any] = []
        self.since: dict[str, Any] | None = None
        self.breaks = 0

    async def follow(self, server: RunningServer) -> None:
        while True:
            with contextlib.suppress(*BROKEN):
                async with server.connect() as peer:
                    await self._listen(peer)
            self.breaks += 1
            await asyncio.sleep(0.1)

    async def _listen(self, peer: Peer) -> None:
        given = {"topics": ["queue"], **({} if self.since is None else {"since": self.since})}
        reply = await peer.call("events", "subscribe", given)
        if self.since is None:
            self.since = {"epoch": reply["epoch"], "seq": reply["seq"]}
        while True:
            for message in peer.events:
                self._take(message)
            peer.events.clear()
            peer.events.append(await peer.receive(600))

    def _take(self, message: dict[str, Any]) -> None:
        args = message["args"]
        # A restart may have lost volatile events, and says so.
        restart = message["name"] == "gap" and args["cause"] == "restart"
        if message["name"] != "queue" and not restart:
            self.odd.append(message)
        self.since = {"epoch": message["epoch"], "seq": message["seq"]}
        if message["name"] == "queue" and args["event"] != "summary":
            self.heard.append((message["seq"], args["event"], args["job"]["id"]))


@contextlib.asynccontextmanager
async def worker_process(server: RunningServer, name: str, slots: int = 2) -> AsyncIterator[asyncio.subprocess.Process]:
    """`sysadmd worker` beside the server."""
    config = server.state_dir.with_name("sysadmd.toml")
    argv = [sys.executable, "-m", "sysadmd", "worker", "--config", str(config), "--state-dir", str(server.state_dir)]
    with server.state_dir.with_name(f"{name}.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *(*argv, "--name", name, "--parallel", str(slots)),
            env=server.env,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        async with asyncio.timeout(20):
            await process.wait()


class WorkerKeeper:
    """Starts a worker again whenever it was killed."""

    def __init__(self, server: RunningServer, name: str) -> None:
        self.server, self.name = server, name
        self.process: asyncio.subprocess.Process | None = None

    async def keep(self) -> None:
        while True:
            async with worker_process(self.server, self.name) as self.process:
                await self.process.wait()

    def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.kill()


def has_workers() -> bool:
    return importlib.util.find_spec("sysadmd.cli.worker") is not None


def processes_of(place: Path, *, children: bool = False) -> Iterator[int]:
    """Processes of tasks of one test that live, what they started included; or only those that a pool started."""
    mark = f"{MARK}={place}".encode()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark not in (entry / "environ").read_bytes().split(b"\0") or b") Z " in (entry / "stat").read_bytes():
                continue
            if not children or b"sysadmd.jobs.tasks.child" in (entry / "cmdline").read_bytes():
                yield int(entry.name)


def signal_one(place: Path, chance: random.Random, number: signal.Signals) -> bool:
    """Signal one child of a pool; False when there is none."""
    found = list(processes_of(place, children=True))
    if found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(found), number)
    return bool(found)


async def settled(server: RunningServer, seconds: float) -> dict[str, int]:
    """Wait until no job waits or runs; the counts then."""
    async with asyncio.timeout(seconds), server.connect() as peer:
        while True:
            counts: dict[str, int] = (await peer.call("queue", "counts"))["counts"]
            if not any(counts.get(state) for state in WAITING):
                return counts
            await asyncio.sleep(0.2)


class Books:
    """What the store and the tasks' own notes say in the end, and how they fit."""

    def __init__(self, state_dir: Path, place: Path) -> None:
        self.connection = sqlite3.connect(f"file:{state_dir / 'sysadmd.db'}?mode=ro", uri=True)
        self.connection.row_factory = sqlite3.Row
        self.jobs = {row["id"]: row for row in self._rows("select * from job where kind = 'task'")}
        self.attempts: dict[str, list[sqlite3.Row]] = defaultdict(list)
        for row in self._rows("select * from attempt order by n"):
            self.attempts[row["job_id"]].append(row)
        notes = place / "notes"
        self.notes = Counter(notes.read_text().splitlines()) if notes.exists() else Counter[str]()

    def close(self) -> None:
        self.connection.close()

    def _rows(self, statement: str) -> list[sqlite3.Row]:
        return self.connection.execute(statement).fetchall()

    def outcomes(self) -> Counter[str]:
        return Counter(each["outcome"] for some in self.attempts.values() for each in some)

    def check(self, load: Load) -> None:
        """Every rule that must hold when nothing waits or runs."""
        assert len(load.jobs) == len(self.jobs), "each key made one job, and each job was answered for"
        for job_id, plan in load.jobs.items():
            self._check_job(self.jobs[job_id], plan)
        self._check_notes()
        self.check_counters()
        assert self._rows("pragma integrity_check")[0][0] == "ok"

    def _check_job(self, job: sqlite3.Row, plan: str) -> None:
        told = f"{job['id']} ({plan}) is {job['state']}"
        outcomes = [each["outcome"] for each in self.attempts[job["id"]]]
        assert job["state"] == ("error" if plan == "fails" else "complete"), f"{told} after {outcomes}"
        assert (job["archived_at"] is not None) == (job["state"] == "complete"), told
        assert [each["n"] for each in self.attempts[job["id"]]] == list(range(1, len(outcomes) + 1)), told
        assert None not in outcomes, f"{told}, an attempt is open"
        assert all(each["finished_at"] and not each["lease_until"] for each in self.attempts[job["id"]]), told
        assert outcomes.count("ok") == (job["state"] == "complete"), f"{told} after {outcomes}"
        assert "ok" not in outcomes[:-1], f"{told}: tried again after its completion, {outcomes}"
        if plan == "fails":
            assert len(outcomes) == job["tries_used"] == 2, f"{told} after {outcomes}"
        if plan == "defers":
            assert job["tries_used"] == len(outcomes) - outcomes.count("deferred"), f"{told} after {outcomes}"

    def _check_notes(self) -> None:
        known = {(job_id, each["n"]): each["outcome"] for job_id, some in self.attempts.items() for each in some}
        for line, count in self.notes.items():
            job_id, number, what = line.split()
            outcome = known.get((job_id, int(number)))
            assert outcome is not None, f"{line}: the store knows of no such attempt"
            assert count == 1, f"{line}: {count} times"
            assert what != "beside", f"{line}: two executions of a job at once"
            if what == "end":
                assert outcome in {"ok", "lost", "fail"}, f"{line}: its attempt ended as {outcome}"
        for (job_id, number), outcome in known.items():
            assert outcome != "ok" or self.notes[f"{job_id} {number} end"] == 1, (
                f"{job_id} {number}: ok, and nothing done"
            )

    def check_counters(self) -> None:
        """The counters that each change keeps are what a recount gives."""
        flags = "(zombie_at is not null) + 2 * (wall_at is not null) + 4 * (remove_requested_at is not null)"
        flags += " + 8 * (kill_requested_at is not null)"
        live = "from job where kind != 'command' and archived_at is null"
        counted = self._rows(f"select name, state, {flags} as flags, count(*) as n {live} group by 1, 2, 3")
        kept = self._rows("select name, state, flags, n from job_count where name != '' and n != 0")
        assert {tuple(row) for row in kept} == {tuple(row) for row in counted}
        counted = self._rows(f"select state, count(*) as n {live} group by 1")
        kept = self._rows("select state, n from job_count where name = '' and n != 0")
        assert {tuple(row) for row in kept} == {tuple(row) for row in counted}
        for job in self.jobs.values():
            found = json.loads(job["counters"])
            _, fresh, retry, deferred, alive, ok, failed, total, *_ = found
            assert (fresh, retry, deferred, alive) == (0, 0, 0, 0), f"{job['id']}: {found}"
            done = job["state"] == "complete"
            assert (ok, failed, total) == (int(done), int(not done), 1), f"{job['id']}: {found}"

    def check_events(self, follower: Follower) -> None:
        """The follower heard each durable event once, in order, and each job began and ended once."""
        stored = [
            (row["seq"], data["event"], data["job"]["id"])
            for row in self._rows("select seq, data from event where topic = 'queue' order by seq")
            if (data := json.loads(row["data"]))["event"] != "summary"
        ]
        assert follower.odd == [], follower.odd[:3]
        assert follower.heard == stored
        told = Counter((event, job_id) for _, event, job_id in stored)
        for job_id, job in self.jobs.items():
            assert told["enqueue_job", job_id] == 1
            assert told["complete_job", job_id] == (job["state"] == "complete")
            assert told["request_start_job", job_id] == len(self.attempts[job_id])
