"""A stream of events that survives its connections.

Each stream has a connection of its own and reads it in its consumer's task: nothing is read that nobody waits for. So
the bound of the queue is not ours to keep: a consumer that is slow stops reading, TCP stops the server, the server's
bounded queue fills, and what does not fit is told as one `gap` event, never lost in silence. Sharing the calls'
connection instead would let a slow consumer of events delay the reply to every call.

When the connection breaks, the stream connects again, waiting longer each time, and asks for what it has not seen by
the (epoch, seq) of the last event. What the server no longer has comes as a `gap` event too.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from sysadmd.backoff import Backoff
from sysadmd.client.channel import Channel, result_of
from sysadmd.client.errors import CallTimeout, ClientError, ConnectFailed, ConnectionLost
from sysadmd.wire.messages import EventMessage
from sysadmd.wire.topics import hyphenated

EARLY_EVENTS = 4096
"""Events kept while waiting for the reply to the subscription: the server replays before it replies."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `args` is its payload in the documented form; `(epoch, seq)` is its resume token; `time` is Unix
    seconds.
    """

    topic: str
    args: Any
    epoch: str
    seq: int
    time: float
    node: str


@dataclass(frozen=True, slots=True)
class Interest:
    """What a stream asks for. `since` is `(epoch, seq)` of the last event already seen."""

    topics: tuple[str, ...]
    since: tuple[str, int] | None = None
    filter: Mapping[str, Any] | None = None
    policy: str | None = None
    snapshot: bool = False

    def request(self, since: tuple[str, int] | None) -> dict[str, Any]:
        """The args of `events/subscribe`, in the extended form."""
        args: dict[str, Any] = {"topics": list(self.topics)}
        if since is not None:
            args["since"] = {"epoch": since[0], "seq": since[1]}
        if self.filter:
            args["filter"] = dict(self.filter)
        if self.policy:
            args["policy"] = self.policy
        if self.snapshot:
            args["snapshot"] = True
        return args

    def names(self) -> list[str]:
        """The args for an original server, which takes the names of topics and nothing else. Raises `ClientError` when
        there is more.
        """
        if self.since or self.filter or self.policy or self.snapshot:
            raise ClientError("an original server has neither past events nor filters, policies and snapshots")
        return [hyphenated(topic) for topic in self.topics]


class EventStream(AsyncIterator[Event]):
    """Events, one after the other. Use `async with client.events(...) as stream: async for event in stream`.

    `async for` without `async with` works as well; the connection is then closed with the client. Raises `AuthFailed`,
    `RemoteError` when the subscription is refused, and without `reconnect` also `ConnectionLost`.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Channel]],
        interest: Interest,
        *,
        timeout: float,
        reconnect: bool = True,
        backoff: Backoff | None = None,
    ) -> None:
        self._connect, self._interest, self._timeout = connect, interest, timeout
        self._reconnect, self._backoff = reconnect, backoff or Backoff()
        self._closed = False
        self._channel: Channel | None = None
        self._request_id: str | None = None
        self._early: deque[Event] = deque()
        self.last = interest.since
        """(epoch, seq) up to which everything was given out: the `since` of a later stream."""
        self.reconnects = 0

    async def open(self) -> None:
        """Connect, subscribe and wait for the server's consent. Fails at once: only later losses are repaired."""
        try:
            await self._subscribe()
        except ConnectionLost as error:
            await self._disconnect()
            raise ConnectFailed(str(error)) from error
        except BaseException:
            await self._disconnect()
            raise

    async def aclose(self) -> None:
        """End the stream; whoever waits for its next event learns that there is none. Idempotent."""
        self._closed = True
        self._early.clear()
        await self._disconnect()

    async def __anext__(self) -> Event:
        while not self._closed:
            try:
                event = await self._next()
            except ConnectionLost:
                await self._disconnect()
                if not (self._reconnect or self._closed):
                    raise
                await self._resume()
                continue
            self._seen(event)
            return event
        raise StopAsyncIteration

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _resume(self) -> None:
        """Connect again until it works. A refusal (log-in, subscription) is final; a server that is away is not."""
        attempt = 0
        while not self._closed:
            await asyncio.sleep(self._backoff.delay(attempt))
            try:
                await self._subscribe()
            except (ConnectFailed, ConnectionLost, CallTimeout):
                await self._disconnect()
                attempt += 1
            else:
                self.reconnects += 1
                return

    async def _disconnect(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await channel.aclose()

    async def _subscribe(self) -> None:
        channel = self._channel = await self._connect()
        wanted = self._interest.names() if channel.in_clear else self._interest.request(self.last)
        self._request_id = await channel.send("events/subscribe", wanted)
        try:
            async with asyncio.timeout(self._timeout):
                while not self._consented() and len(self._early) < EARLY_EVENTS:
                    event = await self._receive(channel)
                    if event is not None:
                        self._early.append(event)
        except TimeoutError as error:
            raise CallTimeout(f"events/subscribe: no reply within {self._timeout:g} s") from error

    def _consented(self) -> bool:
        return self._request_id is None

    async def _next(self) -> Event:
        if self._channel is None and not self._early:
            await self.open()
        while True:
            if self._early:
                return self._early.popleft()
            if self._channel is None:
                raise ConnectionLost("the stream is closed")
            event = await self._receive(self._channel)
            if event is not None:
                return event

    async def _receive(self, channel: Channel) -> Event | None:
        message = await channel.receive()
        if isinstance(message, EventMessage):
            return _event_of(message)
        if message.id == self._request_id:
            self._request_id = None
            self._start_from(result_of(message))
        return None

    def _seen(self, event: Event) -> None:
        """Advance the resume token; the last event of a topic that a snapshot repeats may be older than it."""
        if event.epoch and not (self.last and self.last[0] == event.epoch and self.last[1] >= event.seq):
            self.last = (event.epoch, event.seq)

    def _start_from(self, consent: Any) -> None:
        """Until the first event, the server's own position is where to resume."""
        if self.last is None and isinstance(consent, dict):
            epoch, seq = consent.get("epoch"), consent.get("seq")
            if isinstance(epoch, str) and isinstance(seq, int):
                self.last = (epoch, seq)


def _event_of(message: EventMessage) -> Event:
    meta = message.meta
    if meta is None:
        return Event(message.topic, message.args, "", 0, 0.0, "")
    return Event(message.topic, message.args, meta.epoch, meta.seq, meta.time, meta.node)
