"""The same client for code without an event loop: a thin shell over AsyncClient.

A `Client` has one thread with one event loop; each method hands a coroutine to it and waits. It may be used from
several threads.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from sysadmd.client.async_client import DEFAULT_TIMEOUT, AsyncClient
from sysadmd.client.events import Event, EventStream
from sysadmd.client.pins import KnownServers
from sysadmd.client.registration import Pinned
from sysadmd.client.transport import Dial

T = TypeVar("T")


class Client:
    """A client of one server; arguments and errors are those of `AsyncClient`. Use it with `with`."""

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        username: str | None = None,
        password: str | None = None,
        key: str | Path | None = None,
        certificate: str | Path | None = None,
        ca: str | Path | None = None,
        insecure: bool = False,
        bridge_key: str | Path | None = None,
        pin: str | None = None,
        known_servers: str | Path | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        dial: Dial | None = None,
    ) -> None:
        self._client = AsyncClient(
            url,
            token=token,
            username=username,
            password=password,
            key=key,
            certificate=certificate,
            ca=ca,
            insecure=insecure,
            bridge_key=bridge_key,
            pin=pin,
            known_servers=known_servers,
            timeout=timeout,
            dial=dial,
        )
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Start the thread, connect and log in."""
        if self._thread is not None:
            raise RuntimeError("the client is open")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sysadmd client", daemon=True)
        self._thread.start()
        try:
            self._wait(self._client.__aenter__())
        except BaseException:
            self.close()
            raise

    def call(self, method: str, args: Any = None, *, timeout: float | None = None) -> Any:
        """Call `namespace/name[/action]` and return the result; see `AsyncClient.call`."""
        return self._wait(self._client.call(method, args, timeout=timeout))

    def events(
        self,
        topics: str | Sequence[str],
        since: tuple[str, int] | None = None,
        *,
        filter: Mapping[str, Any] | None = None,
        policy: str | None = None,
        snapshot: bool = False,
        reconnect: bool = True,
    ) -> Iterator[Event]:
        """Iterate over events; see `AsyncClient.events`. The stream ends when the iterator is closed."""
        stream = self._client.events(
            topics, since, filter=filter, policy=policy, snapshot=snapshot, reconnect=reconnect
        )
        try:
            while True:
                event = self._wait(_next(stream))
                if event is None:
                    return
                yield event
        finally:
            if self._loop is not None:
                self._wait(stream.aclose())

    def register(
        self,
        key: str | Path,
        nickname: str = "",
        email: str = "",
        *,
        pin_as: str | None = None,
        replace: bool = False,
        servers: KnownServers | None = None,
    ) -> Pinned:
        """Register a key and pin the server; see `AsyncClient.register`."""
        return self._wait(self._client.register(key, nickname, email, pin_as=pin_as, replace=replace, servers=servers))

    def close(self) -> None:
        """Disconnect and end the thread. Idempotent."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        try:
            self._wait(self._client.aclose())
        finally:
            self._loop = self._thread = None
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("the client is not open")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            # An interrupt of the waiting thread withdraws the call, too.
            if future.cancel():
                with contextlib.suppress(concurrent.futures.CancelledError):
                    future.result()
            raise


async def _next(stream: EventStream) -> Event | None:
    return await anext(stream, None)
