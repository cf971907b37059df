"""Sockets of the HTTP listener."""

from __future__ import annotations

import errno
import socket

import pytest

from sysadmd.listen.http import bind


def ends(sockets: list[socket.socket]) -> set[tuple[int, int]]:
    found = {(int(sock.family), sock.getsockname()[1]) for sock in sockets}
    for sock in sockets:
        sock.close()
    return found


def test_a_name_is_bound_on_each_of_its_addresses_with_one_port() -> None:
    found = ends(bind("localhost", 0))
    assert len({port for _, port in found}) == 1
    assert (int(socket.AF_INET), next(iter(found))[1]) in found


def test_no_host_is_every_address() -> None:
    assert int(socket.AF_INET) in {family for family, _ in ends(bind("", 0))}


def test_a_port_that_is_in_use_is_refused() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError) as caught:
        bind("127.0.0.1", taken.getsockname()[1])
    assert caught.value.errno == errno.EADDRINUSE


def test_a_kernel_without_ipv6_still_serves_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    infos = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    made = socket.socket

    def without_ipv6(family: int, *args: int) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no such family")
        return made(family, *args)

    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: infos)
    monkeypatch.setattr(socket, "socket", without_ipv6)
    sockets = bind("", 0)
    monkeypatch.undo()
    assert {family for family, _ in ends(sockets)} == {int(socket.AF_INET)}
