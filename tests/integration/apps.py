"""A whole server inside the test's own loop: real sockets, and its parts within reach. Cheaper than a process."""

from __future__ import annotations

import base64
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
from websockets.asyncio.client import connect

from sysadmd.auth.password import Cost, Passwords
from sysadmd.config import load
from sysadmd.server.app import App
from tests.integration.servers import PASSWORD, Peer, end_executor

ACCOUNTS = {"admin": ("admin",), "oper": ("operator",), "view": ("viewer",), "nobody-much": ()}
LOOPBACK = {"listen.host": "127.0.0.1", "listen.port": 0, "rest.host": "127.0.0.1", "rest.port": 0}
CHEAP = Cost(passes=1, memory=8, lanes=1)


@dataclass
class LiveApp:
    """An application that takes connections. `stop` begins its end."""

    app: App
    stop: Callable[[], None]

    @property
    def port(self) -> int:
        return int(self.app.listeners.websocket.addresses[0][1])

    @property
    def url(self) -> str:
        return f"{'wss' if self.app.config.listen.tls else 'ws'}://127.0.0.1:{self.port}/"

    @property
    def rest_url(self) -> str:
        assert self.app.listeners.http is not None
        address: Any = self.app.listeners.http.addresses[0]
        return f"{'https' if self.app.config.rest.tls else 'http'}://127.0.0.1:{address[1]}"

    @property
    def certificate(self) -> Path:
        return self.app.config.state_dir / "server.crt"

    def ssl_context(self) -> ssl.SSLContext | None:
        """Trusts the server's own certificate, and checks the name."""
        return ssl.create_default_context(cafile=str(self.certificate)) if self.app.config.listen.tls else None

    @contextlib.asynccontextmanager
    async def connect(self, login: str | None = "admin", path: str = "", **options: Any) -> AsyncIterator[Peer]:
        options = {"compression": None, "max_size": None, "ssl": self.ssl_context(), **options}
        async with connect(self.url + path, **options) as connection:
            peer = Peer(connection)
            if login is not None:
                await peer.login(login)
            yield peer

    @contextlib.asynccontextmanager
    async def http(
        self, account: str | None = "admin", password: str = PASSWORD
    ) -> AsyncIterator[aiohttp.ClientSession]:
        credentials = base64.b64encode(f"{account}:{password}".encode()).decode()
        headers = None if account is None else {"Authorization": f"Basic {credentials}"}
        async with aiohttp.ClientSession(self.rest_url, headers=headers) as session:
            yield session


@contextlib.asynccontextmanager
async def running_app(
    directory: Path,
    *,
    executor: bool = False,
    tls: bool = False,
    accounts: Mapping[str, tuple[str, ...]] = ACCOUNTS,
    prepare: Callable[[App], None] = lambda app: None,
    **options: Any,
) -> AsyncIterator[LiveApp]:
    """Run an application with its state below `directory`.

    `options` are configuration keys with `__` for the dot. Without `executor` no commands run, which saves a process.
    """
    named = {key.replace("__", "."): value for key, value in options.items()}
    if os.geteuid() == 0:
        named.setdefault("jobs.user", "root")  # `nobody` cannot read what a test of root's makes
    transport = {"listen.tls": tls, "rest.tls": tls, "state_dir": str(directory / "state")}
    config = load(None, {**LOOPBACK, **transport, **named})
    config.state_dir.mkdir(mode=0o700, exist_ok=True)
    app = App(config, lambda: config)
    app.auth.accounts._passwords = Passwords(CHEAP)
    if not executor:
        app.dispatcher._link._launch = None  # type: ignore[attr-defined]
    prepare(app)
    stop, ready = anyio.Event(), anyio.Event()
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(app.run, stop, ready.set)
            with anyio.fail_after(20):
                await ready.wait()
            for name, roles in accounts.items():
                await app.auth.accounts.add(name, PASSWORD, roles)
            try:
                yield LiveApp(app, stop.set)
            finally:
                stop.set()
    finally:
        if executor:
            await end_executor(config.state_dir)


async def status(http: aiohttp.ClientSession, url: str, **options: Any) -> int:
    """Of an answer that is not read, and closed all the same."""
    async with http.get(url, **options) as answer:
        return answer.status
