"""The frames of a WebSocket, cut out of what a socket gave: the plain ones here, the others for the library.

Nearly all that a bridge reads are whole text or binary messages in one masked frame (RFC 6455 §5.2). They are cut here,
many at a time, at a fifth of what the library's parser costs for each. Everything else (control frames, fragments,
whatever breaks the protocol) is only measured, so that it can be handed to the library whole.
"""

from __future__ import annotations

try:
    from websockets.speedups import apply_mask
except ImportError:  # a platform without the compiled module: slower, and the same
    from websockets.utils import apply_mask

LARGE = 32 * 1024
"""Bytes from which on a payload is better not copied on its way; below, a view costs more than the copy."""
LONGEST_HEAD = 14
"""Bytes before the payload of a masked frame, at most."""


def cut(data: bytes | bytearray, start: int, limit: int) -> tuple[list[bytes], int]:
    """The payloads of the plain messages from `start` on, each of at most `limit` bytes, and where the next frame is:
    one that is not plain, not whole, or too long.
    """
    found: list[bytes] = []
    append, size = found.append, len(data)
    while start + 6 <= size and (data[start] == 0x81 or data[start] == 0x82):
        second = data[start + 1]
        if second < 128:
            break
        if second < 254:
            body, length = start + 6, second - 128
        elif second == 254:
            body, length = start + 8, data[start + 2] << 8 | data[start + 3]
        else:
            body, length = start + 14, int.from_bytes(data[start + 2 : start + 10], "big")
        end = body + length
        if end > size or length > limit:
            break
        part = data[body:end] if length < LARGE else memoryview(data)[body:end]
        append(apply_mask(part, data[body - 4 : body]))
        start = end
    return found, start


def span(data: bytes | bytearray, start: int) -> tuple[int, int]:
    """Bytes of the frame at `start` with its head, as far as can be told, and of its payload: (2, 0) for less than a
    head's first two bytes.
    """
    rest = data[start : start + LONGEST_HEAD]
    if len(rest) < 2:
        return 2, 0
    masked, short = 4 * (rest[1] >> 7), rest[1] & 127
    extra = {126: 2, 127: 8}.get(short, 0)
    if len(rest) < 2 + extra:
        return 2 + extra, 0
    length = int.from_bytes(rest[2 : 2 + extra], "big") if extra else short
    return 2 + extra + masked + length, length
