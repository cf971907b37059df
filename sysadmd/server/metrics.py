"""The figures of `/metrics`, read from the services when they are asked for, so that counting costs the hot path
nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sysadmd.dispatcher import Dispatcher
from sysadmd.events.log import EventLog
from sysadmd.jobs.model import QUEUE_STATES
from sysadmd.jobs.queue import Queue
from sysadmd.listen.exposition import Exposition
from sysadmd.rpc.engine import Engine
from sysadmd.server.links import Links


class Metrics(Exposition):
    """Prometheus metrics of one server."""

    def __init__(self, engine: Engine, events: EventLog, dispatcher: Dispatcher, queue: Queue, links: Links) -> None:
        self._engine, self._events, self._dispatcher, self._links = engine, events, dispatcher, links
        self._queue = queue
        super().__init__()

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        calls = CounterMetricFamily("sysadmd_calls", "Answered calls by method and code", labels=["method", "code"])
        for (key, code), count in list(self._engine.counts.items()):
            calls.add_metric([key, str(code)], count)
        yield calls
        sessions = GaugeMetricFamily(
            "sysadmd_sessions", "Open connections by listener", labels=["kind", "authenticated"]
        )
        open_sessions: dict[tuple[str, str], int] = {}
        for session in self._engine.sessions:
            labels = (session.peer.kind, "false" if session.scope is None else "true")
            open_sessions[labels] = open_sessions.get(labels, 0) + 1
        for labels, number in sorted(open_sessions.items()):
            sessions.add_metric(list(labels), number)
        yield sessions
        yield from self._event_figures()
        processes = GaugeMetricFamily("sysadmd_processes", "Live dispatcher processes by state", labels=["state"])
        for state, number in sorted(self._dispatcher.figures().items()):
            processes.add_metric([state], number)
        yield processes
        yield from self._job_figures()
        yield from self._link_figures()

    def _job_figures(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily("sysadmd_jobs", "Jobs in the queue by state", labels=["state"])
        counts = self._queue.counts()
        for state in QUEUE_STATES:
            jobs.add_metric([state], counts.get(state, 0))
        attempts = CounterMetricFamily(
            "sysadmd_job_attempts", "Attempts of jobs that ended, by outcome", labels=["outcome"]
        )
        for outcome, number in sorted(self._queue.outcomes().items()):
            attempts.add_metric([outcome], number)
        workers = GaugeMetricFamily("sysadmd_workers", "Workers of the queue", value=len(self._queue.workers()))
        yield from (jobs, attempts, workers)

    def _link_figures(self) -> Iterator[Metric]:
        links = GaugeMetricFamily("sysadmd_bridge_links", "Links to bridges by state", labels=["name", "state"])
        peers = GaugeMetricFamily("sysadmd_bridge_peers", "Clients that a bridge announces", labels=["name"])
        sessions = GaugeMetricFamily("sysadmd_bridge_sessions", "Sessions through a bridge", labels=["name"])
        for link in self._links.listed():
            links.add_metric([link.name, link.state], 1)
            peers.add_metric([link.name], link.peers)
            sessions.add_metric([link.name], link.sessions)
        dropped = CounterMetricFamily(
            "sysadmd_bridge_dropped", "Frames of a link that were not handed on", labels=["name", "reason"]
        )
        for (name, reason), number in sorted(self._links.dropped().items()):
            dropped.add_metric([name, reason], number)
        yield from (links, peers, sessions, dropped)

    def _event_figures(self) -> Iterator[Metric]:
        yield CounterMetricFamily("sysadmd_events", "Records published, in all of this epoch", value=self._events.head)
        yield GaugeMetricFamily(
            "sysadmd_subscribers", "Subscriptions at the head of the log", value=self._events.followers
        )
