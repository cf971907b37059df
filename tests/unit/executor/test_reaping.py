"""Whose group is killed when a child is reaped; in a process of its own, since reaping takes every child."""

from __future__ import annotations

import subprocess
import sys

import pytest

VICTIM = """
import os, signal, subprocess, sys, time
from sysadmd.executor.reaping import wait_for_exit
leaves = "sleep 30 & echo $!; exit 3"
child = subprocess.Popen(["sh", "-c", leaves], stdout=subprocess.PIPE, start_new_session=True)
left = int(child.stdout.readline())
while (reaped := wait_for_exit({child.pid} if sys.argv[1] == "ours" else {})) is None:
    time.sleep(0.01)
assert (reaped.pid, reaped.exit_code) == (child.pid, 3), reaped
child.returncode = 3
time.sleep(0.1)
with open(f"/proc/{left}/stat", "rb") as file:
    state = file.read().rsplit(b")", 1)[1].split()[0]
print("killed" if state == b"Z" else "alive")
os.kill(left, signal.SIGKILL)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("whose, fate", [("ours", "killed"), ("a stranger's", "alive")])
def test_what_is_left_of_a_group_is_killed_only_when_it_is_ours(whose: str, fate: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", VICTIM, whose], capture_output=True, text=True, timeout=20, check=False
    )
    assert done.stdout == f"{fate}\n" or (fate == "killed" and "No such file" in done.stderr), done
