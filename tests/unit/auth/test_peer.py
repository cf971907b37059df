"""Callers on the Unix socket."""

from __future__ import annotations

import os
import pwd
import socket
import struct
import sys

import pytest

from sysadmd.auth import peer
from sysadmd.auth.account_table import PolicyRows
from sysadmd.auth.policy import Policy
from sysadmd.store.rows import ROLES

POLICY = PolicyRows({name: tuple(patterns) for name, patterns in ROLES.items()}, {"daemon": ("viewer",)})


def policy() -> Policy:
    return Policy(POLICY)


def test_the_kernel_tells_the_uid_of_the_peer() -> None:
    one, two = socket.socketpair(socket.AF_UNIX)
    with one, two:
        assert peer.peer_uid(one) == os.geteuid()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="TCP sockets have SO_PEERCRED on Linux alone")
def test_what_is_no_unix_socket_has_no_uid_of_ours() -> None:
    with socket.socket(socket.AF_INET) as tcp:
        assert peer.peer_uid(tcp) == -1 % 2**32


def test_the_answer_of_freebsd_is_read() -> None:
    assert peer.uid_of_xucred(struct.pack("=IIh16I", 0, 1001, 1, *range(16))) == 1001
    with pytest.raises(OSError, match="version 7"):
        peer.uid_of_xucred(struct.pack("=IIh16I", 7, 1001, 1, *range(16)))


def test_root_is_admin() -> None:
    scope = peer.scope_of_uid(policy(), 0, own_uid=1000)
    assert scope is not None
    assert (scope.account, scope.roles) == (pwd.getpwuid(0).pw_name, ("admin",))
    assert scope.may_call("rpc/dispatcher/run", "admin")


def test_the_uid_of_the_server_is_admin_even_without_a_name() -> None:
    scope = peer.scope_of_uid(policy(), 54321, own_uid=54321)
    assert scope is not None
    assert (scope.account, scope.roles) == ("uid-54321", ("admin",))


def test_an_account_of_the_same_name_has_its_own_roles() -> None:
    scope = peer.scope_of_uid(policy(), pwd.getpwnam("daemon").pw_uid, own_uid=54321)
    assert scope is not None
    assert (scope.account, scope.roles) == ("daemon", ("viewer",))


def test_others_must_log_in() -> None:
    assert peer.scope_of_uid(policy(), 54321, own_uid=1000) is None
    assert peer.scope_of_uid(policy(), pwd.getpwnam("nobody").pw_uid, own_uid=1000) is None


def test_the_uid_of_no_unix_socket_is_nobody() -> None:
    assert peer.scope_of_uid(policy(), 2**32 - 1, own_uid=1000) is None
