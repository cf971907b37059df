"""A bridge that is not honest: it has the keys of every connection to itself, and tries what that gives it against a
client and a server of ours. It must learn nothing, change nothing and do nothing; ending a session is all it can.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sysadmd.client import AsyncClient
from sysadmd.client.errors import CallTimeout, ClientError, ConnectFailed, ConnectionLost
from sysadmd.keys.seal import Seal, SealError, SealingContext, sealing_context
from tests.integration.apps import LiveApp, running_app
from tests.integration.bridge_parties import Door, Person, admit, register, sealing_key
from tests.integration.originals import BridgePeer, OriginalBridge, Pair, envelope, until
from tests.integration.process_memory import occurrences

NAME = "alpha"
CREATE = {"action": "create", "name": "made"}


class Attacker(OriginalBridge):
    """Relays as it should, until `tamper` is set: a function from a payload and whether a client sent it to the
    payloads that arrive. `said` has what each client has sent to servers.
    """

    tamper: Callable[[str, bool], list[str]] | None = None

    def __init__(self, directory: Path, key: Pair | None = None) -> None:
        super().__init__(directory, key=key)
        self.said: list[str] = []
        self.relays: list[tuple[BridgePeer, BridgePeer]] = []

    async def relayed(self, sender: BridgePeer, receiver: BridgePeer, payload: str) -> list[str]:
        from_client = sender.role == "client"
        if from_client:
            self.said.append(payload)
            self.relays.append((sender, receiver))
        return [payload] if self.tamper is None else self.tamper(payload, from_client)

    def everything(self) -> bytes:
        """All frames of all connections."""
        return "\n".join(frame.text for peer in self.peers for frame in peer.frames).encode()

    @property
    def client(self) -> BridgePeer:
        return self.relays[-1][0]

    @property
    def server(self) -> BridgePeer:
        return self.relays[-1][1]

    async def forge(self, receiver: BridgePeer, sender: BridgePeer, payload: str) -> None:
        await receiver.send(f"{sender.id}\n{payload}")


@dataclass
class Scene:
    """A server of ours, an attacker, and somebody with a key. `pin` is the fingerprint of the server's key."""

    attacker: Attacker
    live: LiveApp
    person: Person
    pin: str

    def client(self, **options: Any) -> AsyncClient:
        return self.person.client(self.attacker, NAME, **{"pin": self.pin, **options})

    async def refused(self, **options: Any) -> ClientError:
        """The client does not come in, for this reason."""
        with pytest.raises(ClientError) as caught:
            async with self.client(**options) as client:
                await client.call("rpc/tokens/create", {"name": "canary"})
        return caught.value

    async def tokens(self) -> int:
        """How many tokens there are: each call that was carried out has made one."""
        async with self.live.connect() as admin:
            return len((await admin.call("rpc", "tokens", {"action": "list"}))["tokens"])

    def dropped(self, reason: str) -> int:
        """Frames that the server counted as dropped, for this reason."""
        return self.live.app.links.dropped()["office", reason]


@contextlib.asynccontextmanager
async def scene(directory: Path) -> AsyncIterator[Scene]:
    attacker = Attacker(directory)
    pin = sealing_key(directory / "state").public
    admit(attacker, NAME, pin.pem)
    person = Person.make(directory, "ann", attacker)
    async with attacker.serving():
        link = {"url": attacker.url, "ca": str(attacker.certificate)}
        async with running_app(directory, node=NAME, bridges={"office": link}) as live:
            async with live.connect() as admin:
                await register(admin, person.key.pem)
            yield Scene(attacker, live, person, pin.fingerprint)


def is_data(payload: str) -> bool:
    return payload.startswith("~")


# Before the session


async def test_whoever_answers_with_another_certificate_than_the_bridge_s_is_told_nothing(tmp_path: Path) -> None:
    """Neither by a client nor by a server, whose first word would be a request for a challenge."""
    genuine = OriginalBridge(_directory(tmp_path, "genuine"))
    impostor = Attacker(_directory(tmp_path, "impostor"), Pair())
    person = Person.make(tmp_path, "ann", impostor)
    async with impostor.serving():
        door = Door(impostor.port, genuine.certificate)
        link = {"url": impostor.url, "ca": str(genuine.certificate)}
        async with running_app(tmp_path, node=NAME, bridges={"office": link}) as live:
            with pytest.raises(ConnectFailed, match="certificate"):
                async with person.client(door, NAME, "0" * 64):
                    pass
            await until(lambda: live.app.links.listed()[0].state == "refused")
    assert impostor.peers == []


async def test_a_server_that_is_said_to_have_another_key_gets_nothing(tmp_path: Path) -> None:
    other = sealing_context(_directory(tmp_path, "other"))
    async with scene(tmp_path) as it:
        it.attacker.tamper = lambda payload, _: [payload.replace(it.pin, other.fingerprint)]
        assert other.fingerprint in str(await it.refused())
        assert {json.loads(one)["name"] for one in it.attacker.said} == {"identify"}


