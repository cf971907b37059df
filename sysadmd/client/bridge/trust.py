"""Which sealing keys of servers a client accepts.

A server shows the key of its sealed sessions, and whoever runs the bridge could show another. So a key is accepted only
where this client knows it from before: the one that `pin` names, or the one that was kept under the name of the server.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass

from sysadmd.client.errors import ConnectFailed, Untrusted


@dataclass(frozen=True, slots=True)
class ServerTrust:
    """`keys` are the fingerprints that are accepted: one is needed. None accepts every server, also one that cannot
    seal.
    """

    keys: frozenset[str] | None

    def accepts(self, fingerprint: str) -> bool:
        """Whether a server with this key is the right one."""
        return self.keys is None or fingerprint in self.keys

    def check(self, where: str, name: str, offered: str | None) -> None:
        """Raise, before anything is sent, for a server that offers this key; None is one that cannot seal."""
        if self.keys is None:
            return
        if offered is None:
            raise ConnectFailed(
                f"{where}: the server cannot seal its sessions (an original one), so the bridge could read and change "
                "everything; --insecure speaks to it all the same"
            )
        if not self.keys:
            raise ConnectFailed(
                f"{where}: the key of this server is not known here. The server offered {offered}; compare it with "
                f"what 'sysadmd key export --bridge' prints there, then: sysadmd key pin {shlex.quote(name)} {offered} "
                "(where the server is reached without the bridge, sysadmd key register does it all)"
            )
        if offered not in self.keys:
            raise wrong_key(where, offered)


Trusting = Callable[[], ServerTrust]
"""Read anew for each connection: a key may have been kept since the last one."""


def wrong_key(where: str, offered: str) -> Untrusted:
    """The server, or whoever answers for it, has another key than the one that is known."""
    return Untrusted(
        f"{where}: whoever answers has the key {offered}, which is not the one that is known here; nothing was sent. "
        "Either it is not the server, or the server has a new key",
        offered,
    )
