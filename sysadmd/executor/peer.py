"""Who is at the other end of a Unix socket: the kernel says it, so nobody has to prove it.

The credentials are those of the process at the time of its connect(2), which is what is wanted: a process that drops
its rights keeps the connection it made before, as with any open file.
"""

from __future__ import annotations

import socket
import struct
import sys

_UCRED = struct.Struct("=iII")  # struct ucred of Linux, unix(7): pid, uid, gid
_XUCRED = struct.Struct("=II")  # the head of FreeBSD's struct xucred, unix(4): version, uid
_XUCRED_SIZE = 88
_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_VERSION = 0, 1, 0


def peer_uid(connection: socket.socket) -> int:
    """The uid of the peer of a connected Unix socket. Raises OSError when the system does not tell."""
    if sys.platform.startswith("linux"):
        raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        return int(_UCRED.unpack(raw)[1])
    else:  # noqa: RET505  # mypy takes what follows a platform's return for unreachable
        return uid_of_xucred(connection.getsockopt(_SOL_LOCAL, _LOCAL_PEERCRED, _XUCRED_SIZE))


def uid_of_xucred(raw: bytes) -> int:
    """The uid in FreeBSD's answer to LOCAL_PEERCRED."""
    version, uid = _XUCRED.unpack_from(raw)
    if version != _XUCRED_VERSION:
        raise OSError(f"struct xucred has version {version}, expected {_XUCRED_VERSION}")
    return int(uid)
