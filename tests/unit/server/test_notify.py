"""The readiness protocol of systemd, without systemd."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from sysadmd.server.notify import notify


def test_without_a_socket_nothing_happens() -> None:
    notify("READY=1")


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_the_message_is_one_datagram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    name = f"sysadmd-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(f"\0{name}" if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        notify("READY=1")
        assert sock.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["/nowhere/at/all", "@nobody-listens-here", "relative"])
def test_a_manager_that_is_not_there_is_no_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")
