"""A server that is root, as its executor is, does its whole work without a single capability.

The service files give it a user of its own as well (test_isolation.py).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.system.services import DEADLINE, SYSADMD, running, wait_for

pytestmark = pytest.mark.system
# What CapabilityBoundingSet= and NoNewPrivileges= do to a service of root (capabilities(7), "root user programs").
BARE_ROOT = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]


def capabilities(pid: int) -> set[str]:
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split()[1] for line in status if line.startswith(("CapEff", "CapPrm", "CapBnd"))}


def test_a_server_without_capabilities_runs_commands_through_an_executor_that_has_them(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("not root: the server was not run as root without capabilities")
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is not installed: the server was not run as root without capabilities")
    state = tmp_path / "state"
    env = {**os.environ, "SYSADMD_STATE_DIR": str(state)}
    serve = [*SYSADMD, "serve", "--state-dir", str(state), "--listen", "127.0.0.1:0", "--rest", "127.0.0.1:0"]

    def call(args: str, method: str = "rpc/dispatcher") -> str:
        done = subprocess.run([*SYSADMD, "call", method, args], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    executor_log, server_log = tmp_path / "executor.log", tmp_path / "server.log"
    with running([*SYSADMD, "executor", "--state-dir", str(state)], env, executor_log) as executor:
        wait_for(state / "executor.sock", executor, executor_log)
        with running([*BARE_ROOT, *serve], env, server_log) as server:
            wait_for(state / "sysadmd.sock", server, server_log)
            assert capabilities(server.pid) == {"0" * 16}
            # chown to somebody else needs CAP_CHOWN, which only the executor has.
            (tmp_path / "file").touch()
            call(f'{{"action": "run", "give": "chown 65534 {tmp_path / "file"}"}}')
            deadline = time.monotonic() + DEADLINE
            while (tmp_path / "file").stat().st_uid != 65534:
                assert time.monotonic() < deadline, server_log.read_text() + executor_log.read_text()
                time.sleep(0.05)
