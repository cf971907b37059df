"""A process killed with -9 under load: nothing acknowledged is lost, no seq is used twice."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

from sqlalchemy import select

from sysadmd.store import Store, tables

RUNS = 5


def run_and_kill(path: Path, repository: Path, after: float) -> list[list[str]]:
    """Lines of a victim that had `after` seconds under load before it was killed."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.unit.events.crash_victim", str(path)],
        cwd=repository,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(repository)},
    ) as process:
        assert process.stdout is not None
        first = process.stdout.readline() + process.stdout.readline()
        time.sleep(after)
        process.kill()
        output = first + process.stdout.read()
    # The last line may be torn: it was not said.
    return [line.split() for line in output.decode().split("\n")[:-1] if line]


def test_kill_9_loses_nothing_and_repeats_nothing(tmp_path: Path, repository: Path) -> None:
    path = tmp_path / "a.db"
    seen: list[int] = []
    acknowledged: set[int] = set()
    epochs = set()
    for _ in range(RUNS):
        lines = run_and_kill(path, repository, random.uniform(0.05, 0.4))
        epochs.add(lines[0][1])
        seen += [int(line[1]) for line in lines if line[0] in {"ack", "seen"}]
        acknowledged |= {int(line[1]) for line in lines if line[0] == "ack"}
    store = Store.open(path)
    stored = set(store.read_now(lambda c: c.execute(select(tables.event.c.seq)).scalars().all()))
    healthy = store.read_now(lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar())
    store.close()
    assert healthy == "ok"
    assert len(epochs) == 1
    assert len(acknowledged) > RUNS
    assert acknowledged <= stored
    assert len(seen) == len(set(seen)), "no seq twice, volatile or durable, over all runs"
    assert seen == sorted(seen)
