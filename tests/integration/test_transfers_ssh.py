"""Transfers to and from a real SSH server."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import socket
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import asyncssh
import pytest

from sysadmd.config import SiteConfig
from sysadmd.jobs.transfers import ssh_file, ssh_line
from sysadmd.jobs.transfers.names import parse
from sysadmd.jobs.transfers.sites import Sites
from sysadmd.limits import Limits
from tests.integration.ssh_server import SshServer, keypair, running_ssh_server
from tests.small_disks import mounted
from tests.unit.jobs.transfers.attempts import ODD, Reports, attempt, content, failure, job

SSH, HERE, BACK = 1, 2, 3


@pytest.fixture
def server(tmp_path: Path) -> Iterator[SshServer]:
    (tmp_path / "keys").mkdir()
    with running_ssh_server(tmp_path / "keys") as server:
        yield server


@pytest.fixture
def there(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "disk") as place:
        yield place


@asynccontextmanager
async def sites(server: SshServer, there: Path, here: Path, **changes: Any) -> AsyncIterator[Sites]:
    """Site 1 behind SSH, site 2 here, site 3 behind SSH as well but in `here`."""
    configured = {SSH: server.site(there, **changes), HERE: SiteConfig(root=str(here)), BACK: server.site(here)}
    async with Sites(configured, Limits(ssh_connect=30.0)) as made:
        yield made


@pytest.mark.parametrize("source, target", [(SSH, HERE), (HERE, SSH), (SSH, BACK)])
async def test_a_tree_is_copied_with_every_odd_name(
    server: SshServer, there: Path, here: Path, source: int, target: int
) -> None:
    start, end = (there, here) if source == SSH else (here, there)
    for count, name in enumerate(ODD):
        below = os.fsencode(start) + b"/d/" + name
        Path(os.fsdecode(below)).mkdir(parents=True)
        Path(os.fsdecode(below + b"/" + name)).write_bytes(b"x" * count)
    (start / "d" / "link").symlink_to("/etc/passwd")
    async with sites(server, there, here) as made:
        ends = await job(made, "COPY", "~/d", "/c/d", src_site=source, dst_site=target)
    assert [each.outcome for each in ends] == ["ok"] * (1 + len(ODD)), ends
    (start / "d" / "link").unlink()
    assert content(end / "c") == content(start)


@pytest.mark.parametrize("source, target", [(SSH, HERE), (HERE, SSH)])
async def test_a_large_file_keeps_its_content_mode_and_time(
    server: SshServer, there: Path, here: Path, source: int, target: int
) -> None:
    start, end = (there, here) if source == SSH else (here, there)
    data = os.urandom(9_000_001)
    (start / "f").write_bytes(data)
    (start / "f").chmod(0o4640)
    os.utime(start / "f", (1_234_567_890, 1_234_567_890))
    async with sites(server, there, here) as made:
        asked = {"src_site": source, "dst_site": target, "opts": {"checksum": "sha256"}}
        done = await attempt(made, "COPY", src="/f", dst="/f", report=(reports := Reports()), **asked)
    assert done.outcome == "ok", done
    assert done.result["checksum"] == {"sha256": hashlib.sha256(data).hexdigest()}
    found = (end / "f").stat()
    assert (stat.S_IMODE(found.st_mode), int(found.st_mtime)) == (0o640, 1_234_567_890)
    assert content(end) == {b"f": data}
    assert reports[-1][1]["transferred"] == len(data)


async def test_a_hundred_files_share_one_connection(server: SshServer, there: Path, here: Path) -> None:
    for count in range(100):
        (there / f"f{count}").write_bytes(os.urandom(count))
    async with sites(server, there, here) as made:
        ends = await job(made, "COPY", "/", "/", src_site=SSH, dst_site=HERE)
    assert [each.outcome for each in ends] == ["ok"] * 101
    assert content(here) == content(there)
    assert len(server.processes) == 1


async def test_a_tree_is_removed_but_nothing_behind_its_links(server: SshServer, there: Path, here: Path) -> None:
    (here / "precious").write_text("precious")
    (there / "t" / "a" / "b").mkdir(parents=True)
    (there / "t" / "a" / "f").touch()
    (there / "t" / "link").symlink_to(here)
    async with sites(server, there, here) as made:
        refused = await attempt(made, "REMOVE", src="/t/a/", src_site=SSH)
        ends = await job(made, "REMOVE", "/t", src_site=SSH)
        assert (await attempt(made, "REMOVE", src="/t/", src_site=SSH)).outcome == "ok"
    assert "a directory must be empty" in failure(refused)
    assert {each.outcome for each in ends} == {"ok"}
    assert content(there) == {}
    assert content(here) == {b"precious": b"precious"}


async def test_renaming_and_making_directories(server: SshServer, there: Path, here: Path) -> None:
    (there / "f").write_text("f")
    (there / "g").write_text("g")
    asked: dict[str, Any] = {"src_site": SSH}
    async with sites(server, there, here) as made:
        assert (await attempt(made, "MKDIR", src="/d", **asked)).outcome == "ok"
        assert (await attempt(made, "MKDIR", src="/d", **asked)).outcome == "ok"
        assert "File exists" in failure(await attempt(made, "MKDIR", src="/f", **asked))
        assert "No such file" in failure(await attempt(made, "MKDIR", src="/x/y", **asked))
        assert (await attempt(made, "MKDIR", src="/x/y", opts={"parents": True}, **asked)).outcome == "ok"
        asked["dst_site"] = SSH
        assert failure(await attempt(made, "RENAME", src="/f", dst="/g", **asked)) == "/g: is there already"
        assert (await attempt(made, "RENAME", src="/f", dst="/d/a\nb", **asked)).outcome == "ok"
        assert (await attempt(made, "RENAME", src="/f", dst="/d/a\nb", starts=2, **asked)).outcome == "ok"
        assert "No such file" in failure(await attempt(made, "RENAME", src="/f", dst="/h", **asked))
        replaced = await attempt(made, "RENAME", src="/g", dst="/d/a\nb", opts={"overwrite": True}, **asked)
        assert replaced.outcome == "ok"
    assert content(there) == {b"d/a\nb": b"g"}
    assert (there / "x" / "y").is_dir()


@pytest.mark.parametrize("target", ["..", "/", "real"])
async def test_links_are_refused_wherever_they_lead(server: SshServer, there: Path, here: Path, target: str) -> None:
    (there / "real").mkdir()
    (there / "real" / "f").write_text("f")
    (there / "link").symlink_to(target)
    (there / "file").symlink_to("real/f")
    (here / "f").write_text("x")
    both = {"src_site": SSH, "dst_site": HERE}
    back = {"src_site": HERE, "dst_site": SSH}
    async with sites(server, there, here) as made:
        ends = [
            await attempt(made, "LIST", src="/link/f", src_site=SSH),
            await attempt(made, "COPY", src="/link/f", dst="/g", **both),
            await attempt(made, "COPY", src="/file", dst="/g", **both),
            await attempt(made, "COPY", src="/f", dst="/link/new", **back),
            await attempt(made, "COPY", src="/f", dst="/link/new/er", **back),
            await attempt(made, "REMOVE", src="/link/f", src_site=SSH),
            await attempt(made, "MKDIR", src="/link/new", src_site=SSH),
            await attempt(made, "RENAME", src="/link/f", dst="/f", src_site=SSH, dst_site=SSH),
            await attempt(made, "RENAME", src="/real/f", dst="/link/f", src_site=SSH, dst_site=SSH),
        ]
        assert "must not contain" in failure(await attempt(made, "LIST", src="/../here", src_site=SSH))
        for kind, more in (("REMOVE", {}), ("MKDIR", {}), ("COPY", {"dst": "/g", "dst_site": HERE})):
            end = await attempt(made, kind, src="/", src_site=SSH, **more)
            assert failure(end) == "/: is the root of the site"
        end = await attempt(made, "COPY", src="/f", dst="/", **back)
        assert failure(end) == "/: is the root of the site"
        replaced = await attempt(made, "COPY", src="/f", dst="/file", **back)
    assert ["is a symbolic link" in failure(each) for each in ends] == [True] * len(ends)
    assert replaced.outcome == "ok"
    assert (there / "real" / "f").read_text() == "f"
    assert content(here) == {b"f": b"x"}


async def test_another_host_key_is_refused(server: SshServer, there: Path, here: Path, tmp_path: Path) -> None:
    async with sites(server, there, here, host_key=keypair(tmp_path / "other")) as made:
        assert "another host key than the pinned one" in failure(await attempt(made, "LIST", src="/", src_site=SSH))


@pytest.mark.parametrize("listed", [True, False])
async def test_a_known_hosts_file_decides(server: SshServer, there: Path, here: Path, listed: bool) -> None:
    known = there / "known_hosts"
    known.write_text(f"[127.0.0.1]:{server.port if listed else 1} {server.host_key}\n")
    async with sites(server, there, here, host_key=None, known_hosts=known) as made:
        end = await attempt(made, "LIST", src="/", src_site=SSH)
    assert end.outcome == ("ok" if listed else "fail")


async def test_a_key_that_is_not_accepted_is_named(server: SshServer, there: Path, here: Path, tmp_path: Path) -> None:
    keypair(tmp_path / "wrong")
    async with sites(server, there, here, key=tmp_path / "wrong") as made:
        assert f"does not accept the key {tmp_path}/wrong" in failure(
            await attempt(made, "LIST", src="/", src_site=SSH)
        )
    async with sites(server, there, here, key=tmp_path / "none") as made:
        assert "No such file" in failure(await attempt(made, "LIST", src="/", src_site=SSH))


async def test_a_server_that_is_not_there_is_named(server: SshServer, there: Path, here: Path) -> None:
    async with sites(server, there, here, ssh=f"{server.user}@127.0.0.1:1") as made:
        assert "127.0.0.1:1: cannot be reached" in failure(await attempt(made, "LIST", src="/", src_site=SSH))
    async with sites(server, there / "none", here) as made:
        assert "No such file" in failure(await attempt(made, "LIST", src="/", src_site=SSH))


async def test_a_connection_that_broke_is_made_again_and_the_copy_goes_on(
    server: SshServer, there: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sysadmd.jobs.transfers.copying.Copy.__init__.__kwdefaults__", {"checkpoint": 1 << 20})
    data = os.urandom(5 << 20)
    (here / "f").write_bytes(data)
    real = ssh_file.SshTarget.write

    async def breaking(self: ssh_file.SshTarget, offset: int, data: bytes) -> None:
        if offset >= 3 << 20:
            server.break_connections()
        await real(self, offset, data)

    asked: dict[str, Any] = {"src": "/f", "dst": "/f", "src_site": HERE, "dst_site": SSH}
    async with sites(server, there, here) as made:
        monkeypatch.setattr(ssh_file.SshTarget, "write", breaking)
        assert "the connection to" in failure(await attempt(made, "COPY", **asked))
        assert b"f" not in content(there)
        monkeypatch.setattr(ssh_file.SshTarget, "write", real)
        output = io.BytesIO()
        end = await attempt(made, "COPY", starts=2, output=output, **asked)
    assert end.outcome == "ok", end
    assert "going on at 2097152 of 5242880 bytes" in output.getvalue().decode()
    assert content(there) == {b"f": data}


async def test_a_cancelled_copy_ends_and_leaves_no_half_file(
    server: SshServer, there: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "f").write_bytes(b"x" * (1 << 20))
    reached = asyncio.Event()

    async def stuck(self: ssh_file.SshTarget, offset: int, data: bytes) -> None:
        reached.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(ssh_file.SshTarget, "write", stuck)
    async with sites(server, there, here) as made:
        task = asyncio.create_task(attempt(made, "COPY", src="/f", dst="/f", src_site=HERE, dst_site=SSH))
        await reached.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await attempt(made, "LIST", src="/", src_site=SSH)).outcome == "ok"
    assert content(there) == {}


async def test_one_entry_above_the_bound_is_refused(server: SshServer, there: Path, here: Path) -> None:
    (there / "a" / "b").mkdir(parents=True)
    configured = {SSH: server.site(there)}
    async with Sites(configured, Limits(listing_entries=2)) as made:
        assert (await attempt(made, "LIST", src="/")).outcome == "ok"
        (there / "a" / "c").touch()
        assert "more than 2 files" in failure(await attempt(made, "LIST", src="/"))
    async with Sites(configured, Limits(listing_depth=1)) as made:
        assert "more than 1 levels deep" in failure(await attempt(made, "LIST", src="/"))


async def test_both_kinds_of_site_list_the_same(server: SshServer, there: Path, here: Path) -> None:
    (here / "d" / "sub").mkdir(parents=True)
    (here / "d" / "f").write_text("x")
    (here / "d" / "l").symlink_to("f")
    async with sites(server, there, here) as made:
        for path in ("/", "~", "/d/", "/d/f", "/d/l", "/d/none", "/d/f/", "/d/f/x"):
            far, near = [await attempt(made, "LIST", src=path, src_site=site) for site in (BACK, HERE)]
            assert far.outcome == near.outcome, path
            if near.result is not None:
                for entries in [*near.result["listing"].values(), *far.result["listing"].values()]:
                    for each in entries:
                        del each["st_nlink"]
                assert far.result == near.result, path


async def test_a_directory_is_renamed_without_being_read(server: SshServer, there: Path, here: Path) -> None:
    (there / "d" / "sub").mkdir(parents=True)
    (there / "d" / "f").touch()
    async with Sites({SSH: server.site(there)}, Limits(listing_entries=1)) as made:
        ends = await job(made, "RENAME", "/d", "/e")
    assert [each.outcome for each in ends] == ["ok", "ok"]
    assert (there / "e" / "sub").is_dir()


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of something that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


async def test_a_server_that_says_nothing_is_given_up(server: SshServer, there: Path, silent: int) -> None:
    site = server.site(there, ssh=f"{server.user}@127.0.0.1:{silent}")
    async with Sites({SSH: site}, Limits(ssh_connect=0.2)) as made:
        assert "could not be reached within 0.2 s" in failure(await attempt(made, "LIST", src="/"))


async def test_a_server_that_falls_silent_is_given_up_and_dialled_again(
    server: SshServer, there: Path, here: Path
) -> None:
    async with Sites({SSH: server.site(there)}, Limits()) as made:
        assert (await attempt(made, "MKDIR", src="/a")).outcome == "ok"
        server.freeze()
        line = cast(Any, made.site(SSH))._line
        line._limits = Limits(ssh_silence=0.1)
        assert "did not answer for 0.1 s" in failure(await attempt(made, "MKDIR", src="/b"))
        line._limits = Limits()
        assert (await attempt(made, "MKDIR", src="/b")).outcome == "ok"
        assert len(server.processes) == 2


async def test_a_connection_that_was_cut_is_made_again(server: SshServer, there: Path) -> None:
    async with Sites({SSH: server.site(there)}, Limits()) as made:
        assert (await attempt(made, "MKDIR", src="/a")).outcome == "ok"
        server.break_connections()
        ends = [await attempt(made, "MKDIR", src="/b") for _ in range(2)]
    assert ends[-1].outcome == "ok"


async def test_a_full_disk_over_there_is_named_and_leaves_nothing(
    server: SshServer, small_disk: Path, here: Path
) -> None:
    (here / "f").write_bytes(b"x" * (4 << 20))
    async with sites(server, small_disk, here) as made:
        end = await attempt(made, "COPY", src="/f", dst="/d/f", src_site=HERE, dst_site=SSH)
    assert failure(end) == "/d/f: No space left on device"
    assert content(small_disk) == {}


async def test_many_attempts_at_once_share_one_connection(server: SshServer, there: Path, here: Path) -> None:
    for count in range(12):
        (there / f"f{count}").write_bytes(os.urandom(300_000))
    async with sites(server, there, here) as made:
        asked = [
            attempt(made, "COPY", idx=count, src=f"/f{count}", dst=f"/f{count}", src_site=SSH, dst_site=HERE)
            for count in range(12)
        ]
        ends = await asyncio.gather(*asked)
    assert [each.outcome for each in ends] == ["ok"] * 12
    assert content(here) == content(there)
    assert len(server.processes) == 1


@pytest.mark.parametrize("name", [b"../up", b"a/b", b"", b"\0", b"n" * 256])
async def test_a_server_that_lies_about_names_is_not_believed(
    server: SshServer, there: Path, here: Path, monkeypatch: pytest.MonkeyPatch, name: bytes
) -> None:
    (there / "f").touch()
    real = asyncssh.SFTPClient.scandir

    async def lying(self: asyncssh.SFTPClient, path: Any) -> AsyncIterator[asyncssh.SFTPName]:
        async for each in real(self, path):
            if each.filename == b"f":
                each.filename = name
            yield each

    monkeypatch.setattr(asyncssh.SFTPClient, "scandir", lying)
    async with sites(server, there, here) as made:
        assert "which is no name of a file" in failure(await attempt(made, "LIST", src="/", src_site=SSH))


async def test_a_connection_that_nobody_uses_is_ended_but_not_under_an_open_file(
    server: SshServer, there: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_line, "IDLE", 0.05)
    (there / "f").write_bytes(b"x" * 10)
    async with Sites({SSH: server.site(there)}, Limits()) as made:
        assert (await attempt(made, "MKDIR", src="/a")).outcome == "ok"
        source = await made.site(SSH).source(parse("/f"))
        await asyncio.sleep(0.3)
        assert await source.read(0, 100) == b"x" * 10
        await source.aclose()
        (process,) = server.processes
        await asyncio.to_thread(process.wait, 30)
        assert (await attempt(made, "MKDIR", src="/b")).outcome == "ok"


async def test_a_file_that_is_swapped_while_it_is_opened_is_refused(
    server: SshServer, there: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (there / "f").write_bytes(b"mine")
    (here / "secret").write_bytes(b"secret")
    real = ssh_file.OpenFile.open

    async def late(line: Any, path: str, full: bytes, *more: Any) -> ssh_file.OpenFile:
        if full.endswith(b"/f"):
            (there / "f").unlink()
            (there / "f").symlink_to(here / "secret")
        return await real(line, path, full, *more)

    monkeypatch.setattr(ssh_file.OpenFile, "open", late)
    async with sites(server, there, here) as made:
        end = await attempt(made, "COPY", src="/f", dst="/g", src_site=SSH, dst_site=HERE)
    assert failure(end) == "/f: was changed while it was opened"
    assert content(here) == {b"secret": b"secret"}
