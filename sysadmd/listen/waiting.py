"""The outlet of a request that waits for something: whoever ends its session ends the wait."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
from starlette.requests import Request as HttpRequest

from sysadmd.errors import Cancelled, RpcError, Unavailable
from sysadmd.listen.discard import DiscardOutlet
from sysadmd.rpc.session import Session

T = TypeVar("T")


class WaitOutlet(DiscardOutlet):
    """Writes nothing. `close` ends what `patiently` waits for."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._end: Callable[[], None] | None = None

    def close(self, code: int, reason: str) -> None:
        """The session is over: the server stops, or the identity was revoked."""
        self.reason = reason
        if self._end is not None:
            self._end()

    async def patiently(self, http: HttpRequest, session: Session, work: Callable[[], Awaitable[T]]) -> T:
        """The result of `work`, which is given up when the client goes away or the session ends.

        Only for work that changes nothing. Raises what it raises, Unavailable for a session that ended, and Cancelled
        for a client that went away.
        """
        results: list[T] = []
        refused: RpcError | None = None
        async with anyio.create_task_group() as tasks:
            self._end = tasks.cancel_scope.cancel
            tasks.start_soon(_end_with_client, http, self._end)
            try:
                results.append(await work())
            except RpcError as error:
                refused = error  # raised below: out of a task group it would come as a group
            tasks.cancel_scope.cancel()
        if refused is not None:
            raise refused
        if not results:
            raise Cancelled if self.reason is None else Unavailable(self.reason)
        return results[0]


async def _end_with_client(http: HttpRequest, end: Callable[[], None]) -> None:
    while (await http.receive())["type"] != "http.disconnect":
        pass
    end()
