"""Known servers: which key a sealed session must show, by the name of the server (sysadmd.keys.seal).

A text file that people may read and edit, one pin a line, as `known_hosts` is for SSH::

    # registered by olga, with a key of her own
    nas.example 5f0c7a1e93c2b84d6f0b1d7a2c9e8f34605b7d1a9e2c3f48d7b6a5c4e3f20191

The fingerprint is the SHA-256 of the SubjectPublicKeyInfo in DER, hexadecimal; what cannot stand in a word of the name
is percent-encoded. A name may have several lines, and then each of its keys is taken. What cannot be read is an error
that names the line: a pin that is passed over silently would be a server that is trusted, or not, by accident.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, unquote

from sysadmd.client.errors import PinError
from sysadmd.keys.files import write_file

FILE = "known_servers"
MAX_FILE = 1024 * 1024
"""Bytes of the file that are read: ten thousand servers."""
MAX_NAME = 256
"""Characters of a name, as in a bridge address (sysadmd.client.address)."""
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
_SAFE = ":{}[]@+~,"
"""Punctuation that stands in a name as it is, besides letters, digits and `_.-`."""


def default_known_servers(environ: Mapping[str, str] = os.environ) -> Path:
    """The file of this user: `sysadmd/known_servers` in the XDG configuration directory."""
    base = Path(environ.get("XDG_CONFIG_HOME", ""))
    if not base.is_absolute():  # the XDG base directory specification has a relative one ignored
        base = Path(environ.get("HOME") or Path.home(), ".config")
    return base / "sysadmd" / FILE


class KnownServers:
    """The pins in a file, by default in the user's. It is read by each call; one that is not there holds none.

    Every method raises PinError for a file that cannot be used and a line that is none.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_known_servers()

    def pins(self, name: str) -> frozenset[str]:
        """The fingerprints of the keys that this server may show; empty when it is not known."""
        return frozenset(pin for known, pin in self._entries() if known == name)

    def all(self) -> frozenset[str]:
        """The fingerprints of all known servers."""
        return frozenset(pin for _, pin in self._entries())

    def names(self) -> tuple[str, ...]:
        """The known servers, in the order of the file."""
        return tuple(dict.fromkeys(name for name, _ in self._entries()))

    def add(self, name: str, fingerprint: str) -> None:
        """Take this key from this server, besides those that it has."""
        entry = checked(name, fingerprint)
        with self._changing() as lines:
            if entry not in self._parsed(lines):
                lines.append(_line(*entry))

    def pin(self, name: str, fingerprint: str, *, replace: bool = False) -> None:
        """Take this key from this server and no other one. A server that is known by another key raises PinError,
        unless `replace` says that the old one is to be forgotten.
        """
        name, wanted = checked(name, fingerprint)
        with self._changing() as lines:
            entries = self._parsed(lines)
            refuse_change(name, frozenset(pin for known, pin in entries if known == name), wanted, replace=replace)
            if replace:
                stale = {number for number, (known, _) in self._numbered(lines) if known == name}
                lines[:] = [line for number, line in enumerate(lines, 1) if number not in stale]
            if replace or (name, wanted) not in entries:
                lines.append(_line(name, wanted))

    def _entries(self) -> list[tuple[str, str]]:
        return self._parsed(self._lines())

    def _parsed(self, lines: list[str]) -> list[tuple[str, str]]:
        return [entry for _, entry in self._numbered(lines)]

    def _numbered(self, lines: list[str]) -> Iterator[tuple[int, tuple[str, str]]]:
        for number, line in enumerate(lines, 1):
            words = line.partition("#")[0].split()
            if not words:
                continue
            try:
                if len(words) != 2:
                    raise PinError("expected a name and a fingerprint")
                yield number, checked(unquote(words[0], errors="strict"), words[1])
            except PinError as error:
                raise PinError(f"{self.path}, line {number}: {error}") from None
            except UnicodeDecodeError:
                raise PinError(f"{self.path}, line {number}: the name is not UTF-8") from None

    def _lines(self) -> list[str]:
        try:
            with self.path.open("rb") as file:
                data = file.read(MAX_FILE + 1)
        except FileNotFoundError:
            return []
        except OSError as error:
            raise PinError(f"{self.path}: {error.strerror or error}") from error
        if len(data) > MAX_FILE:
            raise PinError(f"{self.path}: larger than {MAX_FILE} bytes")
        try:
            return data.decode().splitlines()
        except UnicodeDecodeError as error:
            number = data.count(b"\n", 0, error.start) + 1
            raise PinError(f"{self.path}, line {number}: not UTF-8") from None

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[str]]:
        """The lines, written back when they changed. Of two who change them at once, one waits for the other."""
        directory = self.path.parent
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX)  # held for as long as it takes to write a small file
                before = self._lines()
                lines = list(before)
                yield lines
                if lines != before:
                    write_file(self.path, "".join(f"{line}\n" for line in lines).encode(), 0o600)
            finally:
                os.close(lock)
        except OSError as error:
            raise PinError(f"{error.filename or self.path}: {error.strerror or error}") from error


def checked(name: str, fingerprint: str) -> tuple[str, str]:
    """A name and a fingerprint in lower case. Raises PinError for what is none."""
    if not name or len(name) > MAX_NAME or not name.isprintable():
        raise PinError(f"the name of a server has 1 to {MAX_NAME} printable characters")
    wanted = fingerprint.lower()
    if not _FINGERPRINT.fullmatch(wanted):
        raise PinError(f"{fingerprint[:80]!r} is no fingerprint; expected 64 hexadecimal digits")
    return name, wanted


def refuse_change(name: str, known: frozenset[str], fingerprint: str, *, replace: bool) -> None:
    """Raise PinError when a server that is known by other keys shows this one, unless it may `replace` them."""
    if known and fingerprint not in known and not replace:
        raise PinError(
            f"{name} is known by the key {', '.join(sorted(known))}, and this one is {fingerprint}: if its key was "
            "changed on purpose, replace the pin; if not, somebody stands between"
        )


def _line(name: str, fingerprint: str) -> str:
    return f"{quote(name, safe=_SAFE)} {fingerprint}"
