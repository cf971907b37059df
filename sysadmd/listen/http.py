"""uvicorn, driven by us: our sockets, our TLS context, our signals, our log."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator, Sequence

import anyio
import uvicorn
from starlette.applications import Starlette


class _Server(uvicorn.Server):
    """A server that leaves the process's signal handlers alone."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


class HttpListener:
    """Serves one ASGI application on sockets that are already bound."""

    def __init__(
        self,
        app: Starlette,
        sockets: Sequence[socket.socket],
        tls: ssl.SSLContext | None,
        *,
        trusted_proxies: Sequence[str],
    ) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
            timeout_graceful_shutdown=5,
            timeout_keep_alive=30,
            h11_max_incomplete_event_size=64 * 1024,
        )
        config.load()
        config.ssl = tls
        self._server = _Server(config)
        self._sockets = list(sockets)

    @property
    def addresses(self) -> list[object]:
        """The addresses that it listens on."""
        return [sock.getsockname() for sock in self._sockets]

    async def run(self, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until `stop`."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._server.serve, self._sockets)
            await self._server.ready.wait()
            task_status.started()

    def stop(self) -> None:
        """Finish the requests that run, then end `run`."""
        self._server.should_exit = True


def bind(host: str, port: int) -> list[socket.socket]:
    """Listening sockets for every address of `host` (all addresses when it is empty)."""
    infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    for family, kind, proto, _, found in infos:
        sock = socket.socket(family, kind, proto)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # Port 0 asks for any port; every address then gets the one that the first got.
        chosen = sockets[0].getsockname()[1] if sockets else port
        sock.bind((found[0], chosen, *found[2:]))
        sock.setblocking(False)
        sockets.append(sock)
    return sockets
