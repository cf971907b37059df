"""Where a peer behind a reverse proxy is."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sysadmd.bridge.forwarded import Proxies

PROXIES = Proxies(["10.0.0.0/8", "2001:db8::1"])


@pytest.mark.parametrize(
    "address,forwarded,wanted",
    [
        ("192.0.2.1", ["198.51.100.1"], "192.0.2.1"),  # it is no proxy, and may say anything
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # what stands left of it is the peer's own
        ("10.0.0.1", ["1.1.1.1", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, 10.0.0.2"], "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["unknown"], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1, "], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["[2001:db8::7]:4711"], "2001:db8::7"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("2001:db8::1", ["2001:db8::7"], "2001:db8::7"),
        ("2001:db8::2", ["2001:db8::7"], "2001:db8::2"),
        ("unix", ["198.51.100.1"], "unix"),
    ],
)
def test_the_address_is_the_last_one_that_no_proxy_has(address: str, forwarded: Sequence[str], wanted: str) -> None:
    assert PROXIES.client(address, forwarded) == wanted


def test_without_proxies_nothing_is_believed() -> None:
    assert Proxies().client("127.0.0.1", ["198.51.100.1"]) == "127.0.0.1"


def test_what_is_no_network_is_refused() -> None:
    with pytest.raises(ValueError, match="nonsense"):
        Proxies(["nonsense"])
