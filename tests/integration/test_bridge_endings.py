"""How connections to a bridge end when the peer does not keep to the order, and what that costs the others."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

from sysadmd.keys.signing import AT_BRIDGE
from tests.integration.bridges import WAIT, BridgePeer, LiveRelay, private_key, running_relay, text


def write(peer: BridgePeer, *frames: str) -> None:
    """Send without waiting for anything."""
    for frame in frames:
        peer.connection.protocol.send_text(frame.encode())
    peer.connection.transport.write(b"".join(peer.connection.protocol.data_to_send()))


def close_and_stay(peer: BridgePeer, *frames: str) -> None:
    """Send frames and a close frame at once, and never end the TCP connection."""
    protocol, transport = peer.connection.protocol, peer.connection.transport
    for frame in frames:
        protocol.send_text(frame.encode())
    protocol.send_close(1000)
    transport.pause_reading()
    transport.write(b"".join(protocol.data_to_send()))


def connections(live: LiveRelay) -> int:
    assert live.relay._server is not None
    return len(live.relay._server.all_connections)


async def test_a_stranger_that_leaves_while_its_proof_is_checked_stops_nobody(tmp_path: Path) -> None:
    async with running_relay(tmp_path, tls=False) as live, live.peer() as other, live.connect() as stranger:
        await stranger.receive()
        key = private_key("stranger")
        algorithm, _ = key.sign(await stranger.challenge(), AT_BRIDGE)
        proof = {"key": key.public.fingerprint, "algorithm": algorithm, "signature": "AAAA"}
        began = time.monotonic()
        close_and_stay(stranger, text("rpc", "auth_ssl", proof))
        await live.until(lambda: live.relay.figures.refused["proof"])
        await other.silent()
        assert time.monotonic() - began < WAIT


async def test_a_stranger_that_closes_and_stays_is_dropped(tmp_path: Path) -> None:
    async with running_relay(tmp_path, tls=False, drain=0.2) as live, live.connect() as stranger:
        await stranger.receive()
        close_and_stay(stranger)
        await live.until(lambda: not connections(live))


async def test_a_peer_that_was_not_read_may_still_answer_its_end(tmp_path: Path) -> None:
    limits: dict[str, Any] = {"bridge_queue": 64 * 1024, "bridge_patience": 60.0, "drain": 60.0}
    removed = private_key("removed")
    async with (
        running_relay(tmp_path, **limits) as live,
        live.peer("server", "k") as server,
        live.peer("client", "k", key=removed) as client,
    ):
        (server.id,) = await client.announced()
        server.connection.transport.pause_reading()
        (sender,) = [peer for peer in live.relay.exchange.roster if peer.role == "client"]
        while not sender.held:
            write(client, *[f"{server.id}\n{'x' * 64 * 1024}"] * 10)
            await asyncio.sleep(0.05)  # the kernel's buffers take much before the bridge has to keep it
        del live.ring.keys[removed.public.fingerprint]
        live.relay.keys_changed()
        assert (await client.closed())[0] == 1008
        await live.until(lambda: connections(live) == 1)
        server.connection.transport.abort()


async def test_a_peer_that_closes_and_stays_is_gone_for_its_counterpart(tmp_path: Path) -> None:
    async with running_relay(tmp_path, tls=False, drain=0.2) as live, live.pair() as (server, client):
        close_and_stay(client)
        assert await server.announced() == []
        await live.until(lambda: connections(live) == 1)
