"""Names of files on the wire, and paths below the root of a site.

A file's name is bytes, a JSON text is Unicode without lone surrogates, so Python's own `surrogateescape` does not
survive a message or a database. Bytes that are no UTF-8 become the private characters U+EF80 to U+EFFF, one for each
byte (the choice of MirBSD's OPTU encoding). Where a name really holds such a character, its three bytes are mapped one
by one as well. So every name comes back as the bytes that it was, and every name that is UTF-8 reads as itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_PATH = 4096
"""Bytes of a path: PATH_MAX of Linux; FreeBSD takes 1024 at once, but a walk takes one name at a time."""
MAX_NAME = 255
"""Bytes of one name (NAME_MAX)."""

_PRIVATE = re.compile("[\uef80-\uefff]")
_ESCAPED = re.compile("[\uef80-\uefff\udc80-\udcff]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\udc80-\udcff]")


def decode(raw: bytes) -> str:
    """The text of a name or path, for the wire."""
    if raw.isascii():
        return raw.decode("ascii")
    text = raw.decode("utf-8", "surrogateescape")
    return _ESCAPED.sub(lambda found: _bytewise(found[0]), text)


def encode(text: str) -> bytes:
    """The bytes that the text of a name or path stands for. Raises ValueError where it stands for none."""
    if text.isascii():
        return text.encode("ascii")
    return _PRIVATE.sub(lambda found: chr(ord(found[0]) - 0xEF00 + 0xDC00), text).encode("utf-8", "surrogateescape")


def shown(text: str) -> str:
    """The text for one line of a log: what would break the line or turn its direction is written as an escape."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def _bytewise(character: str) -> str:
    return "".join(chr(0xEF00 + byte) for byte in character.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True, slots=True)
class SitePath:
    """A path below the root of a site.

    `anchor` is `/` or `~/`, as its owner wrote it: both are the root. `parts` are the names from there on. `slash`: the
    text ended with one, which says that a directory is meant.
    """

    anchor: str
    parts: tuple[bytes, ...]
    slash: bool = False

    @property
    def text(self) -> str:
        """The path in its one spelling, without a slash at its end: `/`, `~`, `/a/b`, `~/a/b`."""
        if not self.parts:
            return self.anchor.rstrip("/") or "/"
        return self.anchor + decode(b"/".join(self.parts))

    @property
    def name(self) -> bytes:
        """The last name. Raises ValueError for the root, which has none."""
        if not self.parts:
            raise ValueError("must not be the root of the site")
        return self.parts[-1]

    @property
    def parent(self) -> SitePath:
        """The directory that holds it; the root's is the root."""
        return SitePath(self.anchor, self.parts[:-1])

    def child(self, name: bytes) -> SitePath:
        """The path of `name` in this directory."""
        return SitePath(self.anchor, (*self.parts, name))


def parse(text: str) -> SitePath:
    """The path that a text names: `/x`, `~/x` and `x` are all below the root.

    Raises ValueError with the rule. `..` is refused wherever it leads: what it means depends on links.
    """
    if not text:
        raise ValueError("must not be empty")
    raw = encode(text)
    if b"\0" in raw:
        raise ValueError("must not contain NUL")
    if len(raw) > MAX_PATH:
        raise ValueError(f"must be at most {MAX_PATH} bytes")
    parts = [part for part in raw.split(b"/") if part not in {b"", b"."}]
    anchor = "/" if raw.startswith(b"/") else "~/"
    if anchor == "~/" and parts and parts[0].startswith(b"~"):
        if parts[0] != b"~":
            raise ValueError("must not start with the home directory of somebody else; `/~name` is a file of that name")
        del parts[0]
    if b".." in parts:
        raise ValueError("must not contain `..`")
    if any(len(part) > MAX_NAME for part in parts):
        raise ValueError(f"must have no name above {MAX_NAME} bytes")
    return SitePath(anchor, tuple(parts), slash=raw.endswith((b"/", b"/.")) or not parts)


def join(directory: str, name: str) -> str:
    """The text of `name` in `directory`, which is a `SitePath.text`."""
    return f"{directory}{name}" if directory.endswith("/") else f"{directory}/{name}"
