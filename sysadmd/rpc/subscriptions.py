"""The subscriptions of one session.

Two forms share one mechanism. The seed's form (a topic or a list of topics) has one subscription for each topic and
dialect, so that subscribing twice delivers once and one unsubscribe ends it. The extended form (an object) makes a
subscription of its own, with an id, its own filter, policy and resume token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sysadmd.auth.scope import Scope
from sysadmd.errors import TooManyRequests
from sysadmd.events.record import Draft, Record
from sysadmd.events.subscription import Subscription, SubscriptionSpec
from sysadmd.wire.messages import Dialect

if TYPE_CHECKING:
    from sysadmd.rpc.engine import Engine
    from sysadmd.rpc.session import Outlet

Key = tuple[str, str]
"""(topic, dialect) of the seed's form, ("#", id) of the extended one."""


class Subscriptions:
    """What one session listens to. False when it listens to nothing."""

    def __init__(self, engine: Engine, outlet: Outlet) -> None:
        self._engine, self._outlet = engine, outlet
        self._open: dict[Key, Subscription] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, scope: Scope, dialect: Dialect, topics: Sequence[str]) -> None:
        """Subscribe to topics in the seed's form; the last event of a replayed topic is written before this returns."""
        for topic in dict.fromkeys(topics):
            spec = SubscriptionSpec(topics=frozenset((topic,)), dialect=dialect, scope=scope, replay_last=True)
            self._replace((topic, dialect.name), spec)

    def add_extended(self, spec: SubscriptionSpec, snapshot: Sequence[Draft] = ()) -> str:
        """Open a subscription of the extended form; its id. What the scope shows of `snapshot` comes first."""
        number = 1
        while ("#", str(number)) in self._open:
            number += 1
        self._replace(("#", str(number)), spec, snapshot)
        return str(number)

    def remove(self, dialect: Dialect, topics: Sequence[str]) -> None:
        """Unsubscribe from topics in the seed's form."""
        for topic in topics:
            self._end((topic, dialect.name))

    def remove_extended(self, subscription_id: str) -> bool:
        """End a subscription of the extended form; whether there was one."""
        return self._end(("#", subscription_id))

    def rescope(self, scope: Scope) -> None:
        """Filter every subscription by another scope from now on."""
        for subscription in self._open.values():
            subscription.rescope(scope)

    def resume(self) -> None:
        """The outlet takes frames again."""
        for subscription in self._open.values():
            subscription.resume()

    def close(self) -> None:
        """End all of them."""
        for subscription in self._open.values():
            subscription.close()
        self._open.clear()

    def _replace(self, key: Key, spec: SubscriptionSpec, snapshot: Sequence[Draft] = ()) -> None:
        limit = self._engine.limits.subscriptions
        if not self._end(key) and len(self._open) >= limit:
            raise TooManyRequests(f"{limit} subscriptions are open on this connection")
        # Nothing runs between the snapshot and the subscription, so the two have no hole between them.
        self._write(spec, snapshot)
        self._open[key] = self._engine.events.subscribe(spec, self._outlet)

    def _write(self, spec: SubscriptionSpec, snapshot: Sequence[Draft]) -> None:
        events = self._engine.events
        group = events.group_of(spec, self._outlet.framing)
        for draft in snapshot:
            record = Record(events.head, draft.topic, draft.data, draft.time or events.now(), draft.permission)
            if group.sees(record) and (frame := group.render(record)):
                self._outlet.write(frame)

    def _end(self, key: Key) -> bool:
        subscription = self._open.pop(key, None)
        if subscription is not None:
            subscription.close()
        return subscription is not None
