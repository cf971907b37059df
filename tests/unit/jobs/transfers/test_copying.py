"""Copying between directories of this host, also a second time, half, and onto a full disk."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from sysadmd.jobs.transfers import part
from sysadmd.jobs.transfers.copying import part_name
from sysadmd.jobs.transfers.file_site import FileTarget
from sysadmd.jobs.transfers.names import decode, parse
from tests.small_disks import mounted
from tests.unit.jobs.transfers.attempts import ODD, Reports, attempt, content, directories, failure, job


@pytest.fixture
def one(tmp_path: Path) -> Path:
    (tmp_path / "one").mkdir()
    return tmp_path / "one"


@pytest.fixture
def two(tmp_path: Path) -> Path:
    (tmp_path / "two").mkdir()
    return tmp_path / "two"


@pytest.mark.parametrize("opts", [{}, {"checksum": "sha256"}])
async def test_a_tree_is_copied_with_every_odd_name(one: Path, two: Path, opts: dict[str, Any]) -> None:
    (one / "d").mkdir()
    for count, name in enumerate(ODD):
        below = os.fsencode(one / "d") + b"/" + name
        Path(os.fsdecode(below)).mkdir()
        Path(os.fsdecode(below + b"/" + name)).write_bytes(b"x" * count)
    async with directories(one, two) as sites:
        ends = await job(sites, "COPY", "/d", "/d", opts=opts)
    assert {end.outcome for end in ends} == {"ok"}
    assert content(two) == content(one)
    assert len(ends) == 1 + len(ODD)


async def test_a_hundred_files_are_copied(one: Path, two: Path) -> None:
    for count in range(100):
        (one / f"f{count}").write_bytes(os.urandom(count * 100))
    async with directories(one, two) as sites:
        ends = await job(sites, "COPY", "/", "~/copy/of/it")
    assert [end.outcome for end in ends] == ["ok"] * 101
    assert content(two / "copy" / "of" / "it") == content(one)


async def test_mode_and_time_are_kept_but_not_the_bits_that_lend_an_account(one: Path, two: Path) -> None:
    (one / "f").write_text("x")
    (one / "f").chmod(0o6751)
    os.utime(one / "f", ns=(1, 1_234_567_890_123_456_789))
    async with directories(one, two) as sites:
        await attempt(sites, "COPY", src="/f", dst="/g", dst_site=2)
    found = (two / "g").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime_ns) == (0o751, 1_234_567_890_123_456_789)


async def test_a_checksum_is_recorded(one: Path, two: Path) -> None:
    data = os.urandom(9_000_001)
    (one / "f").write_bytes(data)
    output = io.BytesIO()
    async with directories(one, two) as sites:
        end = await attempt(sites, "COPY", output=output, src="/f", dst="/f", dst_site=2, opts={"checksum": "sha256"})
    assert end.result["checksum"] == {"sha256": hashlib.sha256(data).hexdigest()}
    assert end.result["transferred"] == len(data)
    assert hashlib.sha256(data).hexdigest() in output.getvalue().decode()
    assert end.output_bytes == len(output.getvalue())


@pytest.mark.parametrize("wrong", ["/link", "/link/f", "/fifo", "/dir", "/none", "/"])
async def test_only_regular_files_inside_the_root_are_copied(one: Path, two: Path, tmp_path: Path, wrong: str) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "f").write_text("secret")
    (one / "link").symlink_to(tmp_path / "secret")
    (one / "dir").mkdir()
    os.mkfifo(one / "fifo")
    async with directories(one, two) as sites:
        end = await attempt(sites, "COPY", src=wrong, dst="/f", dst_site=2)
    assert failure(end).startswith(wrong.removesuffix("/f"))
    assert content(two) == {}


async def test_a_target_behind_a_link_is_refused_and_a_link_at_its_place_replaced(
    one: Path, two: Path, tmp_path: Path
) -> None:
    (tmp_path / "precious").write_text("precious")
    (one / "f").write_text("new")
    (two / "out").symlink_to(tmp_path)
    (two / "f").symlink_to(tmp_path / "precious")
    async with directories(one, two) as sites:
        end = await attempt(sites, "COPY", src="/f", dst="/out/precious", dst_site=2)
        assert failure(end) == "/out: is a symbolic link, and those are not followed"
        assert (await attempt(sites, "COPY", src="/f", dst="/f", dst_site=2)).outcome == "ok"
    assert (tmp_path / "precious").read_text() == "precious"
    assert (two / "f").read_text() == "new"
    assert not (two / "f").is_symlink()


async def test_a_file_that_is_there_is_replaced_unless_that_is_forbidden(one: Path) -> None:
    (one / "f").write_text("new")
    (one / "g").write_text("old")
    async with directories(one) as sites:
        end = await attempt(sites, "COPY", src="/f", dst="/g", opts={"overwrite": False})
        assert failure(end) == "/g: is there already"
        assert (one / "g").read_text() == "old"
        await attempt(sites, "COPY", src="/f", dst="/g")
        assert (await attempt(sites, "COPY", src="/f", dst="/h", opts={"overwrite": False})).outcome == "ok"
    assert content(one) == {b"f": b"new", b"g": b"new", b"h": b"new"}


async def test_a_file_that_appears_meanwhile_is_not_replaced_when_that_is_forbidden(
    one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one / "f").write_text("new")
    real = part.Part.publish

    def late(self: part.Part, *args: Any, **kwargs: Any) -> None:
        (one / "g").write_text("theirs")
        real(self, *args, **kwargs)

    monkeypatch.setattr(part.Part, "publish", late)
    async with directories(one) as sites:
        end = await attempt(sites, "COPY", src="/f", dst="/g", opts={"overwrite": False})
    assert failure(end) == "/g: File exists"
    assert content(one) == {b"f": b"new", b"g": b"theirs"}


async def test_a_file_is_not_copied_onto_itself(one: Path, two: Path) -> None:
    (one / "f").write_text("x")
    os.link(one / "f", one / "g")
    async with directories(one, one) as sites:
        assert failure(await attempt(sites, "COPY", src="/f", dst="/g", dst_site=2)) == "/g: is the source itself"
    assert content(one) == {b"f": b"x", b"g": b"x"}


async def test_a_directory_in_the_way_fails_and_leaves_nothing_behind(one: Path, two: Path) -> None:
    (one / "f").write_text("x")
    (two / "f").mkdir()
    async with directories(one, two) as sites:
        assert failure(await attempt(sites, "COPY", src="/f", dst="/f", dst_site=2)) == "/f: Is a directory"
    assert content(two) == {}


async def test_a_source_that_changes_meanwhile_is_not_published(
    one: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (one / "f").write_bytes(b"x" * 100)
    real = part.copy_range

    def meddling(*args: Any) -> int:
        (one / "f").write_bytes(b"y" * 50)
        return real(*args)

    monkeypatch.setattr("sysadmd.jobs.transfers.copying.copy_range", meddling)
    async with directories(one, two) as sites:
        end = await attempt(sites, "COPY", src="/f", dst="/f", dst_site=2)
    assert failure(end) == "/f: was changed while it was copied"
    assert content(two) == {}


@pytest.mark.parametrize("kernel", [True, False])
async def test_a_copy_goes_on_from_the_last_checkpoint_of_an_earlier_attempt(
    one: Path, two: Path, monkeypatch: pytest.MonkeyPatch, kernel: bool
) -> None:
    if not kernel:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    monkeypatch.setattr("sysadmd.jobs.transfers.copying.Copy.__init__.__kwdefaults__", {"checkpoint": 1000})
    data = os.urandom(4500)
    (one / "f").write_bytes(data)
    real, seen = part.copy_range, []

    def failing(*args: Any) -> int:
        if args[2] >= 3000:
            raise OSError(5, "Input/output error")
        return real(*args)

    def counting(*args: Any) -> int:
        seen.append(args[2])
        return real(*args)

    async with directories(one, two) as sites:
        monkeypatch.setattr("sysadmd.jobs.transfers.copying.copy_range", failing)
        end = await attempt(sites, "COPY", src="/f", dst="/f", dst_site=2)
        assert failure(end) == "[Errno 5] Input/output error"
        (left,) = two.iterdir()
        assert (left.name[:9], left.name[-5:], left.stat().st_size) == (".sysadmd-", ".part", 3000)
        monkeypatch.setattr("sysadmd.jobs.transfers.copying.copy_range", counting)
        output = io.BytesIO()
        end = await attempt(sites, "COPY", src="/f", dst="/f", dst_site=2, starts=2, output=output)
    assert seen == [2000, 3000, 4000]
    assert "going on at 2000 of 4500 bytes" in output.getvalue().decode()
    assert content(two) == {b"f": data}


async def test_a_part_that_differs_from_the_source_is_begun_again(
    one: Path, two: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysadmd.jobs.transfers.copying.Copy.__init__.__kwdefaults__", {"checkpoint": 1000})
    (one / "f").write_bytes(b"x" * 4500)
    real = part.copy_range

    def failing(*args: Any) -> int:
        if args[2] >= 3000:
            raise OSError(5, "Input/output error")
        return real(*args)

    async with directories(one, two) as sites:
        monkeypatch.setattr("sysadmd.jobs.transfers.copying.copy_range", failing)
        await attempt(sites, "COPY", src="/f", dst="/f", dst_site=2)
        (left,) = two.iterdir()
        left.write_bytes(b"z" + left.read_bytes()[1:])
        monkeypatch.setattr("sysadmd.jobs.transfers.copying.copy_range", real)
        await attempt(sites, "COPY", src="/f", dst="/f", dst_site=2, starts=2)
    assert content(two) == {b"f": b"x" * 4500}


async def test_a_retry_after_the_file_was_published_finds_it(one: Path, two: Path) -> None:
    (one / "f").write_bytes(b"abc")
    output = io.BytesIO()
    async with directories(one, two) as sites:
        await attempt(sites, "COPY", src="/f", dst="/f", dst_site=2)
        before = (two / "f").stat().st_ino
        end = await attempt(sites, "COPY", src="/f", dst="/f", dst_site=2, starts=2, output=output)
    assert (end.outcome, end.result["transferred"]) == ("ok", 3)
    assert (two / "f").stat().st_ino == before
    assert "copied it already" in output.getvalue().decode()


async def test_two_attempts_never_write_one_part(one: Path, two: Path) -> None:
    (one / "f").write_bytes(b"abc")
    async with directories(one, two) as sites:
        site = sites.site(2)
        source = await sites.site(1).source(part_path := parse("/f"))

        held = await site.target(part_path, part_name("6" * 24 + ":1", source.found))
        await source.aclose()
        end = await attempt(sites, "COPY", src="/f", dst="/f", dst_site=2)
        assert failure(end) == "/f: an earlier attempt is still writing it"
        await held.aclose()
        assert (await attempt(sites, "COPY", src="/f", dst="/f", dst_site=2)).outcome == "ok"


async def test_a_second_name_of_another_file_is_not_written_to(one: Path, two: Path, tmp_path: Path) -> None:
    """Whoever may write into the directory could guess the part's name and put a hard link there."""

    (one / "f").write_bytes(b"abc")
    (tmp_path / "precious").write_text("precious")
    async with directories(one, two) as sites:
        source = await sites.site(1).source(parse("/f"))
        name = part_name("6" * 24 + ":1", source.found)
        await source.aclose()
        os.link(tmp_path / "precious", two / os.fsdecode(name))
        end = await attempt(sites, "COPY", src="/f", dst="/f", dst_site=2)
    assert "is not one of ours" in failure(end)
    assert (tmp_path / "precious").read_text() == "precious"


