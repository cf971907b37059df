"""The ordered log of everything that happens, and the subscriptions that follow it.

record -> FIFO -> commit -> ring -> groups of equal subscriptions -> sinks. `EventLog` is the way in; the header essays
are in log.py (order and durability), fanout.py (speed) and replay.py (no hole, no duplicate).
"""

from __future__ import annotations

from sysadmd.events.catalogue import TOPICS, Topic
from sysadmd.events.filter import Filter
from sysadmd.events.log import EventLog
from sysadmd.events.record import Draft, Record
from sysadmd.events.subscription import Sink, Subscription, SubscriptionSpec, Visible

__all__ = [
    "TOPICS",
    "Draft",
    "EventLog",
    "Filter",
    "Record",
    "Sink",
    "Subscription",
    "SubscriptionSpec",
    "Topic",
    "Visible",
]
