"""How connections to a bridge end when the peer does not keep to the order, and what that costs the others."""

from __future__ import annotations

import time
from pathlib import Path

from sysadmd.keys.signing import AT_BRIDGE
from tests.integration.bridges import WAIT, BridgePeer, LiveRelay, private_key, running_relay, text


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


async def test_a_peer_that_closes_and_stays_is_gone_for_its_counterpart(tmp_path: Path) -> None:
    async with running_relay(tmp_path, tls=False, drain=0.2) as live, live.pair() as (server, client):
        close_and_stay(client)
        assert await server.announced() == []
        await live.until(lambda: connections(live) == 1)
