"""The backup file: what it holds, and what it refuses."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sysadmd.cli.archive import MANIFEST, Pack, unpack
from sysadmd.errors import StateError

ABOUT = {"version": "0.1.0", "created": "2026-01-01T00:00:00+00:00", "node": "vault", "epoch": "e1"}


def silent(what: str, done: int, total: int) -> None:
    pass


def make(directory: Path, **contents: bytes) -> Path:
    """An archive with these members: `db` is the database, `config` the configuration, others are certificates."""
    names = {"db": "sysadmd.db", "config": "config.toml"}
    files = {}
    for key, content in contents.items():
        path = directory / f"source-{key}"
        path.write_bytes(content)
        files[names.get(key, f"certificate/{key}")] = path
    Pack(directory / "b.tar.gz").write(ABOUT, files, silent)
    return directory / "b.tar.gz"


def handmade(path: Path, *members: tuple[str, bytes], manifest: Any = None, kind: bytes = tarfile.REGTYPE) -> Path:
    """An archive that no release of ours would write."""
    with tarfile.open(path, "w:gz") as tar:
        if manifest is not None:
            members = ((MANIFEST, msgspec.json.encode(manifest)), *members)
        for name, body in members:
            info = tarfile.TarInfo(name)
            info.size = len(body)
            if name != MANIFEST:
                info.type = kind
                info.linkname = "/etc/passwd"
            tar.addfile(info, io.BytesIO(body))
    return path


def manifest_of(*entries: tuple[str, int, str], number: int = 1) -> dict[str, Any]:
    files = [{"name": name, "size": size, "sha256": digest} for name, size, digest in entries]
    return {**ABOUT, "format": number, "files": files}


def test_what_is_packed_is_unpacked(tmp_path: Path) -> None:
    archive = make(tmp_path, db=b"d" * 100_000, config=b"node = 'x'", key=b"secret")
    manifest = unpack(archive, tmp_path / "into", silent)
    assert manifest.node == "vault"
    assert (tmp_path / "into" / "sysadmd.db").read_bytes() == b"d" * 100_000
    assert (tmp_path / "into" / "certificate" / "key").read_bytes() == b"secret"
    assert (tmp_path / "into" / "config.toml").read_bytes() == b"node = 'x'"


def test_nobody_else_may_read_the_archive_or_what_is_unpacked(tmp_path: Path) -> None:
    archive = make(tmp_path, db=b"x")
    unpack(archive, tmp_path / "into", silent)
    assert archive.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "into" / "sysadmd.db").stat().st_mode & 0o777 == 0o600


def test_progress_reaches_the_whole(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"x" * 1000)
    seen: list[tuple[str, int, int]] = []
    Pack(tmp_path / "b").write(ABOUT, {"sysadmd.db": source}, lambda *step: seen.append(step))
    assert seen[-1] == ("compress", 1000, 1000)


def test_a_failed_backup_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail(what: str, done: int, total: int) -> None:
        raise OSError(28, "No space left on device")

    source = tmp_path / "source"
    source.write_bytes(b"x")
    with pytest.raises(OSError, match="No space"):
        Pack(tmp_path / "b").write(ABOUT, {"sysadmd.db": source}, fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source"]


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("hello")
    with pytest.raises(StateError, match="no complete backup"):
        unpack(tmp_path / "b", tmp_path / "into", silent)


def test_a_foreign_archive_is_refused(tmp_path: Path) -> None:
    archive = handmade(tmp_path / "b", ("etc/passwd", b"x"))
    with pytest.raises(StateError, match="no backup of sysadmd"):
        unpack(archive, tmp_path / "into", silent)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    archive = handmade(tmp_path / "b", manifest=manifest_of(number=2))
    with pytest.raises(StateError, match="its format is 2, this release reads 1"):
        unpack(archive, tmp_path / "into", silent)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/passwd", "certificate/../../x", "certificate/", "other", "sysadmd.db\n"]
)
def test_a_member_outside_the_fixed_names_is_refused(tmp_path: Path, name: str) -> None:
    archive = handmade(tmp_path / "b", (name, b"x"), manifest=manifest_of((name, 1, "0" * 64)))
    with pytest.raises(StateError, match="does not belong into a backup"):
        unpack(archive, tmp_path / "into", silent)
    assert not (tmp_path / "into").exists()


def test_a_member_that_the_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    archive = handmade(tmp_path / "b", ("sysadmd.db", b"x"), manifest=manifest_of())
    with pytest.raises(StateError, match=r"'sysadmd\.db' is not in its manifest"):
        unpack(archive, tmp_path / "into", silent)


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE])
def test_only_regular_files_are_unpacked(tmp_path: Path, kind: bytes) -> None:
    archive = handmade(tmp_path / "b", ("sysadmd.db", b""), manifest=manifest_of(("sysadmd.db", 0, "0")), kind=kind)
    with pytest.raises(StateError):
        unpack(archive, tmp_path / "into", silent)
    assert not (tmp_path / "into" / "sysadmd.db").exists()


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    archive = handmade(tmp_path / "b", manifest=manifest_of(("sysadmd.db", 1, "0" * 64)))
    with pytest.raises(StateError, match=r"sysadmd\.db is missing"):
        unpack(archive, tmp_path / "into", silent)


@pytest.mark.parametrize("size", [1, 3])
def test_a_size_that_differs_is_damage(tmp_path: Path, size: int) -> None:
    archive = handmade(tmp_path / "b", ("sysadmd.db", b"xx"), manifest=manifest_of(("sysadmd.db", size, "0" * 64)))
    with pytest.raises(StateError, match=r"sysadmd\.db is damaged"):
        unpack(archive, tmp_path / "into", silent)


@settings(max_examples=60)
@given(at=st.floats(0, 0.9999), flip=st.integers(1, 255))
def test_no_damaged_byte_goes_unnoticed(at: float, flip: int) -> None:
    """A changed byte is told, or does not matter (nobody reads that header); it never changes a file."""
    with TemporaryDirectory() as name:
        directory = Path(name)
        archive = make(directory, db=bytes(range(256)) * 4, key=b"secret")
        raw = bytearray(archive.read_bytes())
        raw[int(at * len(raw))] ^= flip
        archive.write_bytes(raw)
        try:
            unpack(archive, directory / "into", silent)
        except StateError:
            return
        assert (directory / "into" / "sysadmd.db").read_bytes() == bytes(range(256)) * 4
        assert (directory / "into" / "certificate" / "key").read_bytes() == b"secret"


@settings(max_examples=40)
@given(cut=st.floats(0, 0.999))
def test_a_truncated_archive_is_refused_unless_every_file_is_whole(cut: float) -> None:
    with TemporaryDirectory() as name:
        directory = Path(name)
        archive = make(directory, db=bytes(range(256)) * 40)
        raw = archive.read_bytes()
        archive.write_bytes(raw[: int(len(raw) * cut)])
        try:
            unpack(archive, directory / "into", silent)
        except StateError:
            return
        assert (directory / "into" / "sysadmd.db").read_bytes() == bytes(range(256)) * 40
