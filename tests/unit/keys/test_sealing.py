"""The sealing context of a server: made when it is first asked for, once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sysadmd.errors import StateError
from sysadmd.keys.bridge import BRIDGE_KEY_FILE, bridge_key
from sysadmd.keys.sealing import Sealing


async def test_nothing_is_made_before_somebody_asks(tmp_path: Path) -> None:
    sealing = Sealing(tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert (await sealing.context()).fingerprint == bridge_key(tmp_path).public.fingerprint


async def test_those_who_ask_at_once_get_the_same(tmp_path: Path) -> None:
    sealing = Sealing(tmp_path)
    first, *others = await asyncio.gather(*(sealing.context() for _ in range(5)))
    assert all(context is first for context in others)


async def test_what_was_in_the_way_may_be_gone_the_next_time(tmp_path: Path) -> None:
    sealing = Sealing(tmp_path)
    (tmp_path / BRIDGE_KEY_FILE).write_text("damaged")
    with pytest.raises(StateError, match=BRIDGE_KEY_FILE):
        await sealing.context()
    (tmp_path / BRIDGE_KEY_FILE).unlink()
    assert await sealing.context() is await sealing.context()
