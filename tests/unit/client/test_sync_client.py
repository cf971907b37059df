"""The client without a loop: the same calls, from any thread."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from sysadmd.client import Client, ConnectFailed, RemoteError
from sysadmd.client.mock import MockServer

EVENT = {"message": "m", "priority": 1, "class": "snapshot"}


def client_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "sysadmd client"]


def test_a_call_waits_for_its_result() -> None:
    with Client("unix:///mock", dial=MockServer({"rpc/identify": lambda args: {"type": "server"}}).dial) as client:
        assert client.call("rpc/identify") == {"type": "server"}


def test_errors_are_those_of_the_async_client() -> None:
    with Client("unix:///mock", dial=MockServer().dial) as client, pytest.raises(RemoteError):
        client.call("rpc/nothing")


def test_several_threads_may_call_at_once() -> None:
    server = MockServer({"test/echo": lambda args: args["n"]})
    with Client("unix:///mock", dial=server.dial) as client, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: client.call("test/echo", {"n": n}), range(50))) == list(range(50))


def test_events_are_iterated_and_their_connection_ends_with_the_iterator() -> None:
    server = MockServer()

    def subscribe(args: Any) -> Any:
        for seq in range(3):
            server.emit("life_preserver", EVENT, seq)
        return {}

    server.handlers["events/subscribe"] = subscribe
    with Client("unix:///mock", dial=server.dial) as client:
        events = client.events("life_preserver")
        assert [next(events).seq for _ in range(3)] == [0, 1, 2]
        assert len(server.connections) == 2
        events.close()  # type: ignore[attr-defined]  # it is a generator
        assert len(server.connections) == 1


def test_closing_ends_the_thread() -> None:
    client = Client("unix:///mock", dial=MockServer().dial)
    client.open()
    assert client_threads()
    client.close()
    client.close()
    assert not client_threads()


def test_a_client_that_cannot_connect_leaves_no_thread() -> None:
    server = MockServer()
    server.refusing = True
    with pytest.raises(ConnectFailed), Client("unix:///mock", dial=server.dial):
        pass
    assert not client_threads()


def test_a_client_that_is_not_open_says_so() -> None:
    client = Client("unix:///mock", dial=MockServer().dial)
    with pytest.raises(RuntimeError, match="not open"):
        client.call("rpc/identify")


def test_opening_twice_is_refused() -> None:
    with Client("unix:///mock", dial=MockServer().dial) as client, pytest.raises(RuntimeError, match="is open"):
        client.open()
