"""The link against sockets that play an executor."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from sysadmd.dispatcher import link as link_module
from sysadmd.dispatcher import password_checks
from sysadmd.dispatcher.link import ExecutorLink
from sysadmd.errors import ExecutorError, TooManyRequests, Unavailable
from sysadmd.executor import protocol
from sysadmd.executor.protocol import Authenticate, Authenticated, Channel, ExecutorHello, Exit, Listing, Start


class Recorder:
    """A handler that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def connected(self, instance: str, listing: Listing) -> None:
        self.told.append(("connected", instance))

    def started(self, frame: Any) -> None:
        self.told.append(("started", frame))

    def exited(self, frame: Any) -> None:
        self.told.append(("exited", frame.attempt))

    def refused(self, frame: Any) -> None:
        self.told.append(("refused", frame))

    def disconnected(self) -> None:
        self.told.append(("disconnected", None))


class FakeServer:
    """Listens where an executor would; every connection becomes a channel of the executor's side."""

    def __init__(self, state: Path) -> None:
        self.sock = protocol.listen(protocol.socket_path(state))
        self.channels: list[Channel] = []
        self.frames: list[Any] = []
        asyncio.get_running_loop().add_reader(self.sock, self._accept)

    def _accept(self) -> None:
        sock, _ = self.sock.accept()
        self.channels.append(Channel(sock, "executor", on_frame=self._frame, on_close=lambda _: None))

    def _frame(self, frame: Any, descriptor: int | None) -> None:
        self.frames.append(frame)

    def hello(self, proto: int = protocol.PROTOCOL, instance: str = "i1", *features: str) -> None:
        self.channels[-1].send(ExecutorHello(proto, instance, boot_id="b", pid=1, features=list(features)))

    async def up(self, link: ExecutorLink, *features: str) -> None:
        """Hello and listing, as seen by the link."""
        await until(lambda: len(self.frames) == 2)
        self.hello(protocol.PROTOCOL, "i1", *features)
        self.listing()
        await until(lambda: link.instance == "i1")

    def listing(self) -> None:
        self.channels[-1].send(Listing(running=[], exits=[]))

    def close(self) -> None:
        asyncio.get_running_loop().remove_reader(self.sock)
        self.sock.close()
        for channel in self.channels:
            channel.close()


@asynccontextmanager
async def linked(state: Path, **options: Any) -> AsyncIterator[tuple[ExecutorLink, Recorder]]:
    recorder = Recorder()
    link = ExecutorLink(protocol.socket_path(state), **options)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link.run, recorder)
        yield link, recorder
        tasks.cancel_scope.cancel()


async def until(condition: Any) -> None:
    with anyio.fail_after(5):
        while not condition():
            await anyio.sleep(0.002)


