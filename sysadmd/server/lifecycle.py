"""The life of a process that serves: state directory, event loop, signals, readiness, exit code.

The server and the bridge are different services with the same life, and what they have in common is here.
"""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol

import anyio
import structlog

from sysadmd.config import Config, diff, reloaded
from sysadmd.errors import SysadmdError
from sysadmd.executor.privileges import privilege_lock
from sysadmd.limits import Limits
from sysadmd.server import logs
from sysadmd.server.notify import notify
from sysadmd.store.lock import StateLock

log = structlog.get_logger(__name__)

EXIT_USAGE = 2
SECRET_KEYS = frozenset({"dispatcher.variables"})
"""Keys whose values may hold secrets; the log names the key alone."""


class Service(Protocol):
    """What is served, made within the event loop."""

    async def run(self, stop: anyio.Event, ready: Callable[[], None]) -> None:
        """Serve until `stop` is set; `ready` is called once every listener takes connections."""
        ...

    def reload(self) -> None:
        """SIGHUP. Raises SysadmdError or OSError when the configuration cannot be used."""
        ...

    def announced(self) -> dict[str, Any]:
        """What the log says of it when it is ready."""
        ...


def live(config: Config, make: Callable[[], Service]) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0, or 2 with one line on standard error when it cannot
    start.
    """
    logs.configure(config.log)
    started = asyncio.Event()
    try:
        with StateLock(config.state_dir):
            return anyio.run(_main, make, started, backend_options=_loop_options(config.limits))
    except (SysadmdError, OSError, BaseExceptionGroup) as error:
        causes = list(_leaves(error))
        if started.is_set() or not all(isinstance(cause, (SysadmdError, OSError)) for cause in causes):
            raise
        sys.stderr.write(f"sysadmd: {causes[0]}\n")
        return EXIT_USAGE


def deny_new_privileges() -> None:
    """For a process that starts nothing but queries: no set-uid program is of use to it, or to an intruder."""
    try:
        privilege_lock()()
    except OSError as error:  # an older FreeBSD: one wall less, not a reason to stay down
        log.warning("new privileges cannot be denied", reason=str(error))


def with_changes(old: Config, new: Config, tables: Collection[str] = ()) -> Config:
    """`old` with the changes of `new` that SIGHUP applies; each is named in the log, and so are those that wait.

    `tables`: the keys and tables that the process reads, where it does not read all of them.
    """
    for change in diff(old, new):
        if tables and change.key.partition(".")[0] not in tables:
            continue
        level = log.info if change.reloadable else log.warning
        values = {} if change.key in SECRET_KEYS else {"old": str(change.old), "new": str(change.new)}
        level("configuration", key=change.key, **values, applied=change.reloadable)
    return reloaded(old, new)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions themselves, out of the groups that task groups put them into."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error


async def _main(make: Callable[[], Service], started: asyncio.Event) -> int:
    service = make()
    stop = anyio.Event()

    def ready() -> None:
        started.set()
        # What start-up made lives as long as the process: the collector need not look at it again.
        gc.collect()
        gc.freeze()
        gc.enable()  # the commands that serve do without during the imports
        notify("READY=1")
        log.info("ready", **service.announced())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_signals, service, stop)
        await service.run(stop, ready)
        notify("STOPPING=1")
        tasks.cancel_scope.cancel()
    log.info("stopped")
    return 0


async def _signals(service: Service, stop: anyio.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        async for number in signals:
            if number != signal.SIGHUP:
                log.info("stopping", signal=signal.Signals(number).name)
                notify("STOPPING=1")
                stop.set()
                break
            notify("RELOADING=1")
            try:
                service.reload()
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