async def test_progress_is_told_in_the_words_of_the_clients(one: Path, two: Path) -> None:
    (one / "f").write_bytes(b"x" * 1000)
    reports = Reports()
    async with directories(one, two) as sites:
        await attempt(sites, "COPY", src="/f", dst="/f", dst_site=2, report=reports)
    ((value, figures),) = reports
    assert value == 1.0
    assert set(figures) == {"transferred", "elapsed", "instant", "average"}
    assert figures["transferred"] == 1000


@pytest.mark.parametrize("own", [True, False])
async def test_a_cancelled_attempt_ends_at_once_and_leaves_no_half_file(
    one: Path, two: Path, monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    (one / "f").write_bytes(b"x" * 100)
    reached = asyncio.Event()

    async def stuck(*_: Any) -> None:
        reached.set()
        await anyio.sleep_forever()

    monkeypatch.setattr("sysadmd.jobs.transfers.copying._Transfer._in_the_kernel", stuck)
    async with directories(one, two) as sites:
        if own:
            task = asyncio.create_task(attempt(sites, "COPY", src="/f", dst="/f", dst_site=2))
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            async with anyio.create_task_group() as group:
                group.start_soon(lambda: attempt(sites, "COPY", src="/f", dst="/f", dst_site=2))
                await reached.wait()
                group.cancel_scope.cancel()
    assert content(two) == {}


@pytest.mark.parametrize("again, tries, kept", [(True, 1, True), (False, 1, False), (True, 3, False)])
async def test_a_long_part_is_kept_while_another_attempt_may_follow(
    one: Path, two: Path, monkeypatch: pytest.MonkeyPatch, again: bool, tries: int, kept: bool
) -> None:
    monkeypatch.setattr("sysadmd.jobs.transfers.copying.Copy.__init__.__kwdefaults__", {"checkpoint": 1000})
    (one / "f").write_bytes(b"x" * 3000)
    reached, output = asyncio.Event(), io.BytesIO()
    real = FileTarget.sync

    async def stuck(self: FileTarget) -> None:
        await real(self)
        if self.length >= 2000:
            reached.set()
            await anyio.sleep_forever()

    monkeypatch.setattr(FileTarget, "sync", stuck)
    async with directories(one, two) as sites:
        asked = {"src": "/f", "dst": "/f", "dst_site": 2, "output": output, "starts": tries}
        task = asyncio.create_task(attempt(sites, "COPY", again=lambda: again, **asked))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    names = [path.name for path in two.iterdir()]
    assert len(names) == kept
    assert all(f"is kept for the next attempt, as {name}" in output.getvalue().decode() for name in names)


async def test_a_name_that_is_no_utf_8_is_copied_by_its_text(one: Path, two: Path) -> None:
    Path(os.fsdecode(os.fsencode(one) + b"/\xff")).write_text("x")
    async with directories(one, two) as sites:
        end = await attempt(sites, "COPY", src="/" + decode(b"\xff"), dst="/" + decode(b"\xfe"), dst_site=2)
    assert end.outcome == "ok"
    assert content(two) == {b"\xfe": b"x"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk") as place:
        yield place


@pytest.mark.parametrize("opts", [{}, {"checksum": "sha256"}])
async def test_a_full_disk_is_named_and_leaves_nothing(one: Path, small_disk: Path, opts: dict[str, Any]) -> None:
    (one / "f").write_bytes(b"x" * (4 << 20))
    async with directories(one, small_disk) as sites:
        end = await attempt(sites, "COPY", src="/f", dst="/d/f", dst_site=2, opts=opts)
        assert failure(end) == "/d/f: No space left on device"
        assert content(small_disk) == {}
        (one / "f").write_bytes(b"x" * (1 << 20))
        assert (await attempt(sites, "COPY", src="/f", dst="/d/f", dst_site=2)).outcome == "ok"