async def test_a_server_that_is_said_to_have_no_key_gets_nothing(tmp_path: Path) -> None:
    def strip(payload: str, from_client: bool) -> list[str]:
        message = json.loads(payload)
        if not from_client:
            message["args"].pop("seal")
        return [json.dumps(message)]

    async with scene(tmp_path) as it:
        it.attacker.tamper = strip
        assert "cannot seal" in str(await it.refused())
        assert {json.loads(one)["name"] for one in it.attacker.said} == {"identify"}


async def test_the_question_for_the_key_that_does_not_arrive_ends_the_attempt(tmp_path: Path) -> None:
    def strip(payload: str, from_client: bool) -> list[str]:
        message = json.loads(payload)
        return [json.dumps({**message, "args": ""})] if from_client else [payload]

    async with scene(tmp_path) as it:
        it.attacker.tamper = strip
        assert "cannot seal" in str(await it.refused())


class Between:
    """Ends the client's TLS with a key of its own, and begins one with the server as if it were the client."""

    def __init__(self, attacker: Attacker, own: SealingContext, genuine: str | None) -> None:
        self.attacker, self.own, self.genuine = attacker, own, genuine
        self.to_client, self.to_server = Seal.server(own, max_message=2**20), Seal.client(lambda key: True)
        self.read: list[bytes] = []

    def __call__(self, payload: str, from_client: bool) -> list[str]:
        if payload.startswith("{"):
            shown = payload if self.genuine is None else payload.replace(self.genuine, self.own.fingerprint)
            return [shown]
        near, far = (self.to_client, self.to_server) if from_client else (self.to_server, self.to_client)
        if payload.startswith("!"):
            return [payload]
        with contextlib.suppress(SealError):
            for message in near.receive(payload.encode()):
                self.read.append(message)
                far.send(message)
            near.release()
        sender, receiver = self.attacker.relays[-1]
        client, server = sender, receiver
        for seal, to, of in ((self.to_client, client, server), (self.to_server, server, client)):
            for one in seal.outgoing():
                asyncio.get_running_loop().create_task(self.attacker.forge(to, of, one.decode()))
        return []


async def test_whoever_stands_between_with_another_key_gets_no_more_than_a_greeting(tmp_path: Path) -> None:
    """The right key is told, and another one is used."""
    async with scene(tmp_path) as it:
        between = Between(it.attacker, sealing_context(_directory(tmp_path, "own")), None)
        it.attacker.tamper = between
        assert between.own.fingerprint in str(await it.refused())
        assert len([one for one in it.attacker.said if not one.startswith("{")]) == 1
        assert between.read == []


async def test_a_proof_given_to_whoever_stands_between_is_no_good_at_the_server(tmp_path: Path) -> None:
    """A client that takes any key is at the mercy of the bridge, but for this: its proof names the certificate that
    it saw, so nobody can hand it on.
    """
    async with scene(tmp_path) as it:
        between = Between(it.attacker, sealing_context(_directory(tmp_path, "own")), it.pin)
        it.attacker.tamper = between
        await it.refused(pin=None, insecure=True)
        assert any(b'"signature"' in message for message in between.read)
        assert await it.tokens() == 0


# During the session


async def test_a_payload_that_comes_twice_ends_the_session_and_does_nothing_twice(tmp_path: Path) -> None:
    async with scene(tmp_path) as it, it.client() as client:
        await client.call("rpc/tokens/create", {"name": "first"})
        it.attacker.tamper = lambda payload, from_client: [payload] * (1 + (from_client and is_data(payload)))
        with contextlib.suppress(ConnectionLost):
            await client.call("rpc/tokens/create", {"name": "second"})
        await until(lambda: it.dropped("sealed: tls"))
        it.attacker.tamper = None
        assert await it.tokens() == 2


async def test_payloads_in_another_order_do_nothing(tmp_path: Path) -> None:
    held: list[str] = []

    def swap(payload: str, from_client: bool) -> list[str]:
        if not (from_client and is_data(payload)):
            return [payload]
        held.append(payload)
        return [held[1], held[0]] if len(held) == 2 else []

    async with scene(tmp_path) as it, it.client() as client:
        await client.call("rpc/tokens/create", {"name": "first"})
        it.attacker.tamper = swap
        calls = [asyncio.ensure_future(client.call("rpc/tokens/create", {"name": name})) for name in ("a", "b")]
        # Two calls at once may be one payload; then another one is what makes a pair.
        await asyncio.wait(calls, timeout=0.5)
        if len(held) < 2:
            calls.append(asyncio.ensure_future(client.call("rpc/tokens/create", {"name": "c"})))
        found = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(one, ConnectionLost) for one in found)
        it.attacker.tamper = None
        assert await it.tokens() == 1


