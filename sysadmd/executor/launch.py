"""Starting an executor that outlives its starter."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sysadmd.errors import ExecutorError
from sysadmd.executor.protocol import connect, socket_path

INHERITED = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
"""The executor's own environment; its children get none of it. No secret of the server's environment is in it."""


def spawn_detached(state_dir: Path, *, log_file: Path | None = None, timeout: float = 10.0) -> None:
    """Start an executor for `state_dir` in a session of its own and return when it accepts connections.

    It logs to `log_file`, or to the caller's stderr. One that already runs is as good. Blocks for some tenths of a
    second, at most `timeout` seconds. Raises ExecutorError.
    """
    argv = [sys.executable, "-P", "-m", "sysadmd.executor", "--detach", "--state-dir", str(state_dir)]
    if log_file is not None:
        argv += ["--log", str(log_file)]
    environment = {key: os.environ[key] for key in INHERITED if key in os.environ}
    try:
        # The process started here ends when its fork, the executor, is ready: no zombie of ours is left.
        done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, timeout=timeout, check=False)
    except subprocess.TimeoutExpired:
        raise ExecutorError(f"the executor was not ready within {timeout:g} s") from None
    except OSError as error:
        raise ExecutorError(f"cannot start the executor: {error}") from None
    if done.returncode != 0:
        try:
            connect(socket_path(state_dir)).close()
        except ExecutorError:
            where = log_file or "stderr"
            raise ExecutorError(f"the executor ended with status {done.returncode}; {where} says why") from None
