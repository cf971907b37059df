"""The checks of an executor, with a program in place of the one that asks PAM: real processes, real pipes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sysadmd.executor import pam
from sysadmd.executor.frames import Authenticate, Authenticated
from sysadmd.executor.pam import QUEUED, PamChecks
from sysadmd.executor.reaping import wait_for_exit

SECRET = "open sesame"
ASKED = Authenticate(request=1, user="zoe", password=SECRET)
GOOD = """
import json, sys
asked = json.load(sys.stdin)
ok = asked == {"service": "sysadmd", "user": "zoe", "password": "open sesame"}
print(json.dumps({"ok": ok, "uid": 4001, "groups": ["zoe", "wheel"], "reason": "" if ok else "no"}))
"""


@pytest.fixture(autouse=True)
def rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with the binding, and rules for the service."""
    path = tmp_path / "sysadmd"
    path.touch()
    monkeypatch.setattr(pam, "BINDING", "json")
    monkeypatch.setattr(pam, "SERVICE_FILES", (str(path),))
    return path


class Rig:
    """Checks and what they said. Processes are reaped as the executor reaps them: at SIGCHLD, all of them."""

    def __init__(self) -> None:
        self.watched: dict[int, Callable[[], None]] = {}
        self.pids: list[int] = []
        self.lines: list[str] = []
        self.answers: asyncio.Queue[Authenticated] = asyncio.Queue()
        self.ends: asyncio.Queue[int] = asyncio.Queue()

    def watch(self, pid: int, on_end: Callable[[], None]) -> None:
        self.pids.append(pid)
        self.watched[pid] = on_end

    def reap(self) -> None:
        while self.watched and (reaped := wait_for_exit(self.watched)) is not None:
            if (on_end := self.watched.pop(reaped.pid, None)) is not None:
                on_end()
                self.ends.put_nowait(reaped.pid)

    async def answer(self) -> Authenticated:
        return await asyncio.wait_for(self.answers.get(), 20)


@asynccontextmanager
async def checks(program: str, deadline: float = 20.0) -> AsyncIterator[tuple[PamChecks, Rig]]:
    rig = Rig()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGCHLD, rig.reap)
    argv = [sys.executable, "-c", program]
    made = PamChecks(watch=rig.watch, answer=rig.answers.put_nowait, log=rig.lines.append, argv=argv, deadline=deadline)
    try:
        yield made, rig
        made.forget()
        while rig.watched:
            await asyncio.wait_for(rig.ends.get(), 20)
    finally:
        loop.remove_signal_handler(signal.SIGCHLD)


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


async def test_the_question_goes_by_stdin_and_the_verdict_comes_back() -> None:
    async with checks(GOOD) as (one, rig):
        one.submit(ASKED)
        assert await rig.answer() == Authenticated(1, ok=True, uid=4001, groups=["zoe", "wheel"])


async def test_nobody_can_read_the_password_in_the_process_table(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    program = f"import os, sys, time\nsys.stdin.read()\nos.mkfifo({str(ready)!r})\ntime.sleep(60)"
    async with checks(program) as (one, rig):
        one.submit(ASKED)
        while not ready.exists():
            await asyncio.sleep(0.01)
        shown = [Path(f"/proc/{rig.pids[0]}/{name}").read_bytes() for name in ("cmdline", "environ")]
    assert not [text for text in shown if SECRET.encode() in text]
    assert "sesame" not in "".join(rig.lines)


async def test_the_process_gets_the_allowed_environment_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("SYSADMD_SECRET", "x")
    program = 'import json, os; print(json.dumps({"ok": 1, "uid": 1, "groups": sorted(os.environ), "reason": ""}))'
    async with checks(program) as (one, rig):
        one.submit(ASKED)
        assert set((await rig.answer()).groups) <= {*pam.PASSED, "LC_CTYPE"}  # which Python itself sets (PEP 538)


@pytest.mark.parametrize(
    "program",
    [
        "import os; os.abort()",
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "raise SystemExit(1)",
        "pass",
        "print('[]')",
        "print('{\"ok\": true}')",
        "print('not json')",
        "import os; os.close(0)",
    ],
)
async def test_one_that_dies_or_talks_nonsense_is_a_refusal_and_the_next_is_checked(program: str) -> None:
    async with checks(program) as (one, rig):
        for number in (1, 2):
            one.submit(Authenticate(request=number, user="zoe", password=SECRET))
        assert [await rig.answer(), await rig.answer()] == [
            Authenticated(number, ok=False, reason="crashed") for number in (1, 2)
        ]
        assert "sesame" not in "".join(rig.lines)


async def test_one_that_hangs_is_killed_at_its_deadline_with_its_children() -> None:
    program = "import os, time\nos.fork()\ntime.sleep(60)"
    async with checks(program, deadline=0.5) as (one, rig):
        one.submit(ASKED)
        assert await rig.answer() == Authenticated(1, ok=False, reason="deadline")
        await asyncio.wait_for(rig.ends.get(), 20)
        while group_exists(rig.pids[0]):  # a killed child goes as soon as the kernel comes to it
            await asyncio.sleep(0.01)


async def test_one_runs_at_a_time_and_beyond_the_queue_is_busy() -> None:
    async with checks("import time; time.sleep(60)") as (one, rig):
        for number in range(QUEUED + 3):
            one.submit(Authenticate(request=number, user="zoe", password=SECRET))
        assert len(rig.pids) == 1
        busy = [await rig.answer(), await rig.answer()]
        assert busy == [Authenticated(number, ok=False, reason="busy") for number in (QUEUED + 1, QUEUED + 2)]


async def test_when_the_server_goes_nothing_is_left_of_what_it_asked() -> None:
    async with checks("import time; time.sleep(60)") as (one, rig):
        for number in range(5):
            one.submit(Authenticate(request=number, user="zoe", password=SECRET))
        one.forget()
        await asyncio.wait_for(rig.ends.get(), 20)
        assert len(rig.pids) == 1
        assert rig.answers.empty()


async def test_a_question_too_long_for_a_pipe_is_refused() -> None:
    async with checks(GOOD) as (one, rig):
        one.submit(Authenticate(request=1, user="zoe", password="x" * 9000))
        assert await rig.answer() == Authenticated(1, ok=False, reason="crashed")
        assert rig.pids == []


async def test_without_rules_of_our_own_nobody_is_asked(rules: Path) -> None:
    async with checks(GOOD) as (one, rig):
        rules.unlink()
        one.submit(ASKED)
        assert await rig.answer() == Authenticated(1, ok=False, reason="unavailable")
        assert rig.pids == []


def test_the_feature_needs_the_binding_and_the_rules(rules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert pam.features() == ["pam"]
    rules.unlink()
    assert pam.features() == []
    rules.touch()
    monkeypatch.setattr(pam, "BINDING", "no_such_module")
    assert pam.features() == []
