"""Whether the machine has room for more work: a bound on its load and on its free memory, where one is wanted.

Places alone bound what a worker runs at once. A machine that does other things besides may be short of processors or
memory all the same; its worker then claims nothing, and looks again a second later.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

MEMORY = Path("/proc/meminfo")


def load_per_cpu() -> float:
    """The load of the last minute for each processor."""
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def free_memory(file: Path = MEMORY) -> int | None:
    """Bytes that programs can still be given without swapping; None where the system does not say (it is Linux's)."""
    try:
        lines = file.read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None


def gate(
    max_load: float | None,
    min_memory: int | None,
    *,
    load: Callable[[], float] = load_per_cpu,
    memory: Callable[[], int | None] = free_memory,
) -> Callable[[], bool]:
    """Whether there is room, to be asked before each claim. A bound that is None, or cannot be looked at, is none."""

    def is_open() -> bool:
        if max_load is not None and load() > max_load:
            return False
        free = None if min_memory is None else memory()
        return free is None or min_memory is None or free >= min_memory

    return is_open
