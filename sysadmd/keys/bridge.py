"""The key by which a bridge knows this server: made once, at its first use.

It is not the one of the certificate, because that may be renewed, replaced or another program's, while a bridge knows
a server by this key alone (spec sysadm §1.2). RSA-2048, as that of the originals, whose bridges take no other.
"""

from __future__ import annotations

import os
from pathlib import Path

from sysadmd.errors import StateError
from sysadmd.keys.files import create_file
from sysadmd.keys.signing import PrivateKey

BRIDGE_KEY_FILE = "ws_bridge.key"


def bridge_key(state_dir: Path) -> PrivateKey:
    """The key of a state directory; one is made where there is none. Raises StateError."""
    path = state_dir / BRIDGE_KEY_FILE
    try:
        if not path.exists():
            _make(path)
        return PrivateKey.load(path.read_bytes())
    except OSError as error:
        raise StateError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise StateError(f"{path}: {error}") from error


def _make(path: Path) -> None:
    """Put a new key under `path`; of two who do this at once, the first one's stays. It may be the first file of the
    directory: whoever runs a bridge wants the key before the server is started.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Root may do this for a server that runs as somebody else.
    owner = path.parent.stat() if os.geteuid() == 0 else None
    create_file(path, PrivateKey.generate("rsa").pem, 0o600, owner=owner)
