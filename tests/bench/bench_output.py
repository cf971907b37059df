"""A command that writes a gigabyte: what the dispatcher's watching costs it, and costs the two processes that watch."""

from __future__ import annotations

import asyncio
import subprocess
import tempfile
import time
from pathlib import Path

from tests.bench.bench_memory import resident
from tests.bench.harness import OURS, bench

SIZE = 1_000_000_000
COMMAND = ["sh", "-c", f"yes 'a line of output as programs write them' | head -c {SIZE}"]


@bench("dispatcher.output", title="1 GB of output", unit="s", floor=0.9, higher_is_better=False)
async def output(side: str) -> float:
    """Seconds from the start to the end of the command."""
    if side == OURS:
        return (await _ours())[0]
    with tempfile.TemporaryDirectory() as directory, (Path(directory) / "output").open("wb") as file:
        started = time.perf_counter()
        await asyncio.to_thread(subprocess.run, COMMAND, stdout=file, check=True)
        return time.perf_counter() - started


@bench(
    "dispatcher.output_memory",
    title="memory that 1 GB of output costs, server or executor, whichever is more",
    unit="MiB",
    ceiling=16,
    higher_is_better=False,
)
async def output_memory(side: str) -> float:
    """Growth of the larger of the two."""
    return (await _ours())[1]


async def _ours() -> tuple[float, float]:
    from tests.integration.servers import executors_of, running_server

    with tempfile.TemporaryDirectory() as directory:
        async with running_server(Path(directory)) as server, server.connect() as peer:
            await peer.call("rpc", "dispatcher", {"action": "exec", "commands": "true"})
            pids = [server.process.pid, *executors_of(server.state_dir)]
            before = [resident(pid) for pid in pids]
            started = time.perf_counter()
            reply = await peer.call("rpc", "dispatcher", {"action": "exec", "commands": [COMMAND]})
            seconds = time.perf_counter() - started
            assert any(key.startswith("return_codes/") and code == "0" for key, code in reply.items())
            grown = max(resident(pid) - size for pid, size in zip(pids, before, strict=True))
            return seconds, grown / 1024 / 1024
