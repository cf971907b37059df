"""No path leads out of its root, whatever lies on the way."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sysadmd.jobs.transfers import beneath
from sysadmd.jobs.transfers.beneath import directory
from sysadmd.jobs.transfers.faults import TransferError
from sysadmd.jobs.transfers.names import parse


@pytest.fixture
def root(tmp_path: Path) -> bytes:
    (tmp_path / "root" / "in" / "side").mkdir(parents=True)
    (tmp_path / "outside" / "side").mkdir(parents=True)
    (tmp_path / "outside" / "secret").write_text("secret")
    return os.fsencode(tmp_path / "root")


def entries(root: bytes, path: str) -> list[str]:
    with directory(root, parse(path)) as at:
        return sorted(os.listdir(at))  # noqa: PTH208 - a descriptor


def test_a_directory_is_found_by_both_spellings(root: bytes) -> None:
    assert entries(root, "/in") == entries(root, "~/in") == ["side"]
    assert entries(root, "/") == ["in"]


@pytest.mark.parametrize("target", ["../outside", "/", "in", "side/../..", ".", "missing"])
@pytest.mark.parametrize("place", ["link", "in/link"])
def test_a_link_is_refused_wherever_it_leads(root: bytes, place: str, target: str) -> None:
    Path(os.fsdecode(root), place).symlink_to(target)
    for path in (f"/{place}", f"/{place}/side"):
        with pytest.raises(TransferError, match=f"/{place}: is a symbolic link"), directory(root, parse(path)):
            pass


def test_the_root_may_be_a_link(root: bytes, tmp_path: Path) -> None:
    (tmp_path / "way").symlink_to("root")
    assert entries(os.fsencode(tmp_path / "way"), "/") == ["in"]


def test_what_is_no_directory_is_said_so(root: bytes) -> None:
    Path(os.fsdecode(root), "file").write_text("")
    with pytest.raises(TransferError, match=r"/file: Not a directory"), directory(root, parse("/file/x")):
        pass
    with pytest.raises(TransferError, match=r"/in/none: No such file"), directory(root, parse("/in/none/x")):
        pass
    with pytest.raises(TransferError, match=r"the root of the site cannot be used"), directory(b"/none", parse("/")):
        pass


def test_missing_directories_are_made_only_when_asked_for(root: bytes) -> None:
    with directory(root, parse("/a/b/c"), make=True) as at:
        assert os.listdir(at) == []  # noqa: PTH208 - a descriptor
    assert entries(root, "/a/b") == ["c"]


def test_nothing_is_made_through_a_link(root: bytes, tmp_path: Path) -> None:
    Path(os.fsdecode(root), "link").symlink_to("../outside")
    with pytest.raises(TransferError, match="symbolic link"), directory(root, parse("/link/new"), make=True):
        pass
    assert sorted(path.name for path in (tmp_path / "outside").iterdir()) == ["secret", "side"]


def test_a_directory_that_becomes_a_link_after_it_was_opened_is_still_the_one_that_was_meant(
    root: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trick against a check by text: swap between the check and the use, at each step of the walk."""
    real = beneath.enter
    inside = tmp_path / "root" / "in"

    def swapping(at: int, name: bytes, shown: str, *, make: bool = False) -> int:
        fd = real(at, name, shown, make=make)
        if name == b"in":
            inside.rename(tmp_path / "root" / "was")
            inside.symlink_to(tmp_path / "outside")
        return fd

    (inside / "side" / "mine").write_text("")
    monkeypatch.setattr(beneath, "enter", swapping)
    assert entries(root, "/in/side") == ["mine"]


def test_a_race_of_swaps_never_leads_out(root: bytes, tmp_path: Path) -> None:
    inside, kept = tmp_path / "root" / "in", tmp_path / "root" / "was"
    (inside / "side" / "mine").write_text("")
    (tmp_path / "outside" / "side" / "secret").write_text("")
    ended = threading.Event()

    def swap() -> None:
        while not ended.is_set():
            inside.rename(kept)
            inside.symlink_to(tmp_path / "outside")
            inside.unlink()
            kept.rename(inside)

    thread = threading.Thread(target=swap)
    thread.start()
    seen = set()
    try:
        for _ in range(2000):
            try:
                seen.add(tuple(entries(root, "/in/side")))
            except TransferError:
                seen.add(())
    finally:
        ended.set()
        thread.join()
    assert seen <= {(), ("mine",)}


def test_no_descriptor_is_left_open(root: bytes) -> None:
    Path(os.fsdecode(root), "in", "link").symlink_to("..")
    before = len(list(Path("/dev/fd").iterdir()))
    for path in ("/in/side", "/in/link/x", "/in/none/x", "/in/side/a/b"):
        try:
            with directory(root, parse(path), make=path.endswith("b")):
                pass
        except TransferError:
            pass
    assert len(list(Path("/dev/fd").iterdir())) == before
