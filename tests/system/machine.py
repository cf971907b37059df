"""A machine with accounts of its own: the executor sees other files in /etc than we do, and everything else is real.

A mount namespace (unshare(1)) puts private copies of passwd, shadow, group and pam.d over those of the system, for the
executor and its children alone. PAM, its modules and the hashes are the system's.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

RULES = Path(__file__).resolve().parents[2] / "rc.d" / "pam.d" / "sysadmd.linux"
ETC = ("passwd", "shadow", "group", "pam.d")
MOUNTS = " && ".join(f'mount --bind "$0/{name}" /etc/{name}' for name in ETC)
PASSWORD = "open sesame ünder Ära"  # not ASCII: PAM gets the bytes that were typed
EXPIRED = "1"
"""Days since 1970, of shadow(5)'s field for the end of an account."""
MUST_CHANGE = "0"
"""The same for the last change of a password: it has to be changed before anything else."""


def why_not() -> str | None:
    """Why this machine cannot play another one; None: it can."""
    if not sys.platform.startswith("linux"):
        return "not Linux: PAM was not asked"
    if os.getuid() != 0:
        return "not root: PAM was not asked for real"
    if find_spec("pam") is None:
        return "the extra pam is not installed: PAM was not asked for real"
    if shutil.which("unshare") is None or shutil.which("openssl") is None:
        return "unshare or openssl is not installed: PAM was not asked for real"
    done = subprocess.run(["unshare", "--mount", "mount", "--bind", "/etc/passwd", "/etc/passwd"], capture_output=True)
    return None if done.returncode == 0 else "no mount is permitted here: PAM was not asked for real"


class Machine:
    """Its files in `directory`. `members` maps a group to its users; each user has `PASSWORD`."""

    def __init__(self, directory: Path, members: Mapping[str, tuple[str, ...]]) -> None:
        self.directory = directory
        (directory / "pam.d").mkdir(parents=True)
        shutil.copy(RULES, directory / "pam.d" / "sysadmd")
        for name in ("passwd", "group"):
            shutil.copy(Path("/etc", name), directory / name)
        (directory / "shadow").touch(mode=0o600)
        self._group = (directory / "group").read_text()
        self._next = 54001
        self.add("root", uid=0)
        for name in sorted({user for users in members.values() for user in users}):
            self.add(name)
        self.set_groups(members)

    def add(
        self, name: str, *, uid: int | None = None, locked: bool = False, expires: str = "", changed: str = "20000"
    ) -> None:
        """One user, with the fields of shadow(5). The password's hash is the C library's kind 6, SHA-512."""
        made = subprocess.run(["openssl", "passwd", "-6", "-stdin"], input=PASSWORD, capture_output=True, text=True)
        hashed = ("!" if locked else "") + made.stdout.strip()
        with (self.directory / "shadow").open("a") as file:
            file.write(f"{name}:{hashed}:{changed}:::::{expires}:\n")
        if uid is None:
            with (self.directory / "passwd").open("a") as file:
                file.write(f"{name}:x:{self._next}:{self._next}::/:/bin/sh\n")
            self._next += 1

    def set_groups(self, members: Mapping[str, tuple[str, ...]]) -> None:
        """These groups have these members; groups of the system with their names are replaced."""
        kept = [line for line in self._group.splitlines() if line.partition(":")[0] not in members]
        ours = [f"{name}:x:{55001 + n}:{','.join(users)}" for n, (name, users) in enumerate(members.items())]
        # Written in place: the file is mounted, another one with its name would not be seen.
        (self.directory / "group").write_text("\n".join([*kept, *ours, ""]))

    def when(self, user: str, script: str) -> None:
        """Before anything else, PAM runs this script when it is asked about `user`."""
        path = self.directory / f"{user}.sh"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        rules = self.directory / "pam.d" / "sysadmd"
        skip = f"auth [success=1 default=ignore] pam_succeed_if.so quiet user != {user}\n"
        rules.write_text(f"{skip}auth required pam_exec.so quiet {path}\n{rules.read_text()}")

    @contextlib.contextmanager
    def executor(self, state_dir: Path, log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """The machine's executor, once it answers."""
        executor = [sys.executable, "-m", "sysadmd.executor", "--state-dir", str(state_dir), "--log", str(log)]
        argv = ["unshare", "--mount", "sh", "-c", f'{MOUNTS} && exec "$@"', str(self.directory), *executor]
        process = subprocess.Popen(argv)
        try:
            while not (log.exists() and "ready:" in log.read_text()):
                assert process.poll() is None, "the executor did not start"
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(0.05)
            yield process
        finally:
            process.terminate()
            process.wait(20)
