"""The server process."""

from __future__ import annotations

from collections.abc import Callable

from sysadmd.config import Config
from sysadmd.server.lifecycle import Service, deny_new_privileges, live


def run(config: Config, reload: Callable[[], Config]) -> int:
    """Serve until SIGTERM or SIGINT. Returns the exit code: 0, or 2 with one line on standard error when it cannot
    start.
    """

    def make() -> Service:
        from sysadmd.server.app import App

        if config.dispatcher.executor_socket is not None:
            deny_new_privileges()
        return App(config, reload)

    return live(config, make)
