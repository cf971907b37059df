"""Server and executor as the service files start them: the server as a user of its own, the executor as root.

What the kernel says of the server process counts, and what happens to somebody who has become its like: `INSIDE` is the
identity that an attacker who has taken the server over would have.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.system.services import DEADLINE, SYSADMD, running, wait_for

pytestmark = pytest.mark.system
SERVER, STRANGER = "nobody", "daemon"
NOT_RUN = "the isolation of the server was not tested"
WHAT_IT_NEEDS = (
    "import sys, gzip, sysadmd, msgspec, sqlalchemy, argon2.low_level, cryptography.x509; print(sys.base_prefix)"
)
KNOCK = """
import socket, sys
with socket.socket(socket.AF_UNIX) as sock:
    sock.settimeout(20)
    try:
        sock.connect(sys.argv[1])
    except OSError as error:
        sys.exit(type(error).__name__)
    try:
        sock.sendall(len(sys.argv[2]).to_bytes(4, "big") + sys.argv[2].encode())
        print(len(sock.recv(1000)))
    except ConnectionError:
        print(0)
"""
HELLO = json.dumps({"frame": "hello", "proto": 1, "server": "a stranger"})


def as_user(name: str) -> list[str]:
    user = pwd.getpwnam(name)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


# What User= and CapabilityBoundingSet= of the server's unit do; the server denies itself new privileges.
STARTED = [*as_user(SERVER), "--bounding-set=-all", "--inh-caps=-all"]
INSIDE = [*STARTED, "--no-new-privs"]


@dataclass
class Ground:
    """A directory of root's that everybody may enter, an interpreter that the server's user can read, and what that is
    started with.
    """

    directory: Path
    python: str
    env: dict[str, str]

    @property
    def secret(self) -> Path:
        """A file that only root may read."""
        return self.directory / "secret.pem"

    def state(self, name: str) -> Path:
        """A state directory of the server's user."""
        state, user = self.directory / name, pwd.getpwnam(SERVER)
        state.mkdir(mode=0o700)
        os.chown(state, user.pw_uid, user.pw_gid)
        return state

    def run(self, who: list[str], *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a program as somebody."""
        return subprocess.run([*who, *argv], env=self.env, cwd="/", capture_output=True, text=True)


@dataclass
class Machine(Ground):
    """A running pair."""

    server: subprocess.Popen[bytes]

    @property
    def home(self) -> Path:
        """The executor's directory."""
        return self.directory / "executor"

    def log(self, name: str) -> str:
        """What `server` or `executor` logged."""
        return (self.directory / f"{name}.log").read_text()

    def call(self, args: dict[str, Any], method: str = "rpc/dispatcher") -> Any:
        """A call as root, over the server's Unix socket."""
        env = {**os.environ, "SYSADMD_STATE_DIR": str(self.directory / "state")}
        done = subprocess.run([*SYSADMD, "call", method, json.dumps(args)], env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr + self.log("server")
        return json.loads(done.stdout)

    def output(self, name: str, job: dict[str, Any]) -> str:
        """What the commands of a job print."""
        self.call({"action": "run", name: job})

        def read() -> Any:
            return self.call({"action": "read_log", "process_id": name, "follow": 1})

        self.until(lambda: read()["state"] == "finished", f"end of {name}")
        return str(read()["data"])

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for what another process does."""
        deadline = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < deadline, f"no {what}:\n{self.log('server')}\n{self.log('executor')}"
            time.sleep(0.05)

    def knock(self, who: list[str]) -> subprocess.CompletedProcess[str]:
        """Say hello at the executor's socket; prints how many bytes the answer has."""
        return self.run(who, self.python, "-I", "-c", KNOCK, str(self.home / "executor.sock"), HELLO)


def readable_python(env: dict[str, str]) -> str:
    """An interpreter that the server's user can run sysadmd with; root's own may be in root's home."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        seen = [
            subprocess.run([*who, python, "-c", WHAT_IT_NEEDS], env=env, cwd="/", capture_output=True, check=False)
            for who in ([], INSIDE)
            if Path(python).exists()
        ]
        # One that cannot read its own library finds another's; so both have to find the same.
        if seen and seen[1].returncode == 0 and seen[0].stdout == seen[1].stdout:
            return python
    pytest.skip(f"no Python that {SERVER} can read has what sysadmd needs: {NOT_RUN}")


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    if os.getuid() != 0:
        pytest.skip(f"not root: {NOT_RUN}")
    if shutil.which("setpriv") is None:
        pytest.skip(f"setpriv is not installed: {NOT_RUN}")
    # Not below pytest's own directory, which only root may enter.
    directory = Path(tempfile.mkdtemp(prefix="sysadmd-isolation-"))
    directory.chmod(0o755)
    modules = [str(Path(__file__).parents[2]), *(path for path in sys.path if path.endswith("-packages"))]
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(modules), "PYTHONDONTWRITEBYTECODE": "1"}
    (directory / "secret.pem").touch(0o600)
    try:
        yield Ground(directory, readable_python(env), env)
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def machine(ground: Ground) -> Iterator[Machine]:
    directory, state = ground.directory, ground.state("state")
    home, config = directory / "executor", directory / "config.toml"
    config.write_text("")
    executor = [*SYSADMD, "executor", "--server-user", SERVER, "--executor-dir", str(home)]
    serve = [*STARTED, ground.python, "-m", "sysadmd", "serve", "--no-executor", "--executor-socket"]
    serve += [str(home / "executor.sock"), "--state-dir", str(state), "--config", str(config)]
    serve += ["--listen", "127.0.0.1:0", "--rest", "127.0.0.1:0"]
    with running(executor, dict(os.environ), directory / "executor.log") as one:
        wait_for(home / "executor.sock", one, directory / "executor.log")
        with running(serve, ground.env, directory / "server.log") as server:
            wait_for(state / "sysadmd.sock", server, directory / "server.log")
            yield Machine(directory, ground.python, ground.env, server)


def status(pid: int) -> dict[str, list[str]]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":")[0]: line.split(":")[1].split() for line in lines}


def test_the_server_has_no_capability_and_no_identity_but_its_own(machine: Machine) -> None:
    found, user = status(machine.server.pid), pwd.getpwnam(SERVER)
    assert {name: found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {
        name: ["0" * 16] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    }
    assert found["Uid"] == [str(user.pw_uid)] * 4
    assert found["Gid"] == [str(user.pw_gid)] * 4
    assert found["Groups"] == []


def test_the_server_can_gain_no_privilege(machine: Machine) -> None:
    assert status(machine.server.pid)["NoNewPrivs"] == ["1"]
    become = "import os\ntry: os.setuid(0)\nexcept PermissionError: print(os.getresuid())"
    uid = pwd.getpwnam(SERVER).pw_uid
    assert machine.run(INSIDE, machine.python, "-I", "-c", become).stdout == f"({uid}, {uid}, {uid})\n"
    # A set-uid program of root's does nothing for it, though it works for others.
    program = Path(shutil.copy(str(shutil.which("id")), machine.directory / "id"))
    program.chmod(0o4755)
    assert machine.run(INSIDE, str(program), "-u").stdout == f"{uid}\n"
    if not os.statvfs(machine.directory).f_flag & os.ST_NOSUID:
        assert machine.run(as_user(SERVER), str(program), "-u").stdout == "0\n"


def test_the_server_reads_no_foreign_file(machine: Machine) -> None:
    for path in (machine.secret, Path("/etc/shadow")):
        done = machine.run(INSIDE, "cat", str(path))
        assert (done.returncode, done.stdout) == (1, "")
        assert "Permission denied" in done.stderr
    # The running server itself, told to use that file as its key.
    certificate = f'certificate = "{machine.directory}/state/server.crt"'
    (machine.directory / "config.toml").write_text(f'[listen]\n{certificate}\nkey = "{machine.secret}"\n')
    machine.server.send_signal(signal.SIGHUP)

    def refused() -> bool:
        lines = machine.log("server").splitlines()
        return any(str(machine.secret) in line and "Permission denied" in line for line in lines)

    machine.until(refused, "refusal of a key that is root's")
    (machine.directory / "config.toml").write_text("")


def test_nobody_but_the_server_opens_the_executors_socket(machine: Machine) -> None:
    done = machine.knock(as_user(STRANGER))
    assert (done.returncode, done.stderr) == (1, "PermissionError\n")


def test_a_stranger_is_refused_by_its_credentials_where_the_mode_would_let_it_in(machine: Machine) -> None:
    socket = machine.home / "executor.sock"
    socket.chmod(0o666)
    try:
        done = machine.knock(as_user(STRANGER))
    finally:
        socket.chmod(0o600)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr
    assert f"refused a connection of uid {pwd.getpwnam(STRANGER).pw_uid}" in machine.log("executor")


def test_the_server_cannot_put_anything_in_the_place_of_the_executors_files(machine: Machine) -> None:
    for argv in (
        ["ls", str(machine.home)],
        ["ls", str(machine.home / "executor")],
        ["rm", "-f", str(machine.home / "executor.sock")],
        ["mv", str(machine.home / "executor"), str(machine.directory / "state")],
        ["ln", "-s", "/etc", str(machine.home / "link")],
    ):
        done = machine.run(INSIDE, *argv)
        assert done.returncode != 0, argv
        assert "Permission denied" in done.stderr


def test_commands_are_roots(machine: Machine) -> None:
    file = machine.directory / "file"
    file.touch()
    machine.call({"action": "run", "give": f"chown {pwd.getpwnam(STRANGER).pw_uid} {file}"})
    machine.until(lambda: file.stat().st_uid == pwd.getpwnam(STRANGER).pw_uid, "owner")
    root = pwd.getpwuid(0)
    printed = machine.output("environment", {"commands": ["/usr/bin/env"]}).splitlines()
    assert {f"HOME={root.pw_dir}", f"USER={root.pw_name}", f"LOGNAME={root.pw_name}"} <= set(printed)
    assert not [line for line in printed if line.startswith("PYTHON")]


@pytest.mark.parametrize(
    "job, locked",
    [
        ({}, False),
        ({"user": "root"}, False),
        ({"user": STRANGER}, True),
        ({"user": STRANGER, "no_new_privs": False}, False),
        ({"no_new_privs": True}, True),
    ],
)
def test_the_command_of_a_lesser_user_gains_no_privilege(machine: Machine, job: dict[str, Any], locked: bool) -> None:
    name = f"status of {json.dumps(job)}"
    lines = machine.output(name, {"commands": ["cat /proc/self/status"], **job}).splitlines()
    user = pwd.getpwnam(job.get("user", "root"))
    assert f"NoNewPrivs:\t{int(locked)}" in lines
    assert "\t".join(["Uid:", *[str(user.pw_uid)] * 4]) in lines


def test_what_root_does_to_a_stopped_servers_directory_stays_the_servers(ground: Ground) -> None:
    state, owner = ground.state("stopped"), pwd.getpwnam(SERVER).pw_uid
    sysadmd = [ground.python, "-m", "sysadmd"]
    added = ground.run(sysadmd, "user", "add", "ann", "--generate", "--state-dir", str(state))
    assert added.returncode == 0, added.stderr
    backup = state / "backup"
    assert ground.run(sysadmd, "backup", str(backup), "--state-dir", str(state)).returncode == 0
    restored = ground.run(sysadmd, "restore", str(backup), "--force", "--state-dir", str(state))
    assert restored.returncode == 0, restored.stderr
    made = list(state.rglob("*"))
    assert state / "sysadmd.db" in made
    assert {path.lstat().st_uid for path in made} == {owner}


def test_a_link_in_the_servers_directory_leads_root_nowhere(ground: Ground) -> None:
    state = ground.state("trap")
    (state / "sysadmd.db").symlink_to(ground.secret)
    for argv in (["user", "add", "ann", "--generate"], ["backup", str(ground.directory / "copy")]):
        done = ground.run([ground.python, "-m", "sysadmd"], *argv, "--state-dir", str(state))
        assert done.returncode != 0
        assert "Traceback" not in done.stderr
    assert ground.secret.read_bytes() == b""
    assert not (ground.directory / "copy").exists()
