"""One connection to a bridge, without sockets: what is answered, and what ends it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from websockets.protocol import State

from sysadmd.bridge import line as module
from sysadmd.bridge.dial import LinkConnection
from sysadmd.bridge.guests import Guests
from sysadmd.bridge.line import Line, LinkEnded, LinkRefused
from sysadmd.keys.signing import AT_BRIDGE, PrivateKey, recover, verify
from sysadmd.limits import Limits

SHORT, LONG = "a" * 40, "b" * 200


class Wire:
    """A connection whose other end is the test; protocol and transport in one."""

    def __init__(self) -> None:
        self.inbox: asyncio.Queue[bytes] = asyncio.Queue()
        self.sent: list[bytes] = []
        self.writes = 0
        self.paused = False
        self.state = State.OPEN
        self.max_message_size = 0
        self.drained = 0
        self.protocol = self.transport = self
        self.on_writable: Any = None

    async def recv(self, decode: bool) -> bytes:
        return await self.inbox.get()

    async def drain(self) -> None:
        self.drained += 1
        self.paused = False

    def send_text(self, frame: bytes) -> None:
        self.sent.append(frame)

    def data_to_send(self) -> list[bytes]:
        return [b"frames"]

    def write(self, data: bytes) -> None:
        self.writes += 1


class Ears:
    """What the guests of a link would hear."""

    def __init__(self) -> None:
        self.announced: list[Any] = []
        self.frames: list[bytes] = []
        self.unreached: list[str] = []
        self.closed = False

    def announce(self, args: Any) -> None:
        self.announced.append(args)

    def receive(self, frame: bytes) -> None:
        self.frames.append(frame)

    def unreachable(self, peer: str) -> None:
        self.unreached.append(peer)

    def resume(self) -> None:
        pass

    def close(self) -> None:
        self.closed = True


class Bench:
    """A line that runs, and both of its ends."""

    def __init__(self, key: PrivateKey, limits: Limits) -> None:
        self.wire, self.ears, self.dropped = Wire(), Ears(), Counter[str]()
        self.checksums = ["c1", "c2", "c1"]
        self.logins = 0
        self.line = Line(
            cast("LinkConnection", self.wire),
            node="vault",
            key=key,
            limits=lambda: limits,
            checksums=lambda: self.checksums,
            dropped=self.dropped,
            logged_in=self._count,
        )
        self.end: asyncio.Task[None]

    def _count(self) -> None:
        self.logins += 1

    async def say(self, *frames: Any) -> list[Any]:
        """Send frames as the bridge, and give what is answered."""
        for frame in frames:
            self.wire.inbox.put_nowait(frame if isinstance(frame, bytes) else json.dumps(frame).encode())
        return await self.answers()

    async def answers(self) -> list[Any]:
        for _ in range(20):  # turns of the loop, in which nothing waits for time
            await asyncio.sleep(0)
        sent = [json.loads(frame) for frame in self.wire.sent]
        self.wire.sent.clear()
        return sent

    async def log_in(self) -> None:
        await self.say(login({"test_string": LONG}), login(["token", 900]))
        async with asyncio.timeout(10):
            while not self.line.logged_in:  # the proof is made in a thread
                await asyncio.sleep(0.002)
        await self.answers()

    async def ending(self) -> LinkEnded:
        async with asyncio.timeout(10):
            with pytest.raises(LinkEnded) as ended:
                await self.end
        return ended.value


def login(args: Any, name: str = "response") -> dict[str, Any]:
    return {"args": args, "id": "server_to_bridge_auth", "name": name, "namespace": "rpc"}


def request(namespace: str, name: str, args: Any = "", id: Any = "q") -> dict[str, Any]:
    return {"args": args, "id": id, "name": name, "namespace": namespace}


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return PrivateKey.generate()


@asynccontextmanager
async def bench(key: PrivateKey, **limits: Any) -> AsyncIterator[Bench]:
    it = Bench(key, Limits(**limits))
    it.end = asyncio.create_task(it.line.run(cast("Guests", it.ears)))
    try:
        assert await it.answers() == [request("rpc", "auth_ssl", "", "server_to_bridge_auth")]
        yield it
    finally:
        it.end.cancel()
        await asyncio.wait([it.end])


async def test_who_we_are_is_told_at_any_time(key: PrivateKey) -> None:
    async with bench(key) as it:
        (answer,) = await it.say(request("rpc", "identify", "", "sysadm_bridge_request_ident"))
        assert answer == {
            "args": {"hostname": "vault", "type": "server", "details": True},
            "id": "sysadm_bridge_request_ident",
            "name": "response",
            "namespace": "rpc",
        }


async def test_an_original_bridge_gets_the_proof_that_it_knows(key: PrivateKey) -> None:
    from base64 import b64decode

    async with bench(key) as it:
        answers = await it.say(login({"test_string": SHORT}))
        while not answers:
            answers = await it.answers()
        assert recover(key.public.pem, b64decode(answers[0]["args"]["encrypted_string"])) == SHORT.encode()


async def test_a_bridge_of_ours_gets_a_proof_that_no_server_takes(key: PrivateKey) -> None:
    from base64 import b64decode

    async with bench(key) as it:
        answers = await it.say(login({"test_string": LONG}))
        while not answers:
            answers = await it.answers()
        proof = answers[0]["args"]
        assert proof["key"] == key.public.fingerprint
        assert verify(key.public.pem, proof["algorithm"], LONG, b64decode(proof["signature"]), AT_BRIDGE)


@pytest.mark.parametrize("challenge", ["", "no blanks", "x" * 201, "-" * 40])
async def test_what_is_no_challenge_is_not_signed(key: PrivateKey, challenge: str) -> None:
    async with bench(key) as it:
        await it.say(login({"test_string": challenge}))
        assert isinstance(await it.ending(), LinkRefused)
        assert it.ears.closed


async def test_a_second_challenge_is_not_signed(key: PrivateKey) -> None:
    async with bench(key) as it:
        await it.say(login({"test_string": LONG}), login({"test_string": LONG}))
        assert isinstance(await it.ending(), LinkRefused)


async def test_a_token_without_a_challenge_logs_nobody_in(key: PrivateKey) -> None:
    async with bench(key) as it:
        await it.say(login(["token", 900]))
        assert isinstance(await it.ending(), LinkRefused)
        assert it.logins == 0


@pytest.mark.parametrize(
    "args,words", [("unauthorized", "unauthorized"), ({"code": 401, "message": "who?"}, "who?"), ("a\nb" * 99, "anb")]
)
async def test_a_refusal_is_told_in_one_line(key: PrivateKey, args: Any, words: str) -> None:
    async with bench(key) as it:
        await it.say(login(args, "error"))
        text = str(await it.ending())
        assert words in text.replace("\\", "")
        assert "\n" not in text
        assert len(text) < 600


async def test_a_bridge_that_says_nothing_is_left(key: PrivateKey) -> None:
    async with bench(key, auth_timeout=0.2) as it:
        assert str(await it.ending()) == "no log-in within 0.2 s"


async def test_who_is_logged_in_has_no_deadline(key: PrivateKey) -> None:
    async with bench(key, auth_timeout=2.0) as it:
        await it.log_in()
        assert it.line._deadline is not None
        assert it.line._deadline.when() is None


async def test_the_keys_are_told_after_the_log_in_only(key: PrivateKey) -> None:
    async with bench(key) as it:
        ask = request("rpc", "settings", {"action": "list_ssl_checksums"}, "k")
        assert await it.say(ask) == []
        await it.log_in()
        (answer,) = await it.say(ask)
        assert (answer["id"], answer["args"]) == ("k", {"md5_keys": ["c1", "c2"]})


async def test_a_changed_list_has_the_id_of_the_question(key: PrivateKey) -> None:
    async with bench(key) as it:
        await it.log_in()
        it.checksums = ["c3"]
        it.line.tell_keys()
        (answer,) = await it.answers()
        assert (answer["id"], answer["args"]) == ("bridge_request_list_keys", {"md5_keys": ["c3"]})


async def test_nothing_is_heard_of_peers_before_the_log_in(key: PrivateKey) -> None:
    async with bench(key) as it:
        await it.say(request("events", "bridge", {"available_connections": ["a"]}, ""), b"a\nb")
        assert (it.ears.announced, it.ears.frames, it.dropped) == ([], [], {"before the log-in": 1})
        await it.log_in()
        await it.say(request("events", "bridge", {"available_connections": ["a"]}, ""), b"a\nb")
        assert (len(it.ears.announced), it.ears.frames) == (1, [b"a\nb"])


async def test_frames_are_large_after_the_log_in_only(key: PrivateKey) -> None:
    async with bench(key, frame_bridge=2**22) as it:
        assert it.wire.max_message_size == 0
        await it.log_in()
        assert it.wire.max_message_size == 2**22


async def test_one_beyond_the_frame_of_the_bridge_itself(key: PrivateKey, monkeypatch: pytest.MonkeyPatch) -> None:
    async with bench(key) as it:
        await it.log_in()
        event = {"args": {"available_connections": ["a" * 20]}, "id": "", "name": "bridge", "namespace": "events"}
        monkeypatch.setattr(module, "MAX_WORDS", len(json.dumps(event)))
        await it.say(event, {**event, "id": "x"})
        assert len(it.ears.announced) == 1
        assert it.dropped == {"oversize frame": 1}


async def test_a_peer_that_cannot_be_reached_is_told_on(key: PrivateKey) -> None:
    async with bench(key) as it:
        await it.log_in()
        error = {"code": 404, "message": "gone", "connection": "::{x}"}
        assert await it.say(request("rpc", "error", error, ""), request("rpc", "error", None, "")) == []
        assert it.ears.unreached == ["::{x}"]


async def test_answers_and_errors_are_not_answered(key: PrivateKey) -> None:
    """Two programs that answer each other's errors would never end."""
    async with bench(key) as it:
        await it.log_in()
        for message in (request("rpc", "response"), request("rpc", "error"), {}, {"name": 1}, {"namespace": "rpc"}):
            assert await it.say(message) == []
        assert await it.say(b"{", b"{]") == []
        assert it.dropped == {"malformed frame": 2}


async def test_every_other_request_is_refused(key: PrivateKey) -> None:
    async with bench(key) as it:
        await it.log_in()
        answers = await it.say(request("rpc", "query"), request("rpc", "settings", {"action": "list_ssl_certs"}))
        assert [one["args"]["code"] for one in answers] == [403, 403]
        assert it.dropped == {"request of the bridge": 2}


async def test_frames_of_one_turn_are_one_write(key: PrivateKey) -> None:
    async with bench(key) as it:
        before = it.wire.writes
        for _ in range(10):
            it.line.send(b"{}")
        await it.answers()
        assert it.wire.writes - before == 1


async def test_nothing_is_written_to_a_connection_that_ends(key: PrivateKey) -> None:
    async with bench(key) as it:
        it.wire.state = State.CLOSING
        it.line.send(b"{}")
        assert await it.answers() == []
        assert not it.line.writable()


async def test_nobody_is_read_while_the_link_cannot_be_written(key: PrivateKey) -> None:
    async with bench(key) as it:
        await it.log_in()
        it.wire.paused = True
        assert not it.line.writable()
        await it.say(b"a\nb")
        assert it.wire.drained == 1
