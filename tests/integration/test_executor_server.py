"""Servers that come, go, come back, take over, or are no servers at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import stat
import sys
from pathlib import Path

import pytest

from sysadmd.executor.frames import encode
from sysadmd.executor.protocol import (
    FRAME_LIMIT,
    PROTOCOL,
    Ack,
    AttemptLimits,
    Drain,
    ErrorFrame,
    Exit,
    List,
    ServerHello,
    Start,
    connect,
    socket_path,
)
from sysadmd.executor.service import ATTEMPTS_LIMIT, STRANGERS_LIMIT
from tests.integration.executor_rig import ENVIRONMENT, Rig, executor, until

needs_proc = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts descriptors in /proc")


async def test_hello_names_the_instance_the_boot_and_the_process(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server(hello=False) as server:
        hello = await server.hello()
        assert hello.proto == PROTOCOL
        assert hello.pid == rig.pid
        assert len(hello.instance) == 32
        assert hello.boot_id not in ("", "unknown")


async def test_the_socket_and_the_directories_are_the_owners_alone(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        paths = [rig.state, socket_path(rig.state), rig.state / "executor", rig.state / "executor" / "journal"]
        assert [stat.S_IMODE(path.stat().st_mode) & 0o077 for path in paths] == [0, 0, 0, 0]


async def test_an_attempt_runs_on_without_a_server_and_its_exit_waits(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        async with rig.server() as server:
            attempt = server.start("sh", "-c", "sleep 0.3; echo done")
            started = await server.started(attempt)
        await asyncio.sleep(0.5)
        async with rig.server() as again:
            ended = await again.exit(attempt)
            assert (ended.outcome, ended.time_started) == ("ok", started.time)
            assert (tmp_path / attempt).read_bytes() == b"done\n"


async def test_a_returning_server_finds_what_runs_and_what_ended(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        async with rig.server() as server:
            long = server.start("sleep", "60")
            started = await server.started(long)
            short = server.start("true")
            ended = await server.exit(short, ack=False)
        async with rig.server() as again:
            listing = await again.listing()
            assert (listing.running, listing.exits) == ([started], [ended])


async def test_an_exit_is_replayed_until_it_is_acknowledged(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        async with rig.server() as server:
            first = await server.exit(server.start("true"), ack=False)
        for _ in range(2):
            async with rig.server() as again:
                assert await again.expect(Exit) == first
        async with rig.server() as last:
            last.channel.send(Ack(first.attempt))
            assert (await last.listing()).exits == []
        async with rig.server() as after:
            await after.listing()
            assert not any(isinstance(frame, Exit) for frame in after.frames)


async def test_acknowledging_twice_or_nothing_is_harmless(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        attempt = server.start("true")
        await server.exit(attempt)
        server.channel.send(Ack(attempt))
        server.channel.send(Ack("never heard of"))
        await server.listing()
        assert not any(isinstance(frame, ErrorFrame) for frame in server.frames)


async def test_a_new_server_takes_over_and_the_old_one_is_told(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as old:
        attempt = old.start("sleep", "0.3")
        await old.started(attempt)
        async with rig.server() as new:
            assert (await old.error("replaced")).message == "another server took over"
            assert (await new.exit(attempt)).outcome == "ok"
            await until(lambda: bool(old.closed), "the old connection to be closed")
            assert not any(isinstance(frame, Exit) for frame in old.frames)


async def test_a_replaced_server_can_start_nothing_more(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as old, rig.server() as new:
        await old.error("replaced")
        with contextlib.suppress(Exception):
            old.start("touch", str(tmp_path / "from the old one"))
        await until(lambda: bool(old.closed), "the old connection to be closed")
        await new.run("true")
        assert not (tmp_path / "from the old one").exists()


async def test_a_server_of_another_protocol_may_look_but_not_start(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server(hello=False) as server:
        await server.hello(proto=PROTOCOL + 1)
        attempt = server.start("true")
        error = await server.error("protocol")
        assert error.attempt == attempt
        assert (await server.listing()).running == []


GARBAGE = {
    "text": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "a frame too large": (FRAME_LIMIT + 1).to_bytes(4, "big"),
    "bytes that are no JSON": b"\x00\x00\x00\x04\xff\xfe\xfd\xfc",
    "JSON that is no object": b"\x00\x00\x00\x02[]",
    "an unknown frame": b'\x00\x00\x00\x11{"frame":"fly me"}'[:21],
    "an empty frame": b"\x00\x00\x00\x00",
    "a wrong type": b'\x00\x00\x00\x1f{"frame":"hello","proto":"one"}',
    "deep nesting": (100_000).to_bytes(4, "big") + b"[" * 100_000,
    "no hello first": b'\x00\x00\x00\x10{"frame":"list"}',
}


@pytest.mark.parametrize("what", GARBAGE)
async def test_garbage_ends_its_own_connection_only(tmp_path: Path, what: str) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        with connect(socket_path(rig.state)) as stranger:
            stranger.setblocking(True)
            stranger.settimeout(10)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                stranger.sendall(GARBAGE[what])
                assert stranger.recv(1) == b""
        assert (await server.run("true"))[0].outcome == "ok"
        assert "connection of a stranger ended:" in rig.log()


async def test_a_start_without_its_descriptor_ends_the_connection(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        async with rig.server() as server:
            server.channel.send(Start(attempt="a", lease="", argv=["true"], env=ENVIRONMENT))
            await until(lambda: bool(server.closed), "the connection to be closed")
        async with rig.server() as again:
            assert (await again.run("true"))[0].outcome == "ok"
            assert "a frame came without its file descriptor" in rig.log()


async def settled(rig: Rig) -> int:
    """Its descriptors once it has worked: right after it answers it may still be opening what it always has."""
    async with rig.server() as server:
        await server.run("true")
        return rig.descriptors()


@needs_proc
async def test_descriptors_that_nobody_asked_for_are_closed(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        before = await settled(rig)
        with connect(socket_path(rig.state)) as stranger, contextlib.suppress(BrokenPipeError):
            for _ in range(100):
                socket.send_fds(stranger, [b"\x00"], [stranger.fileno()] * 200)
                await asyncio.sleep(0.02)
        await until(lambda: rig.descriptors() <= before, "the executor to close what it was sent")


@needs_proc
async def test_no_descriptor_leaks_over_many_connections_and_failures(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        before = await settled(rig)
        for _ in range(20):
            async with rig.server() as server:
                await server.run("true")
                await server.run("no-such-program")
                server.start("sleep", "0.01")  # its descriptor may be on the way when the connection ends
        await until(lambda: rig.descriptors() <= before, "the descriptors to be as many as before")


async def test_connections_that_say_nothing_are_bounded(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        strangers = [connect(socket_path(rig.state)) for _ in range(STRANGERS_LIMIT)]
        await server.listing()
        with connect(socket_path(rig.state)) as one_more:
            one_more.settimeout(10)
            assert one_more.recv(1) == b""
        for stranger in strangers:
            stranger.close()


async def test_a_server_that_never_reads_is_cut_off_and_the_attempts_live(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig:
        with connect(socket_path(rig.state)) as deaf:
            await flood(rig, deaf)
        async with rig.server() as server:
            assert len((await server.listing()).exits) >= 100
            assert "the other side does not read" in rig.log()


async def flood(rig: Rig, deaf: socket.socket) -> None:
    """Ask for listings of a hundred long exits until the executor has had enough."""
    async with rig.server() as server:
        for number in range(100):  # an exit of 1 KiB each: the message names the program
            await server.exit(server.start("x" * 4000, attempt=f"long{number}"), ack=False)
    request = b"".join(encode(frame) for frame in (ServerHello(PROTOCOL, "deaf"), *[List()] * 400))
    deaf.setblocking(True)
    deaf.settimeout(10)
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        deaf.sendall(request)
    await until(lambda: "the other side does not read" in rig.log(), "the executor to cut it off")


async def test_beyond_the_limit_of_attempts_a_start_is_refused_and_later_accepted(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        for number in range(ATTEMPTS_LIMIT):
            start = Start(attempt=str(number), lease="", argv=[""])
            server.channel.send(start, os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
        await server.exit(str(ATTEMPTS_LIMIT - 1), ack=False)
        one_more = server.start("true")
        assert (await server.error("full")).attempt == one_more
        server.channel.send(Ack("0"))
        server.start("true", attempt=one_more)
        assert (await server.exit(one_more)).outcome == "ok"


async def test_drain_refuses_new_starts_and_ends_when_nothing_runs(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        running = server.start("sleep", "0.5")
        await server.started(running)
        server.channel.send(Drain())
        refused = server.start("true")
        assert (await server.error("draining")).attempt == refused
        assert (await server.exit(running)).outcome == "ok"
        assert await rig.wait() == 0
        assert not socket_path(rig.state).exists()


async def test_a_drained_executor_keeps_what_nobody_acknowledged_for_the_next_one(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        ended = await server.exit(server.start("true"), ack=False)
        server.channel.send(Drain())
        assert await rig.wait() == 0
        await rig.launch()
        async with rig.server() as again:
            assert await again.expect(Exit) == ended


async def test_drain_of_an_idle_executor_ends_it_at_once(tmp_path: Path) -> None:
    async with executor(tmp_path) as rig, rig.server() as server:
        server.channel.send(Drain())
        assert await rig.wait() == 0


async def test_term_ends_attempts_with_term_then_kill_and_reports_them(tmp_path: Path) -> None:
    deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done"
    async with executor(tmp_path) as rig, rig.server() as server:
        polite = server.start("sleep", "60")
        stubborn = server.start("sh", "-c", deaf, limits=AttemptLimits(grace=0.3))
        await until(lambda: (tmp_path / stubborn).exists() and (tmp_path / stubborn).read_bytes() == b"ready\n")
        os.kill(rig.pid, signal.SIGTERM)
        first, second = await server.exit(polite, ack=False), await server.exit(stubborn, ack=False)
        assert (first.outcome, first.signal) == ("killed", signal.SIGTERM)
        assert (second.outcome, second.signal) == ("killed", signal.SIGKILL)
        assert first.message == "the executor was stopped"
        assert await rig.wait() == 0
        await rig.launch()
        async with rig.server() as again:
            assert {ended.attempt for ended in (await again.listing()).exits} == {polite, stubborn}
