"""The file that `sysadmd backup` writes and `sysadmd restore` reads.

A gzipped tar archive, so that it can be looked into without us. Its first member is `manifest.json`, which names
every other member with its size and SHA-256; nothing that it does not name is read, and names come from a fixed set,
so no archive can write outside the place it is unpacked to. Sums tell of damage, not of forgery: an archive holds a
private key and is as trustworthy as the place where it was kept.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import msgspec

from sysadmd.errors import StateError

FORMAT = 1
MANIFEST = "manifest.json"
MAX_MANIFEST = 1024 * 1024
CHUNK = 1024 * 1024
_NAME = re.compile(r"sysadmd\.db|config\.toml|audit/audit\.(key|pub)|certificate/[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One member: its size in bytes and its SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What an archive holds, and where it comes from. `created` is ISO 8601; `epoch` that of the event log."""

    format: int
    version: str
    created: str
    node: str
    epoch: str
    files: tuple[Entry, ...]


class Pack:
    """A new archive at `target` (mode 0600), which appears under its name only when it is complete."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self._part = target.with_name(f".{target.name}.{os.getpid()}.part")

    def write(self, manifest: Mapping[str, Any], files: Mapping[str, Path], report: Any) -> Manifest:
        """Write the manifest (without `files`, which are described here) and the files, by member name."""
        entries = tuple(Entry(name, path.stat().st_size, checksum(path)) for name, path in files.items())
        complete = Manifest(format=FORMAT, files=entries, **manifest)
        total = sum(entry.size for entry in entries)
        descriptor = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as out:
                with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
                    body = msgspec.json.format(msgspec.json.encode(complete), indent=2)
                    tar.addfile(_member(MANIFEST, len(body)), io.BytesIO(body))
                    done = 0
                    for entry in entries:
                        with files[entry.name].open("rb") as source:
                            counted = _Counted(source, lambda n, before=done: report("compress", before + n, total))
                            tar.addfile(_member(entry.name, entry.size), counted)
                        done += entry.size
                out.flush()
                os.fsync(out.fileno())
            self._part.replace(self.target)
        finally:
            self._part.unlink(missing_ok=True)
        sync_directory(self.target.parent)
        return complete


def unpack(archive: Path, into: Path, report: Any) -> Manifest:
    """Unpack every member below `into`, each file with mode 0600, and verify size and sum. Raises StateError."""
    try:
        with tarfile.open(archive, mode="r:gz") as tar:
            manifest = _read_manifest(archive, tar)
            missing = {entry.name: entry for entry in manifest.files}
            total, done = sum(entry.size for entry in manifest.files), 0
            # Not `for member in tar`: that begins anew with the manifest.
            while (member := tar.next()) is not None:
                entry = missing.pop(member.name, None)
                source = tar.extractfile(member) if member.isreg() else None
                if entry is None or source is None:
                    raise StateError(f"{archive}: {member.name!r} is not in its manifest")
                _copy_verified(archive, entry, source, into / entry.name)
                done += entry.size
                report("unpack", done, total)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise StateError(f"{archive}: no complete backup: {error}") from error
    except OSError as error:
        raise StateError(f"{error.filename or archive}: {error.strerror or error}") from error
    if missing:
        raise StateError(f"{archive}: {', '.join(missing)} is missing")
    return manifest


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_directory(path: Path) -> None:
    """Make renames in this directory survive a power cut (fsync(2), NOTES)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _Counted(io.RawIOBase):
    """A file that tells how much of it was read."""

    def __init__(self, source: IO[bytes], tell: Any) -> None:
        self._source, self._tell, self._read = source, tell, 0

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self._read += len(data)
        self._tell(self._read)
        return data


def _member(name: str, size: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size, 0o600
    return info


def _read_manifest(archive: Path, tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    source = tar.extractfile(first) if first is not None and first.isreg() and first.name == MANIFEST else None
    if source is None or first is None or first.size > MAX_MANIFEST:
        raise StateError(f"{archive}: no backup of sysadmd (its first member is not {MANIFEST})")
    try:
        manifest = msgspec.json.decode(source.read(), type=Manifest)
    except msgspec.DecodeError as error:
        raise StateError(f"{archive}: {MANIFEST}: {error}") from error
    if manifest.format != FORMAT:
        raise StateError(f"{archive}: its format is {manifest.format}, this release reads {FORMAT}")
    bad = next((entry.name for entry in manifest.files if not _NAME.fullmatch(entry.name)), None)
    if bad is not None:
        raise StateError(f"{archive}: {bad!r} does not belong into a backup")
    return manifest


def _copy_verified(archive: Path, entry: Entry, source: IO[bytes], target: Path) -> None:
    digest, left = hashlib.sha256(), entry.size
    target.parent.mkdir(mode=0o700, exist_ok=True)
    with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
        while chunk := source.read(CHUNK):
            left -= len(chunk)
            if left < 0:
                break
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    if left or digest.hexdigest() != entry.sha256:
        raise StateError(f"{archive}: {entry.name} is damaged (size or SHA-256 differ from the manifest)")
