"""The key that signs the audit trail's checkpoints, and the file with its public half."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

from sysadmd.errors import StateError
from sysadmd.keys.files import write_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

KEY_FILE = "audit.key"
PUBLIC_FILE = "audit.pub"


def signing_key(directory: Path) -> Ed25519PrivateKey:
    """The key of the checkpoints, made where there is none. Raises StateError for a file that holds none."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = directory / KEY_FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        key = Ed25519PrivateKey.generate()
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        text = key.private_bytes(encoding, form, serialization.NoEncryption())
        write_file(path, text, 0o600)
        # Of a key that is gone, perhaps: what it signed cannot be checked with this one.
        (directory / PUBLIC_FILE).unlink(missing_ok=True)
    try:
        loaded = serialization.load_pem_private_key(text, None)
    except (ValueError, TypeError) as error:
        raise StateError(f"{path}: is not a private key in PEM") from error
    if not isinstance(loaded, Ed25519PrivateKey):
        raise StateError(f"{path}: is not an Ed25519 key")
    if not (directory / PUBLIC_FILE).exists():
        write_file(directory / PUBLIC_FILE, f"{base64.b64encode(public_bytes(loaded)).decode()}\n".encode(), 0o644)
    return loaded


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of the public key (RFC 8032)."""
    return key.public_key().public_bytes_raw()


def read_public_key(path: Path) -> bytes | None:
    """The public key in a file, base64 of 32 bytes; None where there is none yet. Raises StateError."""
    try:
        raw = base64.b64decode(path.read_text().strip(), validate=True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StateError(f"{path}: is not the base64 of a public key") from error
    if len(raw) != 32:
        raise StateError(f"{path}: a public key of Ed25519 has 32 bytes, this has {len(raw)}")
    return raw
