"""The topics that can be subscribed to, and what the log promises for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

GAP = "gap"
"""Topic of the record that tells of lost ones: {"from": seq, "to": seq, "cause": "overflow"|"expired"|"restart"}."""


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    `durable`: every record of it is stored, so that a follower who resumes misses none, however long it was away.
    Topics that are not still have durable records where their drafts say so. `replayed`: a new follower may get the
    last record. `restated`: what a record says that is not stored, the next one says anew, so nothing is lost with it
    and no gap tells of it.
    """

    name: str
    description: str
    durable: bool
    replayed: bool
    restated: bool = False


TOPICS: Mapping[str, Topic] = MappingProxyType(
    {
        topic.name: topic
        for topic in (
            Topic("dispatcher", "States and output of the dispatcher's processes", durable=False, replayed=False),
            Topic("life_preserver", "Snapshots and replications", durable=True, replayed=True),
            Topic("system_state", "Host name and health of the storage pools", durable=True, replayed=True),
            Topic("bridge", "Peers that come to and leave a bridge", durable=True, replayed=False),
            Topic("event", "Messages that people send one another on channels", durable=True, replayed=False),
            Topic(
                "queue",
                "States of queued jobs, and summaries of the queue",
                durable=False,
                replayed=False,
                restated=True,
            ),
            Topic("workqueue", "Transfers, and each of their elements", durable=False, replayed=False, restated=True),
        )
    }
)


def is_durable(topic: str) -> bool:
    """Whether every record of the topic is stored."""
    return topic in TOPICS and TOPICS[topic].durable


def is_resumable(topic: str) -> bool:
    """Whether what is stored of the topic is all that matters to who was away."""
    return topic in TOPICS and (TOPICS[topic].durable or TOPICS[topic].restated)


def is_replayed(topic: str) -> bool:
    """Whether the last record of the topic is kept for new followers."""
    return topic in TOPICS and TOPICS[topic].replayed
