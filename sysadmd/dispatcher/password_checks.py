"""Asking the executor about passwords of the machine's accounts, over the link that is there anyway."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

from sysadmd.errors import TooManyRequests, Unavailable
from sysadmd.executor.protocol import Authenticate, Authenticated

DEADLINE = 45.0
"""Seconds for a verdict: a place in the executor's queue (30 s), the check itself (10 s), and the way."""
WAITING = 64
"""Questions without an answer. The executor's queue is shorter; this bounds what its silence can cost."""


class PasswordChecks:
    """The questions that are open. `send` puts a frame on the link, False when the link is down."""

    def __init__(self, send: Callable[[Authenticate], bool]) -> None:
        self._send = send
        self._numbers = itertools.count(1)
        self._open: dict[int, asyncio.Future[Authenticated]] = {}

    async def ask(self, user: str, password: str) -> Authenticated:
        """The verdict. Raises Unavailable (no link, or it ended, or nobody answers) and TooManyRequests."""
        if len(self._open) >= WAITING:
            raise TooManyRequests(f"{WAITING} log-ins of the machine's accounts wait already")
        number = next(self._numbers)
        answer: asyncio.Future[Authenticated] = asyncio.get_running_loop().create_future()
        self._open[number] = answer
        try:
            if not self._send(Authenticate(request=number, user=user, password=password)):
                raise Unavailable("no executor is there to ask the machine about its accounts")
            async with asyncio.timeout(DEADLINE):
                verdict = await answer
        except TimeoutError:
            raise Unavailable("the machine did not say in time whether it knows the account") from None
        finally:
            del self._open[number]
        if verdict.reason == "busy":
            raise TooManyRequests("too many log-ins of the machine's accounts wait already")
        return verdict

    def answered(self, verdict: Authenticated) -> None:
        """One came. Whoever has given up does not hear it."""
        future = self._open.get(verdict.request)
        if future is not None and not future.done():
            future.set_result(verdict)

    def lost(self) -> None:
        """The link is down; no answer will come."""
        for future in self._open.values():
            if not future.done():
                future.set_exception(Unavailable("the executor went away while it asked the machine"))
