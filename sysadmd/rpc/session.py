"""A session: one peer, its identity, its calls and its subscriptions, whatever carries the frames.

A listener gives a session an `Outlet` and feeds it frames; nothing here knows a socket. The way of a request is one
pass::

    receive ─► decode ─► resolve ─► admit ─► authorise ─► validate ─► handler ─► reply

Three rules decide *when* a call runs:

* A handler that is a plain function never waits, so it runs at once inside `receive`: no task, no queue, no switch.
* A coroutine handler becomes a task of the engine. At most `calls_in_flight` of them run, `calls_queued` wait in
  order, and the next one is answered 429.
* Methods marked `inline` (`rpc/auth*`, `rpc/identify`) run in arrival order and are read ahead of the queue, and what
  comes after an authentication waits for it, so that a client may send its log-in and its first calls in one go.
  `rpc/cancel` never waits, unless nobody is logged in yet.

Not logged in is answered before anything else is looked at, so a stranger cannot learn which methods exist.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import msgspec

from sysadmd.auth.challenge import Challenge
from sysadmd.auth.identity import Peer
from sysadmd.auth.scope import Scope
from sysadmd.errors import Cancelled, DeadlineExceeded, Forbidden, RpcError, TooManyRequests, Unauthorized, WireError
from sysadmd.events.subscription import Sink
from sysadmd.rpc.auditing import Noted
from sysadmd.rpc.call import Call
from sysadmd.rpc.registry import Entry
from sysadmd.rpc.subscriptions import Subscriptions
from sysadmd.wire import CLASSIC, JSONRPC, decode
from sysadmd.wire.classic import is_login
from sysadmd.wire.jsonrpc import join_batch
from sysadmd.wire.messages import Dialect, Request

if TYPE_CHECKING:
    from sysadmd.rpc.engine import Engine

NOBODY = Scope("", (), ())
"""May do nothing and see nothing."""
Respond = Callable[[bytes], None]
Voucher = Callable[[], Scope | None]
"""Who the peer is by something other than a log-in, such as its uid; asked again whenever the policy changes."""


class Outlet(Sink, Protocol):
    """What a session writes to; each listener has one for each of its connections."""

    def send(self, payload: bytes) -> None:
        """Write one text message."""
        ...

    def limit_frames(self, size: int) -> None:
        """From now on refuse messages above `size` bytes: a peer that logged in may send more than a stranger."""
        ...

    def close(self, code: int, reason: str) -> None:
        """Close the connection with a WebSocket close code (RFC 6455 §7.4)."""
        ...


class Pending(msgspec.Struct, frozen=True, gc=False):
    """A request that was admitted but not started: what it resolved to, and where its answer goes."""

    request: Request
    dialect: Dialect
    respond: Respond
    entry: Entry | RpcError


class Running(msgspec.Struct, gc=False):
    """A call whose handler is a task."""

    request_id: Any
    cancel_scope: anyio.CancelScope
    inline: bool
    withdrawn: bool = False


class Session:
    """One peer. All methods are called on the event loop; `receive` never blocks and never raises for bad input."""

    def __init__(self, engine: Engine, outlet: Outlet, peer: Peer, *, classic: bool = False) -> None:
        self.engine, self.outlet, self.peer, self.classic = engine, outlet, peer, classic
        self.id = secrets.token_hex(8)
        """For people and for the audit trail; it opens nothing."""
        self.scope: Scope | None = None
        self.method: str | None = None
        """How the identity was proven: password, system, token, key, certificate or socket."""
        self.token: str | None = None
        self.voucher: Voucher | None = None
        self.challenge: Challenge | None = None
        """What the peer has to sign (`rpc/auth_ssl`); it is this connection's alone."""
        self.binding = ""
        """What it has to sign along: in a sealed session the SHA-256 of the server's certificate, in hexadecimal."""
        self.opened = self.last_message = self.logged_out_at = engine.monotonic()
        self.expires: float | None = None
        self.leave: Callable[[], None] | None = None
        """Gives back the place among those that are not logged in; called by the first log-in."""
        self.closed = False
        self.subscriptions = Subscriptions(engine, outlet)
        self._running: dict[int, Running] = {}
        self._waiting: deque[Pending] = deque()
        self._inline: deque[Pending] = deque()
        self._inline_running = False

    # Identity

    def login(
        self,
        scope: Scope,
        token: str | None,
        expires: float | None,
        voucher: Voucher | None = None,
        *,
        method: str = "password",
    ) -> None:
        """Take an identity. Subscriptions stay, filtered by the new scope. `expires` is on the engine's monotonic
        clock. Without a `voucher` the scope is the account's own.
        """
        self.scope, self.token, self.expires, self.voucher, self.method = scope, token, expires, voucher, method
        self.subscriptions.rescope(scope)
        self.outlet.limit_frames(self.engine.limits.frame_authenticated)
        if self.leave is not None:
            self.leave()
            self.leave = None

    def rescope(self, scope: Scope) -> None:
        """The same identity may now do something else; the next call and the next event know."""
        self.scope = scope
        self.subscriptions.rescope(scope)

    def logout(self, *, pausing: bool = False) -> None:
        """Forget the identity: subscriptions end, and the grace for a new log-in starts. A stranger's does not start
        anew, however often they try. `pausing`: a log-in is under way that has more than one step, and subscriptions
        stay for it, but see nothing.
        """
        if self.scope is not None:
            self.logged_out_at = self.engine.monotonic()
        self.scope = self.token = self.expires = self.voucher = self.method = None
        if pausing:
            self.subscriptions.rescope(NOBODY)
        else:
            self.subscriptions.close()
        self.outlet.limit_frames(self.engine.limits.frame_unauthenticated)

    # Frames in

    def receive(self, text: str | bytes) -> None:
        """Handle one text message; nothing once the session was closed, though its socket may still be closing."""
        if self.closed:
            return
        engine = self.engine
        self.last_message = engine.monotonic()
        frame = decode(text, classic=self.classic, depth=engine.limits.json_depth)
        respond: Respond = self.outlet.send
        if frame.batch:
            respond = _Batch(len(frame.entries), self.outlet.send).collect
        for entry in frame.entries:
            if isinstance(entry, WireError):
                engine.count("", entry.code)
                respond(frame.dialect.error(None, entry))
            else:
                self._admit(Pending(entry, frame.dialect, respond, engine.resolve(entry, frame.dialect)))

    def cancel(self, request_id: Any) -> bool:
        """Withdraw the call with this id; whether there was one. The call itself is answered 499."""
        for running in self._running.values():
            if running.request_id == request_id and not running.withdrawn:
                running.withdrawn = True
                running.cancel_scope.cancel()
                return True
        for queue in (self._waiting, self._inline):
            for pending in queue:
                if pending.request.id == request_id:
                    queue.remove(pending)
                    self._refuse(pending, Cancelled())
                    return True
        return False

    async def perform(self, request: Request, dialect: Dialect) -> Any:
        """Run one request to its end and return its result, for listeners that wait (REST). Raises `RpcError`."""
        engine, found = self.engine, self.engine.resolve(request, dialect)
        key = found.method.key if isinstance(found, Entry) else ""
        noted: Noted | None = None
        try:
            engine.refuse_while_draining()
            entry, call = self._prepare(request, dialect, found)
            noted = call.noted
            result = entry.handler(call, engine.services)
            if entry.is_async:
                result = await self._finish(result, request)
            if noted is not None:
                await noted.durable()
        except RpcError as error:
            self._count_refusal(request, key, error, noted)
            raise
        except Exception as error:
            fault = engine.fault(request, error)
            self._count_refusal(request, key, fault, noted)
            raise fault from error
        engine.count(key, 200)
        return result

    async def _finish(self, result: Awaitable[Any], request: Request) -> Any:
        """Wait for a handler here instead of in a task; `close` and a draining server know of it all the same."""
        timeout = request.timeout or self.engine.limits.call_deadline
        running = Running(request.id, anyio.CancelScope(deadline=anyio.current_time() + timeout), inline=False)
        self._running[id(running)] = running
        try:
            with running.cancel_scope:
                return await result
        finally:
            del self._running[id(running)]
        raise self._cut_off(running, timeout)

    def close(self) -> None:
        """The connection is gone: calls are cancelled, subscriptions end. Idempotent."""
        self.closed = True
        self._waiting.clear()
        self._inline.clear()
        for running in self._running.values():
            running.cancel_scope.cancel()
        self.subscriptions.close()
        self.engine.forget(self)

    @property
    def calls(self) -> int:
        """Calls that run or wait."""
        return len(self._running) + len(self._waiting) + len(self._inline)

    def refuse_waiting(self, error: RpcError) -> None:
        """Answer every call that has not started with this error (a server that stops)."""
        while self._waiting:
            self._refuse(self._waiting.popleft(), error)

    # Admission

    def _admit(self, pending: Pending) -> None:
        limits = self.engine.limits
        entry = pending.entry
        if self.engine.draining:
            self._start(pending)  # which refuses it now; a queue would keep it until nobody answers any more
        elif isinstance(entry, Entry) and entry.method.inline:
            ahead = entry.method.key == "rpc/cancel" and self.scope is not None
            if ahead or not self._inline_running:
                self._start(pending)
            elif len(self._inline) + len(self._waiting) >= limits.calls_queued:
                self._refuse(pending, TooManyRequests(f"{limits.calls_queued} calls wait for an authentication"))
            else:
                # Behind calls that wait for an earlier log-in, so that these run as whom they were sent.
                (self._waiting or self._inline).append(pending)
        elif not self._inline_running and not self._waiting and len(self._running) < limits.calls_in_flight:
            self._start(pending)
        elif len(self._waiting) >= limits.calls_queued:
            self._refuse(pending, TooManyRequests(f"{limits.calls_in_flight} calls run and {limits.calls_queued} wait"))
        else:
            self._waiting.append(pending)

    def _pump(self) -> None:
        """Start what may start, after a task ended."""
        while self._inline and not self._inline_running:
            self._start(self._inline.popleft())
        while self._waiting and not self._inline_running and len(self._running) < self.engine.limits.calls_in_flight:
            self._start(self._waiting.popleft())

    # Calls

    def _prepare(self, request: Request, dialect: Dialect, entry: Entry | RpcError) -> tuple[Entry, Call]:
        """Authorise and validate. The order is fixed: 401, then 404 and 400 for the method, then 403, then 400 for the
        arguments.
        """
        public = isinstance(entry, Entry) and entry.method.access == "public"
        scope = self.scope
        if scope is None and not public:
            raise Unauthorized
        if isinstance(entry, RpcError):
            raise entry
        method = entry.method
        if scope is not None and not public and not scope.may_call(method.key, method.access):
            raise Forbidden(f"{scope.account} may not call {method.key}")
        args = request.args
        if dialect is JSONRPC and type(args) is list:
            args = entry.named(args)
        entry.validator.check(args)
        return entry, Call(args, scope, self, dialect, self.engine.auditing.begin(self, request, entry, args))

    def _start(self, pending: Pending) -> None:
        request = pending.request
        try:
            self.engine.refuse_while_draining()
            entry, call = self._prepare(request, pending.dialect, pending.entry)
            if entry.is_async:
                self._spawn(pending, entry, call)
                return
            result = entry.handler(call, self.engine.services)
        except RpcError as error:
            self._refuse(pending, error)
        except Exception as error:  # noqa: BLE001  # a fault of ours is answered, and must not end the connection
            self._refuse(pending, self.engine.fault(request, error))
        else:
            self._answer(pending, entry, result)

    def _spawn(self, pending: Pending, entry: Entry, call: Call) -> None:
        running = Running(pending.request.id, anyio.CancelScope(), entry.method.inline)
        self._running[id(running)] = running
        self._inline_running = self._inline_running or running.inline
        self.engine.spawn(self._run, pending, entry, call, running)

    async def _run(self, pending: Pending, entry: Entry, call: Call, running: Running) -> None:
        timeout = pending.request.timeout or self.engine.limits.call_deadline
        scope = running.cancel_scope
        scope.deadline = anyio.current_time() + timeout
        try:
            with scope:
                result = await entry.handler(call, self.engine.services)
                if call.noted is not None:
                    await call.noted.durable()
                self._answer(pending, entry, result)
                return
            self._refuse(pending, self._cut_off(running, timeout), call.noted)
        except RpcError as refused:
            self._refuse(pending, refused, call.noted)
        except Exception as fault:  # noqa: BLE001  # as in `_start`
            self._refuse(pending, self.engine.fault(pending.request, fault), call.noted)
        finally:
            del self._running[id(running)]
            self._inline_running = self._inline_running and not running.inline
            if not self.closed:
                self._pump()

    def _cut_off(self, running: Running, timeout: float) -> RpcError:
        """Why a call was cancelled."""
        if running.withdrawn or self.closed:
            return Cancelled()
        return DeadlineExceeded(f"no result within {timeout:g} s")

    def _answer(self, pending: Pending, entry: Entry, result: Any) -> None:
        self.engine.count(entry.method.key, 200)
        if self.closed:
            return
        pending.respond(pending.dialect.reply(pending.request, result) if pending.request.wants_reply else b"")

    def _count_refusal(self, request: Request, key: str, error: RpcError, noted: Noted | None) -> None:
        self.engine.count(key, error.code)
        self.engine.auditing.refused(self, request, key, error, noted)

    def _refuse(self, pending: Pending, error: RpcError, noted: Noted | None = None) -> None:
        entry = pending.entry
        self._count_refusal(pending.request, entry.method.key if isinstance(entry, Entry) else "", error, noted)
        if self.closed:
            return
        if pending.dialect is CLASSIC and self.scope is not None and is_login(pending.request):
            self.logout()  # there even a malformed attempt, or an unknown one, takes the identity (spec sysadm §2.4)
        pending.respond(pending.dialect.error(pending.request, error) if pending.request.wants_reply else b"")


class _Batch:
    """The answers of a JSON-RPC batch, sent as one array when the last one is there (JSON-RPC 2.0 §6)."""

    def __init__(self, size: int, send: Respond) -> None:
        self._missing, self._send = size, send
        self._answers: list[bytes] = []

    def collect(self, payload: bytes) -> None:
        self._missing -= 1
        if payload:
            self._answers.append(payload)
        if not self._missing and self._answers:
            self._send(join_batch(self._answers))
