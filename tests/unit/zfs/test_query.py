from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysadmd.errors import ZfsError
from sysadmd.zfs import Dataset, Pool, Zfs
from tests.unit.zfs.fake_zpool import OPENZFS, ZFS_FUSE, calls, fake_zpool, program


async def test_openzfs_columns_are_right_although_it_has_more_and_in_another_order(tmp_path: Path) -> None:
    pools = await Zfs(fake_zpool(tmp_path, OPENZFS)).pools()
    assert pools["tank"] == Pool("107G", "13.1G", "93.9G", "6%", "-", "1.00x", "-", "12%", "ONLINE")
    assert pools["my pool"] == Pool("9.50G", "9.12G", "389M", "71%", "10G", "1.37x", "/mnt", "95%", "DEGRADED")


async def test_openzfs_is_asked_once(tmp_path: Path) -> None:
    path = fake_zpool(tmp_path, OPENZFS)
    await Zfs(path).pools()
    assert calls(path) == [
        "list -H -o name,size,allocated,free,fragmentation,expandsize,dedupratio,altroot,capacity,health"
    ]


async def test_columns_unknown_to_zfs_fuse_are_dashes(tmp_path: Path) -> None:
    pools = await Zfs(fake_zpool(tmp_path, ZFS_FUSE)).pools()
    assert pools == {"tank": Pool("107G", "13.1G", "93.9G", "-", "-", "1.00x", "-", "12%", "ONLINE")}


async def test_refused_columns_are_remembered(tmp_path: Path) -> None:
    path = fake_zpool(tmp_path, ZFS_FUSE)
    zfs = Zfs(path)
    await zfs.pools()
    assert len(calls(path)) == 3
    await zfs.pools()
    assert len(calls(path)) == 4


async def test_another_binary_is_probed_again(tmp_path: Path) -> None:
    path = fake_zpool(tmp_path, ZFS_FUSE)
    zfs = Zfs(path)
    await zfs.pools()
    path.unlink()
    os.utime(fake_zpool(tmp_path, OPENZFS), ns=(1, 1))
    assert (await zfs.pools())["tank"].frag == "6%"


async def test_a_zpool_without_health_is_an_error_not_a_guess(tmp_path: Path) -> None:
    with pytest.raises(ZfsError, match="invalid property 'health'"):
        await Zfs(fake_zpool(tmp_path, OPENZFS, known=frozenset({"size"}))).pools()


async def test_no_pools_is_an_empty_mapping(tmp_path: Path) -> None:
    assert await Zfs(fake_zpool(tmp_path, {}, known=frozenset(OPENZFS["tank"]))).pools() == {}


async def test_a_machine_without_zpool_has_no_pools(tmp_path: Path) -> None:
    assert await Zfs(tmp_path / "none").pools() == {}


@pytest.mark.parametrize(
    "text",
    [
        "The ZFS modules are not loaded.\nTry running '/sbin/modprobe zfs' as root to load them.",
        "The ZFS modules cannot be auto-loaded.\nTry running 'modprobe zfs' as root to manually load them.",
        "/dev/zfs and /proc/self/mounts are required.\nTry running 'udevadm trigger' and 'mount -t proc proc /proc'.",
        (
            "connect: No such file or directory\nPlease make sure that the zfs-fuse daemon is running.\n"
            "internal error: failed to initialize ZFS library"
        ),
    ],
)
async def test_zfs_that_is_not_running_means_no_pools(tmp_path: Path, text: str) -> None:
    path = program(tmp_path, f'#!/bin/sh\ncat >&2 <<"END"\n{text}\nEND\nexit 1\n')
    assert await Zfs(path).pools() == {}


async def test_zfs_that_may_not_be_asked_is_an_error(tmp_path: Path) -> None:
    text = "connect: Permission denied\nPlease make sure that the zfs-fuse daemon is running."
    path = program(tmp_path, f'#!/bin/sh\necho "{text}" >&2\nexit 1\n')
    with pytest.raises(ZfsError, match="Permission denied"):
        await Zfs(path).pools()


async def test_datasets_are_asked_for_by_column(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    path = program(tmp_path, f"#!/bin/sh\necho \"$@\" >{log}\nprintf 'tank\\t1G\\t2G\\t3G\\t/tank\\n'\n", "zfs")
    assert await Zfs(None, path).datasets("tank") == {"tank": Dataset("1G", "2G", "3G", "/tank")}
    assert log.read_text() == "list -H -r -t filesystem,volume -o name,used,avail,refer,mountpoint tank\n"


@pytest.mark.parametrize(
    "name", ["-o", "", "tank\n", "tank/", "/tank", "tank//a", "tank@snap", "--help", "9tank", "tänk"]
)
async def test_a_name_that_is_none_never_reaches_the_command(tmp_path: Path, name: str) -> None:
    path = program(tmp_path, f"#!/bin/sh\ntouch {tmp_path}/called\n", "zfs")
    with pytest.raises(ZfsError, match="is not the name of a pool or dataset"):
        await Zfs(None, path).snapshots(name)
    assert not (tmp_path / "called").exists()


async def test_an_unknown_dataset_is_an_error_with_the_words_of_zfs(tmp_path: Path) -> None:
    path = program(tmp_path, "#!/bin/sh\necho \"cannot open 'x': dataset does not exist\" >&2\nexit 1\n", "zfs")
    with pytest.raises(ZfsError, match=r"cannot open 'x': dataset does not exist \(exit status 1\)"):
        await Zfs(None, path).datasets("x")


async def test_a_zpool_that_is_removed_while_it_is_looked_at_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path, "exit 0")
    zfs = Zfs(path)
    monkeypatch.setattr(zfs._zpool, "find", lambda: tmp_path / "removed")
    with pytest.raises(ZfsError, match="removed: No such file or directory"):
        await zfs.pools()