async def test_the_link_is_up_when_the_listing_has_come(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    async with linked(tmp_path) as (link, recorder):
        await until(lambda: len(server.frames) == 2)
        assert [type(frame).__name__ for frame in server.frames] == ["ServerHello", "List"]
        server.hello()
        server.channels[-1].send(Exit(attempt="a", lease="l", outcome="ok", exit_code=0))
        await until(lambda: recorder.told == [("exited", "a")])
        assert link.instance is None
        server.listing()
        await until(lambda: link.instance == "i1")
        assert recorder.told[-1] == ("connected", "i1")
    server.close()


async def test_a_broken_link_is_made_again(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    async with linked(tmp_path) as (link, recorder):
        for instance in ("i1", "i2"):
            count = len(server.channels)
            await until(lambda count=count: server.frames and len(server.channels) >= max(count, 1))
            server.hello(instance=instance)
            server.listing()
            await until(lambda instance=instance: link.instance == instance)
            server.frames.clear()
            server.channels[-1].close()
            await until(lambda: link.instance is None)
            await until(lambda: server.frames)
        assert [told for told, _ in recorder.told] == ["connected", "disconnected", "connected", "disconnected"]
    server.close()


@pytest.mark.parametrize("first", ["another protocol", "listing before hello"])
async def test_an_executor_that_breaks_the_protocol_is_left(tmp_path: Path, first: str) -> None:
    server = FakeServer(tmp_path)
    async with linked(tmp_path) as (link, recorder):
        await until(lambda: len(server.frames) >= 2)
        if first == "another protocol":
            server.hello(proto=99)
        server.listing()
        await until(lambda: recorder.told)
        assert recorder.told[0] == ("disconnected", None)
        assert link.instance is None
    server.close()


async def test_an_executor_of_another_protocol_is_named_once_and_asked_seldom(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = FakeServer(tmp_path)
    async with linked(tmp_path):
        end = anyio.current_time() + 0.7
        answered = 0
        while anyio.current_time() < end:
            if len(server.channels) > answered:
                answered = len(server.channels)
                server.hello(proto=99)
            await anyio.sleep(0.002)
    server.close()
    assert 2 <= answered <= 7
    assert [record.getMessage() for record in caplog.records if record.name == link_module.__name__] == [
        "no link to the executor can be made: the executor speaks protocol 99, this server 1"
    ]


def test_no_socket_left_to_connect_with_is_an_error_of_the_executor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_arguments: object) -> socket.socket:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr("sysadmd.executor.channel.socket.socket", refuse)
    with pytest.raises(ExecutorError, match="Too many open files"):
        protocol.connect(tmp_path / "executor.sock")


async def test_silence_after_the_connection_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "HANDSHAKE", 0.05)
    server = FakeServer(tmp_path)
    async with linked(tmp_path):
        await until(lambda: len(server.channels) >= 2)
    server.close()


async def test_an_executor_of_another_user_is_told_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    uids = iter([54321, 54321])
    monkeypatch.setattr(link_module, "peer_uid", lambda sock: next(uids, os.geteuid()))
    server = FakeServer(tmp_path)
    async with linked(tmp_path):
        await until(lambda: bool(server.frames))
    # The two that were another's got no byte; the third is ours.
    assert len(server.channels) == 3
    assert [channel.closed for channel in server.channels[:2]] == [True, True]
    assert caplog.text.count("uid 54321 listens at") == 1
    server.close()


async def test_nothing_is_sent_and_no_descriptor_leaks_while_the_link_is_down(tmp_path: Path) -> None:
    link = ExecutorLink(protocol.socket_path(tmp_path))
    ours, theirs = socket.socketpair()
    assert not link.start(Start(attempt="a", lease="l", argv=["x"]), ours.detach())
    assert theirs.recv(1) == b""
    theirs.close()
    assert not link.signal("a", "kill")
    link.acknowledge(["a"])


async def test_an_executor_is_launched_where_none_answers_but_not_again_and_again(tmp_path: Path) -> None:
    launches: list[int] = []

    def launch() -> None:
        launches.append(1)
        raise ExecutorError("no")

    async with linked(tmp_path, launch=launch):
        await anyio.sleep(0.3)
    assert launches == [1]


async def test_a_frame_that_is_too_large_is_the_callers_error(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    async with linked(tmp_path) as (link, _):
        await until(lambda: len(server.frames) == 2)
        server.hello()
        server.listing()
        await until(lambda: link.instance)
        ours, theirs = socket.socketpair()
        with pytest.raises(ExecutorError, match="above the limit"):
            link.start(Start(attempt="a", lease="l", argv=["x" * protocol.FRAME_LIMIT]), ours.detach())
        assert theirs.recv(1) == b""
        theirs.close()
        assert link.instance == "i1"
    server.close()


async def test_verdicts_find_the_questions_they_answer(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    async with linked(tmp_path) as (link, _):
        await server.up(link, "pam")
        zoe, max_ = (asyncio.ensure_future(link.authenticate(name, "sesame")) for name in ("zoe", "max"))
        await until(lambda: len(server.frames) == 4)
        asked = server.frames[2:]
        assert [(frame.user, frame.password) for frame in asked] == [("zoe", "sesame"), ("max", "sesame")]
        server.channels[-1].send(Authenticated(request=999, ok=True, uid=1))
        server.channels[-1].send(Authenticated(request=asked[1].request, ok=False))
        server.channels[-1].send(Authenticated(request=asked[0].request, ok=True, uid=4001, groups=["wheel"]))
        assert (await zoe).uid == 4001
        assert not (await max_).ok
    server.close()


async def test_an_executor_without_the_feature_is_not_asked(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    async with linked(tmp_path) as (link, _):
        with pytest.raises(Unavailable):
            await link.authenticate("zoe", "sesame")
        await server.up(link)
        with pytest.raises(Unavailable):
            await link.authenticate("zoe", "sesame")
        assert link.instance == "i1"
        assert not [frame for frame in server.frames if isinstance(frame, Authenticate)]
    server.close()


async def test_a_question_ends_with_its_link(tmp_path: Path) -> None:
    server = FakeServer(tmp_path)
    async with linked(tmp_path) as (link, _):
        await server.up(link, "pam")
        zoe = asyncio.ensure_future(link.authenticate("zoe", "sesame"))
        await until(lambda: len(server.frames) == 3)
        server.channels[-1].close()
        with pytest.raises(Unavailable):
            await zoe
    server.close()


async def test_a_question_that_nobody_answers_ends_at_its_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(password_checks, "DEADLINE", 0.05)
    server = FakeServer(tmp_path)
    async with linked(tmp_path) as (link, _):
        await server.up(link, "pam")
        with pytest.raises(Unavailable, match="in time"):
            await link.authenticate("zoe", "sesame")
    server.close()


async def test_a_busy_executor_and_too_many_questions_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(password_checks, "WAITING", 1)
    server = FakeServer(tmp_path)
    async with linked(tmp_path) as (link, _):
        await server.up(link, "pam")
        zoe = asyncio.ensure_future(link.authenticate("zoe", "sesame"))
        await until(lambda: len(server.frames) == 3)
        with pytest.raises(TooManyRequests):
            await link.authenticate("max", "sesame")
        server.channels[-1].send(Authenticated(request=server.frames[2].request, ok=False, reason="busy"))
        with pytest.raises(TooManyRequests):
            await zoe
    server.close()
