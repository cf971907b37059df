"""What a process has in its memory (proc(5) of Linux), to look for something that should not be there."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import sys
from collections import Counter
from pathlib import Path

PIECE = 16 * 1024 * 1024


def why_not(pid: int) -> str | None:
    """Why the memory of a process cannot be read here; None: it can."""
    if not sys.platform.startswith("linux"):
        return "not Linux: the memory of a process was not searched"
    try:
        Path(f"/proc/{pid}/mem").open("rb").close()
    except OSError as error:
        return f"{error.strerror}: the memory of a process was not searched"
    return None


def forms(text: str) -> dict[str, bytes]:
    """A text as it is, and what is the same of it in base64 wherever in a message it stands: one form for each of the
    three places that its first byte may have in a group.
    """
    data = text.encode()
    found = {"plain": data}
    for before in range(3):
        start, end = (0, 2, 3)[before], len(data) + before
        whole = base64.b64encode(bytes(before) + data)
        found[f"base64+{before}"] = whole[start : end // 3 * 4]
    return found


def occurrences(text: str, *contents: bytes) -> Counter[str]:
    """How often each form is in the contents, without those that are not there."""
    found: Counter[str] = Counter()
    for name, form in forms(text).items():
        found[name] += sum(content.count(form) for content in contents)
    return +found


def in_memory(pid: int, text: str) -> Counter[str]:
    """How often each form is in the writable memory of a process."""
    found: Counter[str] = Counter()
    longest = max(map(len, forms(text).values()))
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for first, last in _writable(pid):
            for start in range(first, last, PIECE):
                # A form that two pieces share is in the second one, too, of which the first has the beginning.
                size = min(PIECE + longest - 1, last - start)
                with contextlib.suppress(OSError, ValueError):
                    found += occurrences(text, os.pread(memory.fileno(), size, start))
    return found


def _writable(pid: int) -> list[tuple[int, int]]:
    maps = re.finditer(r"(?m)^([0-9a-f]+)-([0-9a-f]+) rw", Path(f"/proc/{pid}/maps").read_text())
    return [(int(each[1], 16), int(each[2], 16)) for each in maps]
