"""What may go wrong with a file, as one sentence: the path, and the reason in the words of the system."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from sysadmd.errors import SysadmdError
from sysadmd.jobs.transfers.names import shown

A_LINK = "is a symbolic link, and those are not followed"


class TransferError(SysadmdError):
    """A file that cannot be worked on. `path` is the path of the site, `reason` the rest of the sentence.

    `worthless`: what was written of it is of no use to another attempt, or takes the last room there is.
    """

    def __init__(self, path: str, reason: str, *, worthless: bool = False) -> None:
        self.path, self.reason, self.worthless = path, reason, worthless
        super().__init__(f"{shown(path)}: {reason}")


@contextmanager
def told(path: str) -> Iterator[None]:
    """Turn an OSError of the block into a TransferError about `path`."""
    try:
        yield
    except OSError as error:
        full = error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
        raise TransferError(path, error.strerror or str(error), worthless=full) from error
