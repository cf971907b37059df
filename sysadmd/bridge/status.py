"""What a bridge tells about itself: one JSON document to whoever connects to its Unix socket, and the end.

A bridge has no accounts, so nobody can log in to ask it. Who may read the state directory may know who is connected.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import msgspec
from anyio.abc import SocketStream, TaskStatus

from sysadmd.errors import StateError

SOCKET = "bridge.sock"
"""The socket's name in the state directory."""
MAX_PATH = 103
"""Bytes: sun_path holds 104 with its end on FreeBSD, 108 on Linux."""
PATIENCE = 10.0
"""Seconds that a reader has for the whole document."""


MAX_DOCUMENT = 64 * 1024 * 1024
"""Bytes that a caller reads: a hundred times what 4,096 peers take."""


def ask(path: Path) -> dict[str, Any]:
    """What the bridge at this socket tells. Raises OSError where none answers in time, StateError for an answer that
    is none.
    """
    deadline = time.monotonic() + PATIENCE
    chunks, size = [], 0
    with socket.socket(socket.AF_UNIX) as stream:
        stream.settimeout(PATIENCE)
        stream.connect(os.fspath(path))
        while chunk := stream.recv(65536):
            chunks.append(chunk)
            size += len(chunk)
            if size > MAX_DOCUMENT or time.monotonic() >= deadline:
                raise StateError(f"{path}: the answer has no end")
    try:
        return msgspec.json.decode(b"".join(chunks), type=dict[str, Any])
    except msgspec.MsgspecError as error:
        raise StateError(f"{path}: the answer is not a bridge's: {error}") from None


class StatusSocket:
    """The socket at `path`, whose place is free. `tell` gives the document."""

    def __init__(self, path: Path, tell: Callable[[], Any]) -> None:
        self.path, self._tell = path, tell

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Answer until cancelled; started as soon as it can be connected to. Raises StateError, OSError."""
        if len(os.fsencode(self.path)) > MAX_PATH:
            raise StateError(f"socket {self.path}: its path must be at most {MAX_PATH} bytes")
        async with await anyio.create_unix_listener(self.path, mode=0o600) as listener:
            task_status.started()
            try:
                await listener.serve(self._answer)
            finally:
                self.path.unlink(missing_ok=True)

    async def _answer(self, stream: SocketStream) -> None:
        with anyio.move_on_after(PATIENCE), contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            async with stream:
                await stream.send(msgspec.json.encode(self._tell()))
