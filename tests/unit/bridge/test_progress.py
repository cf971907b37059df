"""Numbers that tell whether a peer reads."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sysadmd.bridge import progress as module
from sysadmd.bridge.progress import progress


async def test_it_changes_while_the_peer_reads_and_stays_when_it_stops() -> None:
    if module.PLATFORM != "linux":
        pytest.skip("only Linux counts acknowledged bytes")
    here, there = socket.socket(), socket.socket()
    with here, there:
        there.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 * 1024)
        here.bind(("127.0.0.1", 0))
        here.listen()
        there.connect(here.getsockname())
        other, _ = here.accept()
        transport, _ = await asyncio.get_running_loop().create_connection(asyncio.Protocol, sock=other)
        transport.write(b"x" * 8_000_000)
        await asyncio.sleep(0.3)
        stalled = progress(transport)
        await asyncio.sleep(0.1)
        assert progress(transport) == stalled
        async with asyncio.timeout(10):
            while progress(transport) == stalled:
                there.recv(65536)
                await asyncio.sleep(0.001)
        transport.abort()


async def test_a_transport_without_a_tcp_socket_has_its_buffer_only() -> None:
    left, right = socket.socketpair()
    with right:
        transport, _ = await asyncio.get_running_loop().create_unix_connection(asyncio.Protocol, sock=left)
        assert progress(transport) == (0, 0)
        transport.abort()


@pytest.mark.parametrize("platform", ["darwin", "freebsd14"])
async def test_other_systems_raise_nothing(monkeypatch: pytest.MonkeyPatch, platform: str) -> None:
    monkeypatch.setattr(module, "PLATFORM", platform)
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    async with server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        size, _ = progress(writer.transport)
        assert size == 0
        writer.transport.abort()
