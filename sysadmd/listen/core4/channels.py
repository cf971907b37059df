"""What one event socket listens to: a subscription for each channel, made and ended one by one.

An interest replaces the one before it, but a channel that is in both goes on undisturbed: what waits for a slow reader
is not lost because it asked for one channel more.

`queue` has two subscriptions. Events of jobs are all wanted: too many that wait end the socket. Of summaries the newest
is enough. Everybody who may open the socket may see both, whatever they may see elsewhere; whose jobs they are, they
see as their permissions say.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from sysadmd.auth.scope import Scope
from sysadmd.events.filter import Filter
from sysadmd.events.record import Draft
from sysadmd.events.subscription import SubscriptionSpec
from sysadmd.listen.core4.names import EVENT
from sysadmd.rpc.engine import CLOSE_POLICY, Engine
from sysadmd.rpc.session import Outlet
from sysadmd.rpc.subscriptions import Subscriptions
from sysadmd.wire.core4 import EVENTS, OWNED, QUEUE, SUMMARY
from sysadmd.wire.messages import Dialect

TOPICS = frozenset({"queue", "event"})
_OF_JOBS = Filter.parse({"event": list(EVENTS)})
_SUMMARIES = Filter.parse({"event": SUMMARY})


@dataclass(frozen=True, slots=True)
class Sight:
    """What the holder of a scope sees on an event socket: all of its topics, and the jobs that are theirs to read."""

    scope: Scope

    def may_see(self, topic: str) -> bool:
        """The permission for the socket is one for all of it."""
        return topic in TOPICS and EVENT.permits(self.scope, "read")

    def may_job(self, name: str, right: str) -> bool:
        """As everywhere."""
        return self.scope.may_job(name, right)


class Channels(Subscriptions):
    """The subscriptions of one event socket. `summary` tells what is in the queue now."""

    def __init__(
        self, engine: Engine, outlet: Outlet, scope: Scope, dialect: Dialect, summary: Callable[[], Sequence[Any]]
    ) -> None:
        super().__init__(engine, outlet)
        self._scope, self._dialect, self._summary = scope, dialect, summary
        self._channels: dict[str, tuple[str, ...]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The channels of the present interest."""
        return tuple(self._channels)

    def replace(self, names: Sequence[str], since: int | None = None) -> None:
        """Listen to these and to no others. With `since`, to all of them from the record after that seq on. The state
        of the queue comes at once, if it is among them. Raises TooManyRequests.
        """
        for name in [name for name in self._channels if since is not None or name not in names]:
            for one in self._channels.pop(name):
                self.remove_extended(one)
        for name in names:
            if name not in self._channels:
                self._channels[name] = self._subscribed(name, since)
            elif name == QUEUE:
                self.remove_extended(self._channels[name][1])
                self._channels[name] = (self._channels[name][0], self._summaries())

    def add_channel(self, name: str) -> None:
        """Listen to one more. Raises TooManyRequests."""
        self.replace([*self._channels, name])

    def rescope(self, scope: Scope) -> None:
        """Show what another scope may see; who may no longer listen at all is told so by the end of the socket."""
        self._scope = scope
        for subscription in self._open.values():
            subscription.rescope(Sight(scope))
        if not EVENT.permits(scope, "read"):
            self._outlet.close(CLOSE_POLICY, "the permission for the event socket was withdrawn")

    def close(self) -> None:
        """End all of them."""
        self._channels.clear()
        super().close()

    def _subscribed(self, name: str, since: int | None) -> tuple[str, ...]:
        if name == QUEUE:
            return self.add_extended(self._spec("queue", _OF_JOBS, since)), self._summaries()
        if name in OWNED:
            return ()
        return (self.add_extended(self._spec("event", Filter.parse({"channel": name}), since)),)

    def _summaries(self) -> str:
        rows = [msgspec.to_builtins(row) for row in self._summary()]
        now = Draft("queue", {"event": SUMMARY, "rows": rows}, durable=False)
        return self.add_extended(self._spec("queue", _SUMMARIES, None, policy="coalesce"), [now])

    def _spec(self, topic: str, wanted: Filter, since: int | None, *, policy: Any = "close") -> SubscriptionSpec:
        return SubscriptionSpec(
            topics=frozenset({topic}),
            dialect=self._dialect,
            scope=Sight(self._scope),
            extended=True,
            filter=wanted,
            since=None if since is None else (self._engine.events.epoch, since),
            policy=policy,
        )
