"""Whom the kernel names at the other end of a socket."""

from __future__ import annotations

import os
import socket
import struct
import sys

import pytest

from sysadmd.executor import peer


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
