"""The lock of a state directory."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sysadmd.errors import StateError
from sysadmd.store.lock import StateLock, prepare_state_dir


def test_the_directory_is_made_private(tmp_path: Path) -> None:
    prepare_state_dir(tmp_path / "a" / "state")
    assert (tmp_path / "a" / "state").stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_may_write_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o770)
    with pytest.raises(StateError, match=r"may be written by others \(mode 0770\)"):
        prepare_state_dir(state)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: gives a directory to another user")
def test_a_directory_of_another_owner_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    os.chown(state, 12345, -1)
    with pytest.raises(StateError, match="belongs to uid 12345"):
        prepare_state_dir(state)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("")
    with pytest.raises(StateError, match="state: File exists"):
        prepare_state_dir(tmp_path / "state")


def test_a_second_holder_is_told_who_has_it(tmp_path: Path) -> None:
    with StateLock(tmp_path), pytest.raises(StateError, match=f"is in use by process {os.getpid()}"):
        StateLock(tmp_path).acquire()


def test_release_lets_the_next_one_in(tmp_path: Path) -> None:
    first = StateLock(tmp_path)
    first.acquire()
    first.release()
    first.release()
    with StateLock(tmp_path) as second:
        assert second.held
    assert not second.held


def test_acquire_waits_for_a_holder_that_leaves(tmp_path: Path) -> None:
    first = StateLock(tmp_path)
    first.acquire()
    timer = threading.Timer(0.15, first.release)
    timer.start()
    second = StateLock(tmp_path)
    started = time.monotonic()
    second.acquire(wait=5)
    timer.join()
    assert time.monotonic() - started < 4
    second.release()


def test_a_killed_holder_leaves_no_stale_lock(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, time; from sysadmd.store.lock import StateLock;"
        "StateLock(pathlib.Path(sys.argv[1])).acquire(); print('held', flush=True); time.sleep(60)"
    )
    # The object is dropped at once, its descriptor is not: only the end of the process gives the lock back.
    child = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    with pytest.raises(StateError, match=f"process {child.pid}"):
        StateLock(tmp_path).acquire()
    child.kill()
    child.wait()
    child.stdout.close()
    with StateLock(tmp_path):
        pass


def test_a_child_process_does_not_inherit_the_lock(tmp_path: Path) -> None:
    lock = StateLock(tmp_path)
    lock.acquire()
    child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        lock.release()
        StateLock(tmp_path).acquire()
    finally:
        child.kill()
        child.wait()


def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StateError):
        StateLock(tmp_path).acquire()
    assert not (tmp_path / "elsewhere").exists()
