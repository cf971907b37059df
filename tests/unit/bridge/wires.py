"""Peers without sockets: what a bridge writes to one is kept, message by message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from websockets.frames import Frame
from websockets.protocol import Protocol, Side

from sysadmd.bridge.exchange import Exchange
from sysadmd.bridge.peer import Peer
from sysadmd.bridge.roster import Roster
from sysadmd.keys.signing import PublicKey
from sysadmd.limits import Limits

KEYS = "bridge_request_list_keys"
IDENT = "sysadm_bridge_request_ident"


@dataclass(frozen=True)
class Entry:
    nick: str
    public: PublicKey


@dataclass
class Ring:
    keys: dict[str, Entry] = field(default_factory=dict)

    def current(self) -> Mapping[str, Entry]:
        return dict(self.keys)


class FakeWire:
    """Takes everything, unless it is `paused`; then what is written is kept all the same, as a transport does. With
    `pauses` every write is one too many.
    """

    def __init__(self) -> None:
        self.paused = False
        self.pauses = False
        self.open = True
        self.reading = True
        self.size = 0
        self.woken = 0
        self.beats = 0
        self.moved = 0
        self.ended: tuple[int, str] | None = None
        self.aborted = False
        self.writes_done: list[bytes] = []
        self._client = Protocol(Side.CLIENT, max_size=None)

    def writes(self) -> bool:
        return self.open

    def write(self, data: bytes) -> None:
        assert self.open
        self.writes_done.append(data)
        self._client.receive_data(data)
        self.paused = self.paused or self.pauses

    def read_on(self, *, wanted: bool) -> None:
        assert self.reading is not wanted
        self.reading = wanted

    def reads(self) -> bool:
        return self.reading

    def admitted(self, size: int) -> None:
        self.size = size

    def wake(self) -> None:
        self.woken += 1

    def beat(self) -> None:
        self.beats += 1

    def end(self, code: int, reason: str) -> None:
        self.ended, self.open = (code, reason), False

    def abort(self) -> None:
        self.aborted = True

    def progress(self) -> tuple[int, int]:
        return 0, self.moved

    def took(self) -> list[str]:
        """The messages that came since the last time."""
        events = self._client.events_received()
        return [bytes(event.data).decode() for event in events if isinstance(event, Frame)]


class Rig:
    """A bridge without sockets. Used inside a running loop."""

    def __init__(self, **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.ring = Ring()
        self.exchange = Exchange(self.ring, hostname="b", limits=lambda: self.limits)

    @property
    def roster(self) -> Roster:
        return self.exchange.roster

    def open(self, *, classic: bool = False, address: str = "192.0.2.1") -> tuple[Peer, FakeWire]:
        wire = FakeWire()
        return self.exchange.open(wire, address, classic=classic), wire

    def peer(
        self, role: str = "client", *checksums: str, classic: bool = False, key: str = "key", details: bool = False
    ) -> tuple[Peer, FakeWire]:
        """One that is logged in and has told its list, without a proof."""
        peer, wire = self.open(classic=classic)
        self.say(peer, "response", {"type": role, "hostname": "h", "details": details}, IDENT)
        assert self.exchange.roster.admit(peer, key, f"nick of {key}")
        self.say(peer, "response", {"md5_keys": list(checksums)}, KEYS)
        return peer, wire

    def pair(self, *, classic: bool = False) -> tuple[Peer, FakeWire, Peer, FakeWire]:
        """A server and a client that may talk; what was said for that is read."""
        server, server_wire = self.peer("server", "k", classic=classic)
        client, client_wire = self.peer("client", "k", classic=classic)
        self.settle()
        server_wire.took()
        client_wire.took()
        return server, server_wire, client, client_wire

    def say(self, peer: Peer, name: str, args: Any = "", id: Any = "q1", namespace: str = "rpc") -> None:
        frame = {"args": args, "id": id, "name": name, "namespace": namespace}
        self.receive(peer, json.dumps(frame))

    def receive(self, peer: Peer, *frames: str | bytes) -> None:
        """What one read of the peer's socket gave."""
        payloads = [frame if isinstance(frame, bytes) else frame.encode() for frame in frames]
        self.exchange.received(peer, payloads, sum(map(len, payloads)))

    def relay(self, sender: Peer, to: str, payload: str) -> None:
        self.receive(sender, f"{to}\n{payload}")

    def settle(self) -> None:
        """As if time had passed: everybody who reads is told what is due, and all is written."""
        while any(peer.gone or not (peer.due and peer.wire.paused) for peer in self.exchange.roster._due):
            self.exchange.roster._announce_some()
        self.exchange.switch._flush()
