"""The place of a Unix socket, which a process that died may have left behind."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from sysadmd.errors import StateError


def clear_socket(path: Path) -> None:
    """Make room for the socket: one that nobody answers is removed. Raises `StateError` for anything else there."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if not path.is_symlink() and not path.exists():
        return
    if not path.is_socket():
        raise StateError(f"socket {path}: there is something that is not a socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(os.fspath(path))
        except OSError:
            path.unlink(missing_ok=True)
            return
    raise StateError(f"socket {path} is in use by another server")
