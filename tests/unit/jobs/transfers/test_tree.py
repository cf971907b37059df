"""Listing, removing, renaming and making directories of this host."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.jobs.transfers.attempts import ODD, attempt, content, directories, failure, job, names


@pytest.fixture
def one(tmp_path: Path) -> Path:
    (tmp_path / "one").mkdir()
    return tmp_path / "one"


@pytest.fixture
def two(tmp_path: Path) -> Path:
    (tmp_path / "two").mkdir()
    return tmp_path / "two"


# LIST


async def test_a_tree_is_listed_under_the_names_that_were_asked_for(one: Path) -> None:
    (one / "d" / "sub").mkdir(parents=True)
    (one / "d" / "f").write_bytes(b"12345")
    (one / "d" / "l").symlink_to("/etc")
    async with directories(one) as sites:
        assert names(await attempt(sites, "LIST", src="~/d/")) == {"~/d": ["f", "l", "sub"], "~/d/sub": []}
        assert names(await attempt(sites, "LIST", src="/")) == {"/": ["d"], "/d": ["f", "l", "sub"], "/d/sub": []}
        assert names(await attempt(sites, "LIST", src="~")) == {"~": ["d"], "~/d": ["f", "l", "sub"], "~/d/sub": []}
        end = await attempt(sites, "LIST", src="/d", opts={"recursive": False})
    file, link, sub = end.result["listing"]["/d"]
    assert (file["st_size"], stat.S_ISREG(file["st_mode"])) == (5, True)
    assert stat.S_ISLNK(link["st_mode"])
    assert stat.S_ISDIR(sub["st_mode"])
    assert list(end.result["listing"]) == ["/d"]


async def test_a_file_is_listed_as_the_one_entry_of_its_directory(one: Path) -> None:
    (one / "f").write_text("x")
    (one / "g").write_text("x")
    async with directories(one) as sites:
        assert names(await attempt(sites, "LIST", src="/f")) == {"/": ["f"]}
        assert failure(await attempt(sites, "LIST", src="/f/")) == "/f: Not a directory"
        assert failure(await attempt(sites, "LIST", src="/none")) == "/none: No such file or directory"


async def test_a_link_out_of_the_root_is_not_listed_behind(one: Path) -> None:
    (one / "l").symlink_to("/etc")
    async with directories(one) as sites:
        assert names(await attempt(sites, "LIST", src="/l")) == {"/": ["l"]}
        assert failure(await attempt(sites, "LIST", src="/l/")) == "/l: Not a directory"
        assert "symbolic link" in failure(await attempt(sites, "LIST", src="/l/ssh"))
        assert "must not contain" in failure(await attempt(sites, "LIST", src="/../etc"))


async def test_one_entry_above_the_bound_is_refused(one: Path) -> None:
    for name in "abc":
        (one / name).touch()
    async with directories(one, listing_entries=3) as sites:
        assert names(await attempt(sites, "LIST", src="/")) == {"/": ["a", "b", "c"]}
        (one / "d").touch()
        assert failure(await attempt(sites, "LIST", src="/")) == "/: there are more than 3 files and directories"


async def test_one_level_above_the_bound_is_refused(one: Path) -> None:
    (one / "a" / "b" / "c").mkdir(parents=True)
    async with directories(one, listing_depth=3) as sites:
        assert len(names(await attempt(sites, "LIST", src="/"))) == 4
        (one / "a" / "b" / "c" / "d").mkdir()
        assert "nested more than 3 levels deep" in failure(await attempt(sites, "LIST", src="/"))


# REMOVE, RENAME, MKDIR


async def test_a_tree_is_removed_but_nothing_behind_its_links(one: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "f").write_text("precious")
    for name in ODD:
        (one / "t" / os.fsdecode(name) / "deep").mkdir(parents=True)
        Path(os.fsdecode(os.fsencode(one / "t") + b"/" + name + b"/f")).write_text("x")
    (one / "t" / "link").symlink_to(tmp_path / "precious")
    os.mkfifo(one / "t" / "fifo")
    (one / "keep").write_text("x")
    async with directories(one) as sites:
        ends = await job(sites, "REMOVE", "/t")
    assert {end.outcome for end in ends} == {"ok"}
    assert [path.name for path in one.iterdir()] == ["keep"]
    assert content(tmp_path / "precious") == {b"f": b"precious"}


async def test_a_directory_that_is_not_empty_stays(one: Path) -> None:
    (one / "d").mkdir()
    (one / "d" / "f").touch()
    async with directories(one) as sites:
        assert failure(await attempt(sites, "REMOVE", src="/d/")) == "/d: Directory not empty"
        assert failure(await attempt(sites, "REMOVE", src="/d/f/")) == "/d/f: Not a directory"
        assert "root of the site" in failure(await attempt(sites, "REMOVE", src="/"))


@pytest.mark.parametrize("gone", ["/f", "/d/", "/d/below/f"])
async def test_removing_again_what_is_gone_is_done(one: Path, gone: str) -> None:
    output = io.BytesIO()
    async with directories(one) as sites:
        assert (await attempt(sites, "REMOVE", src=gone, output=output)).outcome == "ok"
    assert "was gone already" in output.getvalue().decode()


async def test_a_file_and_a_directory_are_renamed(one: Path) -> None:
    (one / "d").mkdir()
    (one / "d" / "f").write_text("x")
    async with directories(one) as sites:
        ends = await job(sites, "RENAME", "/d", "/e")
        ends += await job(sites, "RENAME", "/e/f", "~/e/line\nbreak")
    assert {end.outcome for end in ends} == {"ok"}
    assert content(one) == {b"e/line\nbreak": b"x"}


async def test_a_renaming_that_was_done_before_a_crash_is_found(one: Path) -> None:
    (one / "new").write_text("x")
    async with directories(one) as sites:
        assert failure(await attempt(sites, "RENAME", src="/old", dst="/new")) == "/old: No such file or directory"
        assert (await attempt(sites, "RENAME", src="/old", dst="/new", starts=2)).outcome == "ok"


async def test_a_large_directory_is_renamed_without_being_read(one: Path) -> None:
    (one / "d" / "sub").mkdir(parents=True)
    (one / "d" / "f").touch()
    async with directories(one, listing_entries=1) as sites:
        ends = await job(sites, "RENAME", "/d/", "/e")
    assert [end.outcome for end in ends] == ["ok", "ok"]
    assert names(ends[0]) == {"/": ["d"]}
    assert (one / "e" / "sub").is_dir()


async def test_a_renaming_replaces_only_when_asked_to(one: Path) -> None:
    (one / "a").write_text("a")
    (one / "b").write_text("b")
    async with directories(one) as sites:
        assert failure(await attempt(sites, "RENAME", src="/a", dst="/b")) == "/b: is there already"
        assert (await attempt(sites, "RENAME", src="/a", dst="/b", opts={"overwrite": True})).outcome == "ok"
    assert content(one) == {b"b": b"a"}


async def test_a_renaming_stays_inside(one: Path, two: Path, tmp_path: Path) -> None:
    (one / "f").write_text("x")
    (one / "out").symlink_to(tmp_path)
    async with directories(one, two) as sites:
        assert "symbolic link" in failure(await attempt(sites, "RENAME", src="/f", dst="/out/f"))
        assert "symbolic link" in failure(await attempt(sites, "RENAME", src="/out/two", dst="/two"))
        assert "another site" in failure(await attempt(sites, "RENAME", src="/f", dst="/f", dst_site=2))
        assert "root of the site" in failure(await attempt(sites, "RENAME", src="/f", dst="/"))
    assert content(one) == {b"f": b"x"}


async def test_a_directory_is_made_and_being_there_already_is_as_good(one: Path) -> None:
    (one / "f").touch()
    async with directories(one) as sites:
        assert (await attempt(sites, "MKDIR", src="/d")).outcome == "ok"
        assert (await attempt(sites, "MKDIR", src="/d")).outcome == "ok"
        assert failure(await attempt(sites, "MKDIR", src="/f")) == "/f: File exists"
        assert failure(await attempt(sites, "MKDIR", src="/x/y")) == "/x: No such file or directory"
        assert (await attempt(sites, "MKDIR", src="/x/y/z", opts={"parents": True})).outcome == "ok"
    assert (one / "x" / "y" / "z").is_dir()


# Against somebody who changes the tree meanwhile


@contextmanager
def swapping(place: Path, away: Path, lure: Path) -> Iterator[None]:
    """Replace the directory by a link to the lure and back, as fast as it goes."""
    ended = threading.Event()

    def swap() -> None:
        for count in itertools.count():
            if ended.is_set():
                return
            # A copy makes the directory where it is missing for a moment; then that is the next one to be replaced.
            gone = away.with_name(f"{away.name}{count}")
            with suppress(OSError):
                place.rename(gone)
                place.symlink_to(lure)
                place.unlink()
            with suppress(OSError):
                gone.rename(place)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


async def test_a_race_with_a_link_touches_nothing_outside(one: Path, two: Path, tmp_path: Path) -> None:
    lure = tmp_path / "lure"
    for place in (one / "d", lure):
        place.mkdir()
        (place / "f").write_text("secret" if place == lure else "mine")
    (two / "f").write_text("new")
    async with directories(one, two) as sites:
        with swapping(one / "d", one / "away", lure):
            for count in range(150):
                await attempt(sites, "COPY", src="/d/f", dst="/got", dst_site=2)
                await attempt(sites, "COPY", src="/f", dst=f"/d/new{count}", src_site=2, dst_site=1)
                await attempt(sites, "LIST", src="/")
                await attempt(sites, "REMOVE", src="/d/f" if count % 50 == 49 else "/d/none")
                await attempt(sites, "MKDIR", src=f"/d/dir{count}")
    assert content(lure) == {b"f": b"secret"}
    assert [path.name for path in lure.iterdir()] == ["f"]
    if (two / "got").exists():
        assert (two / "got").read_text() == "mine"


TREES = st.recursive(
    st.binary(max_size=10),
    lambda below: st.dictionaries(
        st.binary(min_size=1, max_size=6).filter(lambda name: not {0, 47} & set(name) and name not in {b".", b".."}),
        below,
        max_size=4,
    ),
    max_leaves=12,
)


def planted(place: bytes, tree: Any) -> None:
    """Make the tree real."""
    if isinstance(tree, bytes):
        Path(os.fsdecode(place)).write_bytes(tree)
        return
    Path(os.fsdecode(place)).mkdir()
    for name, below in tree.items():
        planted(place + b"/" + name, below)


@given(TREES)
@settings(max_examples=40)
def test_any_tree_is_copied_as_it_is_and_removed_to_the_last_file(tree: Any) -> None:
    async def tried() -> None:
        with tempfile.TemporaryDirectory() as place:
            root = Path(place, "root")
            root.mkdir()
            planted(os.fsencode(root / "t"), tree)
            before = content(root / "t") if isinstance(tree, dict) else {b"t": tree}
            async with directories(root) as sites:
                ends = await job(sites, "COPY", "/t", "~/c", dst_site=1)
                copied = content(root / "c") if isinstance(tree, dict) else {b"t": (root / "c").read_bytes()}
                assert copied == before
                ends += await job(sites, "REMOVE", "~/t")
            assert {end.outcome for end in ends} == {"ok"}
            assert not (root / "t").exists()

    asyncio.run(tried())
