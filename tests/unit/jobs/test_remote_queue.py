"""The calls of a worker, over a pretended connection."""

from __future__ import annotations

from typing import Any

import pytest

from sysadmd.client.errors import ConnectionLost, RemoteError
from sysadmd.jobs.remote_queue import RemoteQueue
from sysadmd.jobs.views import End, Worker

LEASE = "0" * 32


class Client:
    """Answers with what it is given, or raises it."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[str, Any]] = []

    async def call(self, method: str, args: Any = None, *, timeout: float | None = None) -> Any:
        assert timeout is not None
        self.calls.append((method, args))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def claim() -> dict[str, Any]:
    job = {"id": "a", "seq": 1, "kind": "task", "name": "n", "lane": "default", "owner": "o", "state": "running"}
    step = {"job_id": "a", "idx": 0, "stage": 0, "type": "task", "state": "leased"}
    return {
        "job": {**job, "created_at": 1.0, "a_later_key": 1},
        "step": step,
        "lease": LEASE,
        "n": 1,
        "output_path": "p",
        "lease_seconds": 30,
    }


async def test_a_claim_is_read_and_later_keys_are_ignored() -> None:
    client = Client({"claims": [claim()], "halted": False, "seen": 3})
    queue, worker = RemoteQueue(client), Worker("w@h", "h", 1.0, 2)
    (found,) = await queue.claim(worker, 2, frozenset({"task"}))
    assert (found.lease, found.job.name, found.lease_seconds) == (LEASE, "n", 30.0)
    args = {"worker": {"id": "w@h", "host": "h", "started_at": 1.0, "slots": 2}, "limit": 2, "kinds": ["task"]}
    assert client.calls == [("queue/work/claim", args)]
    assert not queue.halted(worker)


async def test_a_halt_is_heard_with_the_claim() -> None:
    queue, worker = RemoteQueue(Client({"claims": [], "halted": True, "seen": 3})), Worker("w@h", "h", 1.0)
    await queue.claim(worker, 1, frozenset({"task"}))
    assert queue.halted(worker)


async def test_a_wait_is_for_what_came_after_the_claim() -> None:
    client = Client({"claims": [], "halted": False, "seen": 7}, {"work": True})
    queue = RemoteQueue(client)
    await queue.claim(Worker("w@h", "h", 1.0), 1, frozenset({"task"}))
    assert await queue.wait_work(frozenset({"task"}), 5.0)
    assert client.calls[1] == ("queue/work/wait", {"kinds": ["task"], "timeout": 5.0, "seen": 7})


async def test_what_holds_is_a_set() -> None:
    assert await RemoteQueue(Client({"held": [LEASE]})).renew([LEASE, "1" * 32]) == {LEASE}


async def test_an_end_leaves_out_what_is_not_there() -> None:
    client = Client({"held": True})
    assert await RemoteQueue(client).finish(LEASE, End(outcome="ok", result={"a": 1}, output_bytes=3))
    end = {"outcome": "ok", "result": {"a": 1}, "output_bytes": 3}
    assert client.calls == [("queue/work/finish", {"lease": LEASE, "end": end})]


async def test_a_result_that_the_server_refuses_fails_the_attempt() -> None:
    client = Client(RemoteError(400, "nested too deeply"), {"held": True})
    assert await RemoteQueue(client).finish(LEASE, End(outcome="ok", result=1))
    assert client.calls[1][1]["end"]["outcome"] == "fail"
    assert "nested too deeply" in client.calls[1][1]["end"]["error"]["message"]


@pytest.mark.parametrize("error", [ConnectionLost("gone"), RemoteError(429, "too many"), RemoteError(503, "stopping")])
async def test_what_may_be_heard_later_is_raised(error: Exception) -> None:
    with pytest.raises(type(error)):
        await RemoteQueue(Client(error)).finish(LEASE, End(outcome="ok"))
