"""What identifies a process beyond its number, and a kernel beyond its host name.

A process id alone names nobody: ids are used again. The pair (id, start time) does, within one boot. Linux has the
start time in /proc/<pid>/stat, in clock ticks since boot. FreeBSD has it in a structure whose layout is the C library's
own business; there we note the wall clock when we spawn, and compare with what ps(1) says only when it matters, which
is once in the life of an executor that follows a dead one.
"""

from __future__ import annotations

import calendar
import contextlib
import os
import re
import subprocess
import sys
import time

LINUX = sys.platform.startswith("linux")
PS_TOLERANCE = 2
"""Seconds by which ps(1), which counts whole ones, may differ from our clock."""
QUERY_TIMEOUT = 10.0
TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def boot_id() -> str:
    """The running kernel's identity, the same until the next boot; `unknown` where the system has none."""
    if LINUX:
        with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return file.read().strip()
        return "unknown"
    random = _query("sysctl", "-b", "kern.boot_id")  # FreeBSD 13 and later: 16 random bytes
    if len(random) == 16:
        return random.hex()
    # A stepped clock moves it. The price is an orphan that is reported and not killed, never a stranger killed.
    match = re.search(rb"sec = (\d+)", _query("sysctl", "-n", "kern.boottime"))
    return f"boottime-{int(match[1])}" if match else "unknown"


def ticks() -> int:
    """The time in the unit of a process's start: clock ticks since boot (Linux), Unix seconds elsewhere."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // TICK_NS if LINUX else int(time.time())


def start_of_child(pid: int, before: int) -> int:
    """The start time to note for a child not yet reaped, spawned after the `ticks()` given.

    When no tick has passed since, it started in this one. That spares reading /proc, which has to wait for the child's
    exec(2) to be through: 250 µs, measured, of an executor that could be spawning.
    """
    if not LINUX or ticks() == before:
        return before
    fields = stat_fields(pid)
    return int(fields[19]) if fields else 0


def is_same(pid: int, start: int) -> bool:
    """Whether `pid` is, still, the process that `start_of_child` noted."""
    if not LINUX:
        found = start_by_ps(pid)
        return found is not None and abs(found - start) <= PS_TOLERANCE
    fields = stat_fields(pid)
    return fields is not None and start != 0 and int(fields[19]) == start


def stat_fields(pid: int) -> list[bytes] | None:
    """The fields of /proc/<pid>/stat from the state on: proc(5)'s field 3 is index 0. None: no such process."""
    try:
        descriptor = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        data = os.read(descriptor, 4096)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return data[data.rfind(b")") + 2 :].split()  # the command's name may itself hold blanks and brackets


def start_by_ps(pid: int) -> int | None:
    """The Unix time at which `pid` started, as ps(1) has it; None when there is no such process."""
    text = _query("ps", "-o", "lstart=", "-p", str(pid)).decode("ascii", "replace").strip()
    try:
        return calendar.timegm(time.strptime(text, "%a %b %d %H:%M:%S %Y"))
    except ValueError:
        return None


def session_members(session: int | None) -> list[tuple[int, int]]:
    """(process, group) of those in `session`, or in any one (None), whose group has the session's id. Linux; elsewhere
    none.
    """
    members: list[tuple[int, int]] = []
    if LINUX:
        for name in os.listdir("/proc"):
            fields = stat_fields(int(name)) if name.isdigit() else None
            if fields and int(fields[2]) == int(fields[3]) and (session is None or int(fields[3]) == session):
                members.append((int(name), int(fields[3])))
    return members


def writes_to(pid: int, device: int, inode: int) -> bool:
    """Whether stdout or stderr of `pid` is that file. Linux; elsewhere never."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            found = os.stat(f"/proc/{pid}/fd/{descriptor}")
            if (found.st_dev, found.st_ino) == (device, inode):
                return True
    return False


def _query(*argv: str) -> bytes:
    environment = {"PATH": "/sbin:/bin:/usr/sbin:/usr/bin", "LC_ALL": "C", "TZ": "UTC"}
    try:
        return subprocess.run(argv, capture_output=True, env=environment, timeout=QUERY_TIMEOUT, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return b""