@pytest.mark.parametrize("tamper", [lambda data: data[:-1] + bytes([data[-1] ^ 1]), lambda data: data + data])
async def test_a_payload_that_was_altered_ends_the_session(tmp_path: Path, tamper: Callable[[bytes], bytes]) -> None:
    async with scene(tmp_path) as it, it.client() as client:
        it.attacker.tamper = lambda payload, from_client: [
            _altered(payload, tamper) if from_client and is_data(payload) else payload
        ]
        with pytest.raises(ConnectionLost):
            await client.call("rpc/tokens/create", {"name": "altered"})
        await until(lambda: it.dropped("sealed: tls"))
        it.attacker.tamper = None
        assert await it.tokens() == 0


async def test_a_payload_that_is_lost_is_missed_with_the_next_one(tmp_path: Path) -> None:
    async with scene(tmp_path) as it, it.client() as client:
        it.attacker.tamper = lambda payload, from_client: [] if from_client else [payload]
        with pytest.raises(CallTimeout):
            await client.call("rpc/tokens/create", {"name": "lost"}, timeout=0.2)
        it.attacker.tamper = None
        with pytest.raises(ConnectionLost):
            await client.call("rpc/tokens/create", {"name": "next"})
        assert it.dropped("sealed: tls") == 1
        assert await it.tokens() == 0


async def test_a_session_that_is_played_again_is_nobody_s(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        async with it.client() as client:
            await client.call("rpc/tokens/create", {"name": "once"})
            client_peer, server_peer = it.attacker.client, it.attacker.server
            said = list(it.attacker.said)
            for payload in said:
                await it.attacker.forge(server_peer, client_peer, payload)
            await until(lambda: it.dropped("sealed: tls"))
        assert await it.tokens() == 1
        assert not [one for one in it.live.app.engine.sessions if one.peer.kind == "bridge" and one.scope is not None]


PLAIN = [
    envelope("rpc", "tokens", "x", CREATE),
    base64.b64encode(envelope("rpc", "tokens", "x", CREATE).encode()).decode(),
    json.dumps({"jsonrpc": "2.0", "id": "x", "method": "rpc/tokens/create", "params": {"name": "made"}}),
]


async def test_plain_frames_in_the_name_of_a_client_that_is_logged_in_do_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as it, it.client() as client:
        for payload in PLAIN:
            await it.attacker.forge(it.attacker.server, it.attacker.client, payload)
        await client.call("rpc/query")
        assert it.dropped("downgrade") == len(PLAIN)
        assert await it.tokens() == 0


async def test_plain_frames_after_the_session_was_ended_come_from_a_stranger(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        async with it.client():
            client, server = it.attacker.client, it.attacker.server
            await it.attacker.forge(server, client, envelope("rpc", "identify", "s", {"seal": 1}))
            before = len(client.frames)
            for payload in PLAIN:
                await it.attacker.forge(server, client, payload)
            await until(lambda: sum("401" in _clear(one.text) for one in client.frames[before:]) == len(PLAIN))
        assert await it.tokens() == 0


async def test_plain_frames_in_the_name_of_the_server_are_not_heard(tmp_path: Path) -> None:
    async with scene(tmp_path) as it, it.client() as client, client.events("dispatcher") as events:
        forged = {"namespace": "events", "name": "dispatcher", "id": "none", "args": {"state": "forged"}}
        answers = [{"namespace": "rpc", "name": "response", "id": f"{n}", "args": {"forged": n}} for n in range(20)]
        task = asyncio.ensure_future(client.call("rpc/query"))
        for message in (forged, *answers):
            text = json.dumps(message)
            for payload in (text, base64.b64encode(text.encode()).decode()):
                for sender, receiver in it.attacker.relays[:1] + it.attacker.relays[-1:]:
                    await it.attacker.forge(sender, receiver, payload)
        assert "forged" not in json.dumps(await task)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(aiter(events))


async def test_the_bridge_reads_nothing_of_a_session_that_it_relays(tmp_path: Path) -> None:
    async with scene(tmp_path) as it:
        async with it.client() as client:
            made = await client.call("rpc/tokens/create", {"name": "canary-in-a-call"})
        frames = it.attacker.everything()
        assert it.pin.encode() in frames
        for secret in ("canary-in-a-call", made["token"], "tokens"):
            assert not occurrences(secret, frames), secret


def _directory(parent: Path, name: str) -> Path:
    made = parent / name
    made.mkdir(mode=0o700)
    return made


def _altered(payload: str, tamper: Callable[[bytes], bytes]) -> str:
    return "~" + base64.b64encode(tamper(base64.b64decode(payload[1:]))).decode()


def _clear(text: str) -> str:
    _, _, payload = text.partition("\n")
    with contextlib.suppress(ValueError):
        return base64.b64decode(payload, validate=True).decode()
    return payload
