"""The figures of a bridge's `/metrics`, read from the relay when they are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from sysadmd.bridge.keyring import Keyring
from sysadmd.bridge.relay import Relay
from sysadmd.listen.exposition import Exposition
from sysadmd.listen.pending import Pending


class Metrics(Exposition):
    """Prometheus metrics of one bridge."""

    def __init__(self, relay: Relay, keyring: Keyring, pending: Pending) -> None:
        self._relay, self._keyring, self._pending = relay, keyring, pending
        super().__init__()

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape."""
        yield from self._peers()
        figures = self._relay.figures
        yield _counter("connections", "Connections accepted", figures.connections)
        yield _counter("connections_dropped", "Connections of strangers that found no place", self._pending.dropped)
        yield _counter("relayed_messages", "Frames relayed", figures.messages)
        yield _counter("relayed_bytes", "Bytes relayed, of payloads", figures.bytes)
        yield _counter("announcements", "Lists of counterparts sent", figures.announcements)
        results = {"accepted": figures.logins, **figures.refused}
        yield _by("logins", "Log-ins by result", "result", results)
        yield _by("dropped_messages", "Frames that went nowhere", "reason", figures.dropped)
        yield _by("pauses", "Times that a peer was not read for a while", "reason", figures.paused)
        yield _by("cuts", "Connections that the bridge ended", "reason", figures.cut)

    def _peers(self) -> Iterator[Metric]:
        peers = self._relay.peers()
        roles = {"server": 0, "client": 0}
        for peer in peers:
            if peer.key:
                roles[peer.role] += 1
        by_role = GaugeMetricFamily("sysadmd_bridge_peers", "Peers that are logged in, by role", labels=["role"])
        for role, number in roles.items():
            by_role.add_metric([role], number)
        yield by_role
        pairs = sum(len(peer.paired) for peer in peers) // 2
        yield _gauge("pairs", "Servers and clients that may reach one another", pairs)
        yield _gauge("queued_bytes", "Bytes that wait for peers to read", sum(peer.queued for peer in peers))
        yield _gauge("pending_connections", "Connections that are not logged in", self._pending.waiting)
        yield _gauge("keys", "Keys in the keyring", len(self._keyring.current()))


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"sysadmd_bridge_{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"sysadmd_bridge_{name}", text, value=value)


def _by(name: str, text: str, label: str, counts: Mapping[str, int]) -> Metric:
    found = CounterMetricFamily(f"sysadmd_bridge_{name}", text, labels=[label])
    for value, number in sorted(counts.items()):
        found.add_metric([value], number)
    return found
