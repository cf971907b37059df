"""What an attempt has written so far, read from its output file.

Offsets are bytes. The bytes are read as UTF-8; what is none becomes U+FFFD. A character whose bytes have not all
arrived is left for the next reading.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@contextmanager
def opened(root: Path, path: str) -> Iterator[int]:
    """A descriptor of the file `path` below `root`, to be read. Raises OSError, also where it is no plain file."""
    descriptor = os.open(root / path, _FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(path)
        yield descriptor
    finally:
        os.close(descriptor)


def size_of(root: Path, path: str | None) -> int:
    """Bytes of an output file; 0 where there is none."""
    if path is None:
        return 0
    try:
        return (root / path).lstat().st_size
    except OSError:
        return 0


def read_bytes(root: Path, path: str | None, offset: int, length: int) -> bytes:
    """Up to `length` bytes from `offset`; nothing where there is no file. Blocking."""
    if path is None:
        return b""
    try:
        with opened(root, path) as descriptor:
            return os.pread(descriptor, length, offset)
    except OSError:
        return b""


def read_text(root: Path, path: str | None, offset: int, length: int, *, ended: bool) -> tuple[str, int]:
    """About `length` bytes of text from `offset`, and the offset that follows. Blocking.

    `ended`: nothing more will be written, so an unfinished character at the very end is shown as U+FFFD.
    """
    asked = max(length, 4)  # at least one character
    data = read_bytes(root, path, offset, asked)
    if ended and len(data) < asked:
        return data.decode("utf-8", "replace"), offset + len(data)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    return text, offset + len(data) - len(decoder.getstate()[0])
