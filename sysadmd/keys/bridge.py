"""The key by which a bridge knows this server: made once, at its first use.

It is not the one of the certificate, because that may be renewed, replaced or another program's, while a bridge knows
a server by this key alone (spec sysadm §1.2). RSA-2048, as that of the originals, whose bridges take no other.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from sysadmd.errors import StateError
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
    """Put a new key under `path`, whole from its first moment; of two who do this at once, the first one's stays."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if os.geteuid() == 0:
                owner = path.parent.stat()  # root may do this for a server that runs as somebody else
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            file.write(key.private_bytes(encoding, form, serialization.NoEncryption()))
            file.flush()
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            os.link(part, path)
    finally:
        part.unlink()
