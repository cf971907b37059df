"""The figures of a bridge in the text that Prometheus reads."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from sysadmd.bridge.figures import Figures
from sysadmd.bridge.keyring import Keyring
from sysadmd.bridge.metrics import Metrics
from sysadmd.bridge.peer import PeerInfo
from sysadmd.keys.signing import PrivateKey
from sysadmd.limits import Limits
from sysadmd.listen.pending import Pending


def peer(role: str, *, key: str = "k", paired: tuple[str, ...] = (), queued: int = 0) -> PeerInfo:
    return PeerInfo(
        id="::{x}",
        nick="n" if key else "",
        key=key,
        role=role,  # type: ignore[arg-type]
        hostname="h",
        address="192.0.2.1",
        classic=False,
        connected=0.0,
        paired=list(paired),
        messages_in=1,
        messages_out=2,
        bytes_in=3,
        bytes_out=4,
        queued=queued,
    )


class FakeRelay:
    def __init__(self) -> None:
        self.figures = Figures()
        self.listed: list[PeerInfo] = []

    def peers(self) -> list[PeerInfo]:
        return self.listed


def values(relay: FakeRelay, directory: Path) -> dict[str, float]:
    """The samples that are the bridge's own, by name and label."""
    pending = Pending(Limits)
    pending.dropped = 3
    assert pending.admit("192.0.2.1") is not None
    metrics = Metrics(relay, Keyring(directory), pending)  # type: ignore[arg-type]
    found = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            if sample.name.startswith("sysadmd_bridge_"):
                label = "".join(f"{{{value}}}" for value in sample.labels.values())
                found[f"{sample.name.removeprefix('sysadmd_bridge_')}{label}"] = sample.value
    return found


def test_the_peers_that_are_there_are_counted(tmp_path: Path) -> None:
    relay = FakeRelay()
    relay.listed = [
        peer("server", paired=("a", "b"), queued=5),
        peer("client", paired=("s",), queued=7),
        peer("client", paired=("s",)),
        peer("client", key=""),
    ]
    Keyring(tmp_path / "keys").add("a", PrivateKey.generate("ed25519").public)
    found = values(relay, tmp_path / "keys")
    assert (found["peers{server}"], found["peers{client}"], found["pairs"]) == (1, 2, 2)
    assert (found["queued_bytes"], found["keys"]) == (12, 1)
    assert (found["pending_connections"], found["connections_dropped_total"]) == (1, 3)


def test_what_was_counted_is_told_by_its_reason(tmp_path: Path) -> None:
    relay = FakeRelay()
    relay.figures = Figures(connections=9, logins=4, announcements=6, messages=20, bytes=3000)
    relay.figures.refused.update({"proof": 2})
    relay.figures.dropped.update({"unpaired": 5, "header": 1})
    relay.figures.paused.update({"slow": 1})
    relay.figures.cut.update({"rate": 1})
    found = values(relay, tmp_path)
    assert (found["logins_total{accepted}"], found["logins_total{proof}"]) == (4, 2)
    assert (found["dropped_messages_total{unpaired}"], found["dropped_messages_total{header}"]) == (5, 1)
    assert (found["relayed_messages_total"], found["relayed_bytes_total"]) == (20, 3000)
    assert (found["pauses_total{slow}"], found["cuts_total{rate}"]) == (1, 1)
    assert (found["connections_total"], found["announcements_total"]) == (9, 6)


def test_a_bridge_that_did_nothing_yet_has_every_figure(tmp_path: Path) -> None:
    found = values(FakeRelay(), tmp_path)
    assert found["peers{server}"] == found["peers{client}"] == found["logins_total{accepted}"] == 0
