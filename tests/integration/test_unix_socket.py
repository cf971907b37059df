"""The Unix socket: everybody may connect, and the kernel says who they are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import unix_connect
from websockets.exceptions import ConnectionClosed

from sysadmd.errors import StateError
from sysadmd.server.unix_socket import clear_socket
from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import Peer

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can connect as another uid")


@pytest.fixture
def public_socket() -> Iterator[Path]:
    """A path that every account can reach, which pytest's own directories are not."""
    directory = Path(tempfile.mkdtemp(prefix="sysadmd-"))
    directory.chmod(0o755)
    yield directory / "sysadmd.sock"
    shutil.rmtree(directory)


@contextlib.asynccontextmanager
async def peer_on(path: Path, uid: int | None = None) -> AsyncIterator[Peer]:
    """A connection to the socket; with `uid`, made as that one, which is what the kernel reports."""
    sock = socket.socket(socket.AF_UNIX)
    sock.setblocking(True)
    own = os.geteuid()
    if uid is not None:
        os.seteuid(uid)
    try:
        sock.connect(os.fspath(path))
    finally:
        os.seteuid(own)
    sock.setblocking(False)
    async with unix_connect(sock=sock, uri="ws://localhost/", compression=None) as connection:
        yield Peer(connection)


def socket_of(live: LiveApp) -> Path:
    return live.app.config.socket.path


async def test_everybody_may_connect(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        mode = socket_of(live).stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o666


async def test_the_server_s_own_uid_is_an_administrator_without_a_log_in(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, peer_on(socket_of(live)) as peer:
        assert await peer.call("rpc", "accounts", {"action": "list"})
        assert await peer.call("rpc", "dispatcher", {"action": "kill", "job_id": "none"}) == {"killed": {"jobs": []}}


async def test_such_a_peer_may_send_large_frames_at_once(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live, peer_on(socket_of(live)) as peer:
        assert await peer.call("rpc", "query", "x" * 100_000)


@as_root
async def test_who_comes_in_by_the_uid_is_in_the_audit_trail(tmp_path: Path, public_socket: Path) -> None:
    async with running_app(tmp_path, socket__path=str(public_socket)), peer_on(public_socket) as peer:
        records: list[Any] = []
        async with asyncio.timeout(10):
            while not records:  # nobody waits for the record
                records = (await peer.call("rpc", "audit", {"action": "list", "kind": "login"}))["records"]
        (record,) = records
        assert (record["method"], record["uid"], record["via"]) == ("socket", os.geteuid(), "unix")


async def test_another_uid_must_log_in(tmp_path: Path, public_socket: Path) -> None:
    async with running_app(tmp_path, socket__path=str(public_socket)) as live, peer_on(public_socket, NOBODY) as peer:
        assert (await peer.request("rpc", "query"))["args"]["code"] == 401
        await peer.login("view")
        assert (await peer.call("rpc", "query"))["rpc/dispatcher"] == "read"
        assert {session.peer.kind for session in live.app.engine.sessions} == {"unix"}


@as_root
async def test_another_uid_has_the_rights_of_the_account_of_its_name(tmp_path: Path, public_socket: Path) -> None:
    accounts = {"nobody": ("viewer",), "admin": ("admin",)}
    async with (
        running_app(tmp_path, socket__path=str(public_socket), accounts=accounts),
        peer_on(public_socket, NOBODY) as peer,
        peer_on(public_socket) as root,
    ):
        assert (await peer.call("rpc", "query"))["rpc/dispatcher"] == "read"
        await root.call("rpc", "accounts", {"action": "passwd", "name": "nobody", "password": "new"})
        assert await peer.call("rpc", "query")
        await root.call("rpc", "accounts", {"action": "remove", "name": "nobody"})
        with pytest.raises(ConnectionClosed):
            await peer.receive()
        assert await root.call("rpc", "query")


async def test_an_administrator_of_the_machine_gets_in_when_the_network_s_connections_are_used_up(
    tmp_path: Path,
) -> None:
    async with (
        running_app(tmp_path, limits__connections=1) as live,
        live.connect(login=None),
        peer_on(socket_of(live)) as peer,
    ):
        assert await peer.call("rpc", "query")


async def test_the_socket_is_removed_at_the_end(tmp_path: Path) -> None:
    async with running_app(tmp_path) as live:
        path = socket_of(live)
        assert path.exists()
    assert not path.exists()


async def test_without_a_socket_there_is_none(tmp_path: Path) -> None:
    async with running_app(tmp_path, socket__enabled=False) as live, live.connect() as peer:
        assert not socket_of(live).exists()
        assert await peer.call("rpc", "query")


# What may stand in the way


def test_a_socket_that_nobody_answers_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fspath(path))
    clear_socket(path)
    assert not path.exists()


def test_a_socket_that_another_server_answers_is_left(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fspath(path))
        sock.listen()
        with pytest.raises(StateError, match="is in use by another server"):
            clear_socket(path)
    assert path.exists()


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir, lambda path: path.symlink_to("/nowhere")])
def test_what_is_no_socket_is_left(tmp_path: Path, make: Any) -> None:
    path = tmp_path / "sock"
    make(path)
    with pytest.raises(StateError, match="not a socket"):
        clear_socket(path)
    assert os.path.lexists(path)


def test_the_directory_is_made(tmp_path: Path) -> None:
    clear_socket(tmp_path / "run" / "sysadmd" / "sock")
    assert (tmp_path / "run" / "sysadmd").is_dir()
