"""The server process: lock, signals, readiness, exit code."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import structlog

from sysadmd.config import Config
from sysadmd.errors import SysadmdError
from sysadmd.executor.privileges import privilege_lock
from sysadmd.limits import Limits
from sysadmd.server import logs
from sysadmd.server.notify import notify
from sysadmd.store.lock import StateLock

log = structlog.get_logger(__name__)

EXIT_USAGE = 2


def run(config: Config, reload: Callable[[], Config]) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0, or 2 with one line on standard error when it cannot
    start.
    """
    logs.configure(config.log)
    started = asyncio.Event()
    try:
        if config.dispatcher.executor_socket is not None:
            _lock_privileges()
        with StateLock(config.state_dir):
            return anyio.run(_main, config, reload, started, backend_options=_loop_options(config.limits))
    except (SysadmdError, OSError, BaseExceptionGroup) as error:
        causes = list(_leaves(error))
        if started.is_set() or not all(isinstance(cause, (SysadmdError, OSError)) for cause in causes):
            raise
        sys.stderr.write(f"sysadmd: {causes[0]}\n")
        return EXIT_USAGE


def _lock_privileges() -> None:
    """A server that starts no executor starts only queries: no set-uid program is of use to it, or to an intruder."""
    try:
        privilege_lock()()
    except OSError as error:  # an older FreeBSD: one wall less, not a reason to stay down
        log.warning("new privileges cannot be denied", reason=str(error))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions themselves, out of the groups that task groups put them into."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


async def _main(config: Config, reload: Callable[[], Config], started: asyncio.Event) -> int:
    from sysadmd.server.app import App

    app = App(config, reload)
    stop = anyio.Event()

    def ready() -> None:
        started.set()
        # What start-up made lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.enable()  # the command `serve` does without during the imports
        notify("READY=1")
        log.info(
            "ready",
            node=config.node,
            listen=app.listeners.websocket.addresses,
            rest=app.listeners.http.addresses if app.listeners.http else [],
            socket=str(config.socket.path) if config.socket.enabled else None,
        )

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_signals, app, stop)
        await app.run(stop, ready)
        notify("STOPPING=1")
        tasks.cancel_scope.cancel()
    log.info("stopped")
    return 0


async def _signals(app: Any, stop: anyio.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number != signal.SIGHUP:
                log.info("stopping", signal=signal.Signals(number).name)
                notify("STOPPING=1")
                stop.set()
                break
            notify("RELOADING=1")
            try:
                app.reload()
            except (SysadmdError, OSError) as error:
                log.error("configuration not reloaded", reason=str(error))
            notify("READY=1")
    # From here on a second TERM or INT ends the process at once; a HUP must not.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _loop_options(limits: Limits) -> dict[str, Any]:
    """uvloop where it is installed (the extra `fast`), unless SYSADMD_EVENT_LOOP says `asyncio`."""
    if os.environ.get("SYSADMD_EVENT_LOOP") != "asyncio":
        with contextlib.suppress(ImportError):
            import uvloop  # noqa: F401

            return {"use_uvloop": True}
    # asyncio gives each TLS connection a receive buffer of 256 KiB; a record of TLS has 16 (RFC 8446 §5.1). There is no
    # public way to say so, only this attribute of the protocol's class.
    asyncio.sslproto.SSLProtocol.max_size = limits.tls_buffer
    return {}
