"""Giving up for good what execve(2) may give: set-uid and set-gid bits and file capabilities count for nothing then, in
the process and in all that it starts.

Python has no function for it. The C library's is looked up once, before any fork: between fork and exec nothing may be
loaded any more. prctl(2) is Linux's; newer releases of FreeBSD have procctl(2) with PROC_NO_NEW_PRIVS_CTL.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

_PR_SET_NO_NEW_PRIVS = 38  # linux/prctl.h
_P_PID = 0  # sys/wait.h of FreeBSD
_PROC_NO_NEW_PRIVS_CTL, _PROC_NO_NEW_PRIVS_ENABLE = 19, 1  # sys/procctl.h


def privilege_lock() -> Callable[[], None]:
    """A function that locks the process which calls it. Raises OSError, here or there, when the system cannot do it."""
    import ctypes  # most executors never start a command that needs it

    library = ctypes.CDLL(None, use_errno=True)
    if sys.platform.startswith("linux"):
        prctl = library.prctl
        prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]

        def call() -> int:
            return int(prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    else:
        procctl = getattr(library, "procctl", None)
        if procctl is None:
            raise OSError("this system cannot deny new privileges")
        procctl.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int, ctypes.c_void_p]
        enable = ctypes.c_int(_PROC_NO_NEW_PRIVS_ENABLE)
        pointer = ctypes.byref(enable)

        def call() -> int:
            return int(procctl(_P_PID, os.getpid(), _PROC_NO_NEW_PRIVS_CTL, pointer))

    def lock() -> None:
        if call() != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return lock
