"""A real sshd for one test: on a free loopback port, with keys of its own, for the account that runs the tests.

It is run as inetd would, once for each connection, so that the port is ours from the start and every process is known.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sysadmd.config import SiteConfig


@dataclass
class SshServer:
    """Where it is and how to get in."""

    port: int
    user: str
    host_key: str
    key: Path
    log: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def site(self, root: Path, **changes: object) -> SiteConfig:
        """A site on it."""
        values = {"ssh": f"{self.user}@127.0.0.1:{self.port}", "key": self.key, "host_key": self.host_key}
        return SiteConfig(root=str(root), **{**values, **changes})  # type: ignore[arg-type]

    def freeze(self) -> None:
        """Stop what serves the connections that there are: they stay open, and nothing comes."""
        for process in self.processes:
            for pid in (process.pid, *_children(process.pid)):
                os.kill(pid, signal.SIGSTOP)

    def break_connections(self) -> None:
        """Kill what serves the connections that there are; later ones are served."""
        for process in self.processes:
            children = _children(process.pid) if process.poll() is None else []
            process.kill()
            process.wait()
            for pid in children:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.processes.clear()


def _children(pid: int) -> list[int]:
    """The processes below one; sshd has one for the account."""
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    own = [child for child, parent in pairs if parent == pid]
    return [*own, *(below for child in own for below in _children(child))]


def keypair(path: Path) -> str:
    """A new key at `path`; returns its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
    return path.with_name(f"{path.name}.pub").read_text().strip()


@contextmanager
def running_ssh_server(directory: Path) -> Iterator[SshServer]:
    """Skips the test where there is no sshd."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if sshd is None or shutil.which("ssh-keygen") is None:
        pytest.skip("sshd is not installed: sites behind SSH are not tried (Debian: openssh-server)")
    account = pwd.getpwuid(os.geteuid())
    if account.pw_shell.endswith(("nologin", "false")):
        pytest.skip(f"nobody may log in as {account.pw_name}: sites behind SSH are not tried")
    if os.geteuid() == 0:  # sshd wants it; the package's own start script makes it
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    host_key = keypair(directory / "host")
    (directory / "authorized").write_text(keypair(directory / "id") + "\n")
    (directory / "sshd_config").write_text(
        f"HostKey {directory}/host\nAuthorizedKeysFile {directory}/authorized\nPidFile none\nUsePAM no\n"
        "StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        "Subsystem sftp internal-sftp\n"
    )
    command = [sshd, "-i", "-e", "-f", str(directory / "sshd_config")]
    log = directory / "sshd.log"
    checked = subprocess.run([*command[:1], "-t", *command[2:]], capture_output=True, text=True, check=False)
    if checked.returncode:
        pytest.skip(f"sshd does not run here: {checked.stderr.strip()}")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = SshServer(listener.getsockname()[1], account.pw_name, host_key, directory / "id", log)
        thread = threading.Thread(target=_serve, args=(listener, command, server))
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
            server.break_connections()


def _serve(listener: socket.socket, command: list[str], server: SshServer) -> None:
    with server.log.open("ab") as log:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                both = connection.fileno()
                server.processes.append(subprocess.Popen(command, stdin=both, stdout=both, stderr=log))
