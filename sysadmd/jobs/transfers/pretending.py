"""A site that pretends, for trying clients: listings are made up, nothing is touched, and time passes if asked to."""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Any

import anyio

from sysadmd.jobs.transfers.names import SitePath
from sysadmd.jobs.transfers.options import Options
from sysadmd.jobs.transfers.progress import Progress, Report
from sysadmd.jobs.transfers.tree import Entries

STEP = 0.25
"""Seconds between two looks at the clock of a pretended copy."""


def pretended_listing(path: SitePath, options: Options) -> Entries:
    """A directory with `dummy_files` files; a path whose name has a dot in it is a file."""
    if path.parts and b"." in path.name.lstrip(b".") and not path.slash:
        return {path.parent.text: [_entry(path.text.rpartition("/")[2], options.dummy_size)]}
    names = (f"file{count}.dat" for count in range(1, options.dummy_files + 1))
    return {path.text: [_entry(name, options.dummy_size) for name in names]}


async def pretended_copy(size: int, options: Options, report: Report, clock: Callable[[], float]) -> dict[str, Any]:
    """The result of copying `size` bytes in `dummy_seconds`."""
    progress = Progress(report, size, clock)
    begun = clock()
    while (passed := clock() - begun) < options.dummy_seconds:
        progress.reached(int(size * passed / options.dummy_seconds))
        await anyio.sleep(min(STEP, options.dummy_seconds - passed))
    progress.reached(size, last=True)
    return progress.figures()


def _entry(name: str, size: int) -> dict[str, Any]:
    mode = stat.S_IFREG | 0o644
    return {
        "name": name,
        "st_mode": mode,
        "st_size": size,
        "st_mtime": 0,
        "st_uid": 0,
        "st_gid": 0,
        "st_nlink": 1,
    }
