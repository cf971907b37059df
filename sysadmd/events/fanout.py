"""Writing one record to a thousand sockets.

What a record costs must not be multiplied by its followers. Followers that would get the same bytes (same dialect,
meta, framing, scope, filter and topics) form a *group*: permission and filter are decided once for each group, a frame
is encoded once for each dialect and framing (for each scope too, where that takes something out of the record), and
what a group gathers in one turn of the loop is joined once. A follower costs one `writable` and one `write` for each
turn, whatever the number of records. Measured alternatives: a writer task for each follower reaches 0.73-0.89 of
`websockets.broadcast`, a queue for each that is flushed once a turn 1.2-1.5; groups keep that for single events and
gain most in bursts (docs/performance.md).

A follower that does not read leaves this path. Its records go to its own bounded queue (the frames themselves are still
shared) until its transport drains and its listener calls `resume`; nobody else notices.

A group is flushed when a turn ends, when its joined frames reach a piece, and before its members change, so that a new
member never sees records from before it came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Hashable, Iterable
from typing import Any

import msgspec

from sysadmd.events.catalogue import GAP
from sysadmd.events.filter import Filter
from sysadmd.events.record import Record
from sysadmd.events.subscription import PIECE, Framing, Subscription, SubscriptionSpec
from sysadmd.wire.masking import MASKED, masked
from sysadmd.wire.messages import Dialect, Meta

logger = logging.getLogger(__name__)

Item = tuple[int, bytes, str, str | None]
"""A frame that waits: seq, framed bytes, and topic and permission for a change of scope."""


class Form:
    """How a record is written: dialect, with meta or without, framing. Equal forms make equal bytes."""

    __slots__ = ("dialect", "epoch", "extended", "framing", "key", "node")

    def __init__(self, dialect: Dialect, framing: Framing, *, extended: bool, epoch: str, node: str) -> None:
        self.dialect, self.extended, self.framing, self.epoch, self.node = dialect, extended, framing, epoch, node
        self.key: Hashable = (dialect, extended, framing)

    def render(self, record: Record) -> bytes:
        """The framed messages of a record; b"" where the dialect has none, or fails on it (which is logged)."""
        meta = Meta(self.epoch, record.seq, record.time, self.node) if self.extended else None
        try:
            messages = self.dialect.event(record.topic, record.data, meta)
            return b"".join([self.framing(message, record) for message in messages])
        except Exception:
            logger.exception("record %d of topic %s cannot be written as %s", record.seq, record.topic, self.dialect)
            return b""


class Group:
    """Followers that get the same bytes, and the records that they get at the end of this turn."""

    __slots__ = ("_filter", "_jobs", "_scope", "form", "key", "members", "pending", "size", "topics")

    def __init__(self, key: Hashable, form: Form, spec: SubscriptionSpec) -> None:
        self.key, self.form = key, form
        self.topics = frozenset(topic for topic in spec.topics if spec.scope.may_see(topic))
        self.members: dict[Subscription, None] = {}
        self.pending: list[Item] = []
        self.size = 0
        self._scope = spec.scope
        self._filter: Filter | None = spec.filter
        self._jobs: dict[str, bool] = {}

    def permits(self, topic: str, permission: str | None) -> bool:
        """Whether the scope shows such records. A gap tells nothing, so everybody may know of it."""
        if topic not in self.topics:
            return topic == GAP
        if permission is None:
            return True
        known = self._jobs.get(permission)
        if known is None:
            known = self._jobs[permission] = self._scope.may_job(permission, "read")
        return known

    def sees(self, record: Record) -> bool:
        """Whether the record is wanted and permitted. A filter looks at no more than its follower may see."""
        if not self.permits(record.topic, None if record.topic in MASKED else record.permission):
            return False
        return self._filter is None or record.topic == GAP or self._filter.matches(self.shown(record).data)

    def shown(self, record: Record) -> Record:
        """What the scope shows of a record: itself, or a copy with less in it."""
        if record.topic not in MASKED:
            return record
        data = masked(record.data, self._may_read)
        return record if data is record.data else msgspec.structs.replace(record, data=data, permission=None)

    def render(self, record: Record) -> bytes:
        """The framed messages of a record for this group."""
        return self.form.render(self.shown(record))

    @property
    def sight(self) -> Hashable:
        """Groups with equal sight and equal form get equal bytes of every record."""
        return self._scope, self.form.key

    def _may_read(self, job: str) -> bool:
        return self._scope.may_job(job, "read")


class FanOut:
    """All groups, and the flush of those that gathered something in this turn of the loop."""

    def __init__(self, epoch: str, node: str) -> None:
        self._epoch, self._node = epoch, node
        self._groups: dict[Hashable, Group] = {}
        self._by_topic: dict[str, list[Group]] = {}
        self._dirty: dict[Group, None] = {}
        self._scheduled = False

    def __len__(self) -> int:
        return sum(len(group.members) for group in self._groups.values())

    def group_of(self, spec: SubscriptionSpec, framing: Framing) -> Group:
        """The group for such followers; a new one is known here only once somebody joins it."""
        form = Form(spec.dialect, framing, extended=spec.extended, epoch=self._epoch, node=self._node)
        key = (form.key, spec.scope, spec.filter, spec.topics)
        return self._groups.get(key) or Group(key, form, spec)

    def join(self, subscription: Subscription) -> None:
        """Make it a member of its group, from the next record on."""
        if (known := self._groups.get(subscription.group.key)) is not None:
            self._flush(known)
        # A flush can empty a group, since sinks that fail leave it: look again.
        group = subscription.group = self._groups.setdefault(subscription.group.key, subscription.group)
        if not group.members:
            for topic in group.topics:
                self._by_topic.setdefault(topic, []).append(group)
        group.members[subscription] = None

    def leave(self, subscription: Subscription) -> None:
        """End its membership, after what the group has gathered so far."""
        group = subscription.group
        if subscription not in group.members:
            return
        self._flush(group)
        # A sink that failed in this flush has left on its own account already.
        if group.members.pop(subscription, self) is None and not group.members:
            del self._groups[group.key]
            for topic in group.topics:
                self._by_topic[topic].remove(group)
                if not self._by_topic[topic]:
                    del self._by_topic[topic]

    def deliver(self, record: Record) -> None:
        """Hand a record to every group that may see and wants it; the bytes leave at the end of this turn."""
        groups: Iterable[Group] = self._by_topic.get(record.topic, ())
        if record.topic == GAP:
            groups = tuple(self._groups.values())
        frames: dict[Any, bytes] = {}
        for group in tuple(groups):
            if group.sees(record):
                shown = group.shown(record)
                key = group.form.key if shown is record else group.sight
                frame = frames.get(key)
                if frame is None:
                    frame = frames[key] = group.form.render(shown)
                if frame:
                    group.pending.append((record.seq, frame, record.topic, shown.permission))
                    group.size += len(frame)
                    self._mark(group)

    def flush(self) -> None:
        """Write what every group has gathered."""
        self._scheduled = False
        while self._dirty:
            self._flush(next(iter(self._dirty)))

    def _mark(self, group: Group) -> None:
        if group.size >= PIECE:
            self._flush(group)
            return
        self._dirty[group] = None
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self.flush)

    def _flush(self, group: Group) -> None:
        self._dirty.pop(group, None)
        items, size = group.pending, group.size
        if not items:
            return
        group.pending, group.size = [], 0
        data = items[0][1] if len(items) == 1 else b"".join([item[1] for item in items])
        for subscription in tuple(group.members):
            if subscription.behind:
                subscription.enqueue(items, size)
                continue
            try:
                if subscription.sink.writable():
                    subscription.sink.write(data)
                else:
                    subscription.enqueue(items, size)
            except Exception as error:  # noqa: BLE001 - one broken sink must not end the round
                logger.warning("a subscription ends: %s", error)
                subscription.fail(f"the sink failed: {error}")
