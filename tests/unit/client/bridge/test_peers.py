"""Which peer somebody means, and what a bridge and a server say of one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sysadmd.client.bridge.peers import PROBE_ID, Identity, Peer, announced, chosen, identity_in, shown

NAS = Peer("::{1}", "nas.example", "storage", "aa")
MAIL = Peer("::{2}", "mail", "nas", "bb")
WEB = Peer("::{3}", "WEB.example", "storage", "cc")


@pytest.mark.parametrize(
    "wanted,expected",
    [
        ("::{2}", [MAIL]),
        ("nas.example", [NAS]),
        ("NAS.Example", [NAS]),
        ("nas", [NAS]),  # the first label of a host name goes before a nick
        ("web", [WEB]),
        ("mail", [MAIL]),
        ("mail.example", []),
        ("storage", [NAS, WEB]),
        ("Storage", []),
        ("example", []),
        ("", []),
        ("::{9}", []),
    ],
)
def test_a_peer_is_named_by_id_then_by_host_name_then_by_nick(wanted: str, expected: list[Peer]) -> None:
    assert chosen([NAS, MAIL, WEB], wanted) == expected


def test_a_whole_host_name_goes_before_a_first_label() -> None:
    short = Peer("::{4}", "nas")
    assert chosen([NAS, short], "nas") == [short]


def test_peers_without_a_name_are_meant_by_no_empty_one() -> None:
    assert chosen([Peer("::{5}")], "x") == []


def test_an_announcement_gives_ids_and_what_is_told_of_them() -> None:
    args = {"available_connections": ["::{1}", "::{5}"], "connections": {"::{1}": {"hostname": "nas", "nick": 7}}}
    assert announced(args) == {"::{1}": Peer("::{1}", "nas"), "::{5}": Peer("::{5}")}


@pytest.mark.parametrize(
    "args", [None, [], "x", {}, {"available_connections": "x"}, {"available_connections": [1, "ü"]}]
)
def test_a_malformed_announcement_announces_nobody(args: Any) -> None:
    assert announced(args) == {}


def answer(**args: Any) -> bytes:
    return json.dumps({"namespace": "rpc", "name": "response", "id": PROBE_ID, "args": args}).encode()


@pytest.mark.parametrize("version", [1, "1"])
def test_a_server_that_seals_says_so(version: Any) -> None:
    payload = answer(hostname="nas", type="server", seal={"version": version, "key": "AB"})
    assert identity_in(payload) == Identity("nas", "ab")


@pytest.mark.parametrize("seal", [None, 1, {"version": 2, "key": "ab"}, {"version": 1}, {"version": 1, "key": 7}])
def test_any_other_cannot_seal(seal: Any) -> None:
    assert identity_in(answer(hostname="nas", seal=seal)) == Identity("nas", None)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"e30=",
        b"{broken",
        b'{"name":"response","id":"other","args":{}}',
        b'{"name":"response","id":"sysadmd-client-identify","args":[]}',
        b'{"name":"error","id":"sysadmd-client-identify","args":{}}',
    ],
)
def test_what_is_no_answer_is_passed_over(payload: bytes) -> None:
    assert identity_in(payload) is None


def test_an_error_text_names_some_peers_and_counts_the_rest() -> None:
    assert shown([MAIL, NAS, Peer("::{6}")]) == "unknown (::{6}), mail (::{2}), nas.example (::{1})"
    assert shown([Peer(f"::{{{n}}}", f"host{n:02}") for n in range(11)]).endswith("host07 (::{7}), 3 more")
