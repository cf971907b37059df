"""The Unix socket of a bridge: one document to each who connects, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from sysadmd.bridge import status
from sysadmd.bridge.status import StatusSocket, ask
from sysadmd.errors import StateError


@pytest.fixture
def path() -> Iterator[Path]:
    """Short enough for a Unix socket, wherever pytest keeps its directories."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory, "bridge.sock")


@contextlib.asynccontextmanager
async def serving(path: Path, document: Any) -> AsyncIterator[StatusSocket]:
    served = StatusSocket(path, lambda: document)
    async with anyio.create_task_group() as tasks:
        await tasks.start(served.serve)
        yield served
        tasks.cancel_scope.cancel()


async def test_everybody_who_connects_gets_the_document_and_the_end(path: Path) -> None:
    document = {"version": "1", "peers": [{"nick": "ä"}] * 1000}
    async with serving(path, document):
        for _ in range(2):
            assert await asyncio.to_thread(ask, path) == document


async def test_only_the_owner_may_connect(path: Path) -> None:
    async with serving(path, {}):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_the_socket_goes_with_the_bridge(path: Path) -> None:
    async with serving(path, {}):
        pass
    assert not path.exists()


async def test_who_leaves_early_or_does_not_read_disturbs_nobody(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = {"peers": ["x" * 1000] * 10_000}
    async with serving(path, document):
        with socket.socket(socket.AF_UNIX) as gone, socket.socket(socket.AF_UNIX) as silent:
            silent.connect(os.fspath(path))
            gone.connect(os.fspath(path))
            gone.close()
            assert await asyncio.to_thread(ask, path) == document


async def test_who_does_not_read_is_cut_off(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "PATIENCE", 0.2)
    async with serving(path, {"peers": ["x" * 1000] * 10_000}):
        with socket.socket(socket.AF_UNIX) as silent:
            silent.connect(os.fspath(path))
            await asyncio.sleep(0.5)
            size = await asyncio.to_thread(lambda: sum(iter(lambda: len(silent.recv(65536)), 0)))
    assert size < 10_000_000


async def test_a_path_that_no_socket_can_have_is_refused(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 100) / "bridge.sock"
    with pytest.raises(StateError, match="must be at most 103 bytes"):
        await StatusSocket(path, dict).serve()


def test_where_no_bridge_runs_there_is_no_answer(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ask(path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.fspath(path))
    with pytest.raises(ConnectionRefusedError):
        ask(path)


def test_one_that_is_silent_is_not_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "PATIENCE", 0.1)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.fspath(path))
        listening.listen()
        with pytest.raises(TimeoutError):
            ask(path)


@pytest.mark.parametrize("answer", [b"", b"hello", b"[1]"])
async def test_an_answer_that_is_no_document_is_named(path: Path, answer: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        writer.close()

    server = await asyncio.start_unix_server(reply, path)
    async with server:
        with pytest.raises(StateError, match="not a bridge's"):
            await asyncio.to_thread(ask, path)


async def test_an_answer_without_end_is_given_up(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "MAX_DOCUMENT", 1000)
    async with serving(path, {"peers": ["x"] * 1000}):
        with pytest.raises(StateError, match="has no end"):
            await asyncio.to_thread(ask, path)
