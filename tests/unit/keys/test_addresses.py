"""The names and addresses of this machine."""

from __future__ import annotations

import os
from ipaddress import IPv4Address, IPv6Address

import pytest

from sysadmd.keys import addresses


def test_names_are_the_full_one_the_short_one_and_localhost(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.uname()
    monkeypatch.setattr(os, "uname", lambda: os.uname_result((real[0], "a.b.example", *real[2:])))
    assert addresses.host_names() == ("a.b.example", "a", "localhost")


def test_loopback_is_always_there() -> None:
    assert {IPv4Address("127.0.0.1"), IPv6Address("::1")} <= set(addresses.host_addresses())


def test_link_local_addresses_are_left_out() -> None:
    assert not any(address.is_link_local for address in addresses.host_addresses())


def test_no_address_comes_twice() -> None:
    found = addresses.host_addresses()
    assert len(found) == len(set(found))


def test_without_getifaddrs_loopback_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise OSError

    monkeypatch.setattr(addresses, "_interface_addresses", broken)
    assert addresses.host_addresses() == addresses.LOOPBACK
