"""Who can be reached through a bridge, when not everybody answers."""

from __future__ import annotations

import pytest

from sysadmd.client.bridge import Bridge
from sysadmd.client.bridge.reach import reach
from sysadmd.client.errors import ConnectFailed
from sysadmd.keys.seal import SealingContext
from sysadmd.keys.signing import PrivateKey
from tests.unit.client.bridge.scripted import Line, ScriptedBridge, ScriptedServer, same


def connection(bridge: ScriptedBridge, key: PrivateKey) -> Bridge:
    return Bridge(Line(bridge), same(key), "bridge://relay")


async def test_a_server_that_does_not_answer_is_listed_all_the_same(rsa: PrivateKey, context: SealingContext) -> None:
    bridge = ScriptedBridge(rsa.public)
    bridge.join(ScriptedServer("nas", context)).mute = True
    known = {context.fingerprint}
    (found,) = await reach(connection(bridge, rsa), known, where="bridge://relay", timeout=5, patience=0.1)
    assert (found.hostname, found.sealed, found.pinned, found.key) == ("nas", None, True, context.fingerprint)


@pytest.mark.parametrize("original", [False, True])
async def test_nobody_is_an_empty_list(rsa: PrivateKey, original: bool) -> None:
    bridge = ScriptedBridge(rsa.public, original=original)
    assert await reach(connection(bridge, rsa), (), where="bridge://relay", timeout=5, patience=0.1) == []
    assert bridge.line.closed


async def test_a_bridge_that_says_nothing_is_given_up(rsa: PrivateKey) -> None:
    bridge = ScriptedBridge(rsa.public)
    bridge.hears = lambda line, frame: None  # type: ignore[method-assign]
    with pytest.raises(ConnectFailed, match=r"no answer of the bridge within 0\.05 s"):
        await reach(connection(bridge, rsa), (), where="bridge://relay", timeout=0.05)
    assert bridge.line.closed


async def test_a_bridge_that_closes_is_told(rsa: PrivateKey) -> None:
    bridge = ScriptedBridge(rsa.public)
    bridge.hears = lambda line, frame: line.drop()  # type: ignore[method-assign]
    with pytest.raises(ConnectFailed, match="closed the connection"):
        await reach(connection(bridge, rsa), (), where="bridge://relay", timeout=5)
