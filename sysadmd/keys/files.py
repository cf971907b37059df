"""Files that hold keys and certificates."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_file(path: Path, data: bytes, mode: int) -> None:
    """Put `data` under `path` in one step, readable as `mode` from its first moment: a crash leaves all of it or none,
    since half of a key is worse than no key.
    """
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    part.replace(path)


def create_file(path: Path, data: bytes, mode: int, *, owner: os.stat_result | None = None) -> bool:
    """Put `data` under a path that is free, whole and readable as `mode` from its first moment, and `owner`'s; whether
    it was free. Of several who do this at once the first one's stays.
    """
    part = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            if owner is not None:
                os.fchown(descriptor, owner.st_uid, owner.st_gid)
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.link(part, path)
    except FileExistsError:
        return False
    finally:
        part.unlink()
    return True
