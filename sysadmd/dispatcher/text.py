"""From the bytes of an output file to text that fits into an event.

A file is the buffer: nothing of a process's output stays in memory between two events. An event takes what is new, and
where that is more than its budget, the head and the tail with a line between them that says how much is left out.

Offsets are bytes of the file. Output is read as UTF-8; what is not becomes U+FFFD. A character whose bytes have not
all arrived is left for the next reading, so the offset that is reported back is always a character's boundary.
"""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

from sysadmd.limits import KIB

INCREMENT = 64 * KIB
"""Bytes of new text in one event."""

Reader = Callable[[int, int], bytes]
"""read(offset, length): the bytes that are there, fewer at the end of the file."""


def decode(data: bytes, *, final: bool) -> tuple[str, int]:
    """The text of `data` and how many bytes it stands for: all of them when `final`, else less an unfinished character
    (≤ 3).
    """
    if final:
        return data.decode("utf-8", "replace"), len(data)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(data)
    return text, len(data) - len(decoder.getstate()[0])


def excerpt(read: Reader, start: int, end: int, budget: int, *, final: bool) -> tuple[str, int]:
    """The text between two offsets in at most `budget` bytes of output (the marker not counted), and the offset it
    reaches.

    What is longer is cut in its middle, at characters' boundaries.
    """
    if end - start <= budget:
        text, used = decode(read(start, end - start), final=final)
        return text, start + used
    half = budget // 2
    head, head_used = decode(read(start, half), final=False)
    tail_start = end - (budget - half)
    data = read(tail_start, end - tail_start)
    skipped = _continuation_bytes(data)
    tail, tail_used = decode(data[skipped:], final=final)
    left_out = (tail_start + skipped) - (start + head_used)
    return f"{head}{marker(left_out)}{tail}", tail_start + skipped + tail_used


def page(read: Reader, offset: int, length: int, *, ended: bool) -> tuple[str, int]:
    """Up to `length` bytes of text from an offset, cut at a character's boundary, and the offset that follows.

    At least one character is given where there is one, even when `length` is smaller. `ended`: no more will be
    written, so an unfinished character at the very end is shown as U+FFFD.
    """
    asked = max(length, 4)
    data = read(offset, asked)
    text, used = decode(data, final=ended and len(data) < asked)
    return text, offset + used


def marker(left_out: int) -> str:
    """The line that stands for output which an event does not carry."""
    return f"\n[sysadmd: {left_out} bytes are left out here; read_log has them]\n"


def allowances(sizes: Sequence[int], budget: int) -> list[int]:
    """How many bytes of each output go into an event that takes `budget` bytes in all.

    Short outputs are taken whole; the long ones share evenly what they leave.
    """
    shares = [0] * len(sizes)
    left = budget
    # From the smallest up, each may take an even part of what is left, so what it does not use is shared by the longer
    # ones.
    for taken, index in enumerate(sorted(range(len(sizes)), key=sizes.__getitem__)):
        shares[index] = min(sizes[index], left // (len(sizes) - taken))
        left -= shares[index]
    return shares


def _continuation_bytes(data: bytes) -> int:
    """How many bytes at the start belong to a character that began before them (at most 3)."""
    count = 0
    while count < min(3, len(data)) and data[count] & 0xC0 == 0x80:
        count += 1
    return count
