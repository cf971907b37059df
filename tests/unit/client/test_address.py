"""Server addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.client.address import Address, parse_address
from sysadmd.client.errors import BadAddress


@pytest.mark.parametrize(
    "text,expected",
    [
        ("wss://nas.example", Address("wss", "nas.example", 12150, "/")),
        ("wss://nas.example:443/ws", Address("wss", "nas.example", 443, "/ws")),
        ("ws://127.0.0.1:9", Address("ws", "127.0.0.1", 9, "/")),
        ("wss://[fe80::1]:1", Address("wss", "fe80::1", 1, "/")),
        ("WSS://NAS", Address("wss", "nas", 12150, "/")),
        ("unix:///run/sysadmd/sysadmd.sock", Address("unix", "localhost", 0, "/run/sysadmd/sysadmd.sock")),
        ("unix:///tmp/a%20b", Address("unix", "localhost", 0, "/tmp/a b")),
        ("bridge://relay.example/nas", Address("bridge", "relay.example", 12149, "/", "nas")),
        ("bridge://relay.example:443/Rack%20%2F%201", Address("bridge", "relay.example", 443, "/", "Rack / 1")),
        ("bridge://[::1]/::%7Bab-1%7D", Address("bridge", "::1", 12149, "/", "::{ab-1}")),
        ("bridge://relay/::{ab-1}", Address("bridge", "relay", 12149, "/", "::{ab-1}")),
        ("BRIDGE://relay", Address("bridge", "relay", 12149, "/", "")),
        ("bridge://relay/", Address("bridge", "relay", 12149, "/", "")),
    ],
)
def test_the_four_forms_are_read(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    "text,reason",
    [
        ("nas.example", "has no scheme"),
        ("http://nas", "scheme 'http'"),
        ("wss://", "no host"),
        ("wss://nas:99999", "range"),
        ("wss://nas:port", "Port"),
        ("wss://[::1", "Invalid IPv6"),
        ("unix://relative", "absolute path"),
        ("unix:///", "absolute path"),
        ("unix:///a%00b", "NUL"),
        ("wss://nas/?token=x", "no query"),
        ("wss://nas/#x", "no query"),
        ("bridge:///nas", "no host"),
        ("bridge://relay/a/b", "one peer"),
        ("bridge://relay/a%00b", "printable"),
        ("bridge://relay/a%0Ab", "printable"),
        ("bridge://relay/%ff", "not UTF-8"),
        (f"bridge://relay/{'a' * 257}", "256"),
        ("bridge://relay/nas?token=x", "no query"),
    ],
)
def test_anything_else_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(BadAddress, match=reason):
        parse_address(text)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(BadAddress) as caught:
        parse_address("wss://admin:hunter2@nas")
    assert "hunter2" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse_address(text)
    except BadAddress:
        return
    assert address.scheme in ("ws", "wss", "unix", "bridge")


@pytest.mark.parametrize(
    "text",
    [
        "wss://nas:1/x",
        "ws://[::1]:12150",
        "unix:///run/x.sock",
        "wss://nas.example:12150",
        "bridge://relay:12149",
        "bridge://[::1]:1/::{0ab-1}",
        "bridge://relay:12149/Rack%20%2F%C3%BC",
    ],
)
def test_the_text_of_an_address_reads_back(text: str) -> None:
    assert str(parse_address(text)) == text


@pytest.mark.parametrize(
    "text,private",
    [
        ("wss://nas", True),
        ("unix:///x", True),
        ("ws://localhost", True),
        ("ws://127.9.9.9", True),
        ("ws://[::1]", True),
        ("ws://nas", False),
        ("ws://10.0.0.1", False),
        ("bridge://relay/nas", True),
    ],
)
def test_only_a_network_without_tls_is_not_private(text: str, private: bool) -> None:
    assert parse_address(text).private is private


def test_the_bridge_of_an_address_is_the_address_without_the_peer() -> None:
    assert str(parse_address("bridge://relay/nas").bridge) == "bridge://relay:12149"
