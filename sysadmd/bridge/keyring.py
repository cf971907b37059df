"""The keys that a bridge lets in: one file for each, named after what its administrator calls the peer.

A bridge has no database. Its keyring is the directory `keys/` of its state directory, and a key is the file
`<nick>.pem`: the nickname percent-encoded (RFC 3986 §2.1), and in it the SubjectPublicKeyInfo in PEM. So a keyring can
be looked at, copied and filled by other means than ours, and a running bridge sees each change at the next log-in:
`current` compares the directory with what it has read, file by file, and reads what is new.

Files are told apart by inode, size and both times. Time alone is too coarse: a key that is replaced in the same tick of
the file system's clock would stay good. What cannot be used, such as half a file that somebody is writing, is left out
and told once. What says nothing about the keys, such as too many open files, changes nothing: it must not throw out
everybody who is connected.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote, unquote

import structlog

from sysadmd.errors import BadRequest, Conflict, NotFound, StateError
from sysadmd.keys.files import write_file
from sysadmd.keys.signing import MAX_TEXT, PublicKey, parse
from sysadmd.store.lock import prepare_state_dir

log = structlog.get_logger(__name__)

DIRECTORY = "keys"
"""The keyring's place in the state directory of a bridge."""
SUFFIX = ".pem"
NICK_CHARACTERS = 64
NICK_BYTES = 80
"""UTF-8 bytes of a nickname: percent-encoded and with the suffixes of its file, it fits into a file's name (255)."""
LOCK_WAIT = 5.0
"""Seconds to wait for another command that changes the same keyring."""
_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
"""Why a file could not be read although nothing is wrong with it."""

Stamp = tuple[int, int, int, int]
"""Inode, size, modification and change time (ns) of a file: what tells one content from the next."""


@dataclass(frozen=True, slots=True)
class BridgeKey:
    """A key that may log in at the bridge. `imported`: Unix seconds."""

    nick: str
    public: PublicKey
    imported: float


NONE: Mapping[str, BridgeKey] = MappingProxyType({})


def check_nick(nick: str) -> str:
    """The nickname itself. Raises BadRequest unless it has 1 to 64 printable characters, no blank at its ends, and at
    most 80 bytes.
    """
    fits = 0 < len(nick) <= NICK_CHARACTERS and nick.isprintable() and len(nick.encode()) <= NICK_BYTES
    if not fits or nick != nick.strip():
        rule = f"1 to {NICK_CHARACTERS} printable characters, no blank at its ends, at most {NICK_BYTES} bytes of UTF-8"
        raise BadRequest(f"a nickname has {rule}", path="nick", rule="nick")
    return nick


class Keyring:
    """The keys in a directory, which need not exist yet."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._read: dict[str, tuple[Stamp, BridgeKey | None]] = {}
        self._keys = NONE
        self._complaint = ""
        self._reading = threading.Lock()

    def current(self) -> Mapping[str, BridgeKey]:
        """The keys by fingerprint, as they are now; the same object as long as nothing changes.

        Any thread may ask: log-ins are checked in one of their own.
        """
        with self._reading:
            try:
                stamps = self._stamps()
                if stamps != {name: stamp for name, (stamp, _) in self._read.items()}:
                    self._update(stamps)
                self._complaint = ""
            except OSError as error:
                if str(error) != self._complaint:
                    self._complaint = str(error)
                    log.error("the keyring cannot be read; the keys known so far stay in force", reason=str(error))
            return self._keys

    def add(self, nick: str, public: PublicKey) -> None:
        """Let the holder of `public` in as `nick`; a key that `nick` had before is let in no more.

        Raises BadRequest for the nickname, Conflict for a key that another one has, StateError for the directory.
        """
        path = self._path(check_nick(nick))
        prepare_state_dir(self.directory.parent)
        prepare_state_dir(self.directory)
        with self._locked():
            known = self.current().get(public.fingerprint)
            if known is not None and known.nick != nick:
                raise Conflict(f"the key is known as {known.nick!r} already")
            with _as_state_error(path):
                write_file(path, public.pem.encode("ascii"), 0o600)

    def remove(self, nick: str) -> None:
        """Let `nick` in no more. Raises NotFound when it has no key, StateError for the directory."""
        path = self._path(check_nick(nick))
        if not self.directory.is_dir():
            raise NotFound(f"the bridge knows no key {nick!r}")
        with self._locked(), _as_state_error(path):
            try:
                path.unlink()
            except FileNotFoundError:
                raise NotFound(f"the bridge knows no key {nick!r}") from None

    def _path(self, nick: str) -> Path:
        return self.directory / f"{quote(nick, safe='')}{SUFFIX}"

    def _stamps(self) -> dict[str, Stamp]:
        """What lies in the directory under the name of a key. Raises OSError."""
        found = {}
        try:
            with os.scandir(self.directory) as entries:
                for entry in entries:
                    if entry.name.endswith(SUFFIX):
                        found[entry.name] = _stamp(entry.stat(follow_symlinks=False))
        except FileNotFoundError:  # the directory, or a file that went away meanwhile: the next look tells
            return found
        return found

    def _update(self, stamps: Mapping[str, Stamp]) -> None:
        """Read what is new. Raises OSError when that failed for reasons that are not the files'; nothing changes."""
        read: dict[str, tuple[Stamp, BridgeKey | None]] = {}
        for name in sorted(stamps):
            before = self._read.get(name)
            same = before is not None and before[0] == stamps[name]
            read[name] = before if before is not None and same else (stamps[name], self._load(name))
        keys: dict[str, BridgeKey] = {}
        for _, key in read.values():
            if key is None:
                continue
            first = keys.setdefault(key.public.fingerprint, key)
            if first is not key:
                log.warning("a key is in the keyring twice", used=first.nick, ignored=key.nick)
        self._read, self._keys = read, MappingProxyType(keys)

    def _load(self, name: str) -> BridgeKey | None:
        try:
            nick = check_nick(unquote(name.removesuffix(SUFFIX), errors="strict"))
            if self._path(nick).name != name:
                raise BadRequest(f"the file of {nick!r} would be called {self._path(nick).name!r}")
            text, moment = _contents(self.directory / name)
            return BridgeKey(nick, parse(text), moment)
        except OSError as error:
            if error.errno in _SCARCE:
                raise
            log.warning("a file of the keyring is ignored", file=name, reason=error.strerror or str(error))
        except (BadRequest, UnicodeDecodeError) as error:
            reason = error.message if isinstance(error, BadRequest) else "its name is not UTF-8, percent-encoded"
            log.warning("a file of the keyring is ignored", file=name, reason=reason)
        return None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one process changes the keyring at a time. Raises StateError."""
        with _as_state_error(self.directory):
            descriptor = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            deadline = time.monotonic() + LOCK_WAIT
            while not _try_lock(descriptor):
                if time.monotonic() >= deadline:
                    raise StateError(f"{self.directory} is being changed by another command")
                time.sleep(0.02)
            yield
        finally:
            os.close(descriptor)


def _stamp(found: os.stat_result) -> Stamp:
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _contents(path: Path) -> tuple[str, float]:
    """Text and time of a regular file of at most MAX_TEXT bytes. Raises OSError and BadRequest."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise BadRequest("it is not a regular file")
        text = file.read(MAX_TEXT + 1).decode("ascii", "replace")
    return text, found.st_mtime


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _as_state_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(f"{path}: {error.strerror or error}") from error
