"""One connection at a bridge: who it is, what it said, and what waits for it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from sysadmd.auth.challenge import Challenge
from sysadmd.auth.prefix import prefix_of
from sysadmd.bridge.allowance import Meter
from sysadmd.bridge.pairing import Role
from sysadmd.wire.relay import connection_id

ADDRESS_BYTES = 41
"""A connection's id and the newline behind it, which is how each frame to it begins."""


class Wire(Protocol):
    """The connection under a peer."""

    paused: bool
    """Whether it takes no more for now; what is written all the same piles up."""

    def writes(self) -> bool:
        """Whether it is open."""

    def write(self, data: bytes) -> None:
        """Write finished frames."""

    def read_on(self, *, wanted: bool) -> None:
        """Read, or leave what comes to the kernel."""

    def admitted(self, size: int) -> None:
        """The peer is logged in: messages may have `size` bytes from now on."""

    def wake(self) -> None:
        """There is a proof to check."""

    def beat(self) -> None:
        """Ask for a sign of life."""

    def end(self, code: int, reason: str) -> None:
        """Begin the closing handshake."""

    def abort(self) -> None:
        """Drop the connection at once."""

    def progress(self) -> tuple[int, int]:
        """Numbers that change while the peer reads."""


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """A connection as an administrator sees it. `connected`: Unix seconds; `paired`: ids; sizes in bytes."""

    id: str
    nick: str
    key: str
    role: Role
    hostname: str
    address: str
    classic: bool
    connected: float
    paired: list[str]
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    queued: int


@dataclass(frozen=True, slots=True)
class Proof:
    """An answer to a challenge, to be looked at. `challenge` is None where there was none, or it is over."""

    id: Any
    challenge: str | None
    answer: Mapping[str, Any]


@dataclass(slots=True, eq=False)
class Peer:
    """One connection. It is logged in once it has a `key`.

    `seen` is what a silent peer had taken when it was last looked at, and `taking` is when that was more than before.
    `frames` counts those before the log-in, `cost` is what its latest frames count for. `partners` are those it is
    paired with, by how a frame to them begins, and `told` when it was told of them last (on the loop's clock).
    `parts` are pieces of frames that go out with the next turn of the loop, `backlog` is what the socket did not take,
    and `queued` the bytes of both and of what is in the transport while that takes no more. `held` counts the reasons
    not to read, `holding` are those who are not read because of this one.
    """

    wire: Wire
    address: str
    classic: bool
    meter: Meter
    connected: float
    heard: float
    pinged: float = 0.0
    seen: tuple[int, int] = (0, 0)
    taking: float = 0.0
    id: str = field(default_factory=connection_id)
    head: bytes = b""
    prefix: str = ""

    role: Role = "client"
    identified: bool = False
    details: bool = False
    hostname: str = ""
    key: str = ""
    nick: str = ""
    checksums: frozenset[str] | None = None
    challenge: Challenge | None = None
    proof: Proof | None = None
    failures: int = 0
    frames: int = 0
    cost: int = 0

    partners: dict[bytes, Peer] = field(default_factory=dict)
    announced: int | None = None
    told: float = float("-inf")
    due: bool = False

    parts: list[bytes | memoryview] = field(default_factory=list)
    backlog: deque[bytes] = field(default_factory=deque)
    queued: int = 0
    handed: int = 0
    backlogged: int = 0
    dirty: bool = False
    held: int = 0
    holding: set[Peer] = field(default_factory=set)
    watch: asyncio.TimerHandle | None = None
    gone: bool = False

    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0

    def __post_init__(self) -> None:
        self.head = f"{self.id}\n".encode("ascii")
        self.prefix = prefix_of(self.address)
        assert len(self.head) == ADDRESS_BYTES

    def info(self) -> PeerInfo:
        """What it is now."""
        return PeerInfo(
            id=self.id,
            nick=self.nick,
            key=self.key,
            role=self.role,
            hostname=self.hostname,
            address=self.address,
            classic=self.classic,
            connected=self.connected,
            paired=sorted(partner.id for partner in self.partners.values()),
            messages_in=self.messages_in,
            messages_out=self.messages_out,
            bytes_in=self.bytes_in,
            bytes_out=self.bytes_out,
            queued=self.queued,
        )
