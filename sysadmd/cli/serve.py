"""`sysadmd serve`."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import click

from sysadmd.cli.values import host_port


@click.command()
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file (TOML).")
@click.option(
    "--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="State directory. [env: SYSADMD_STATE_DIR]"
)
@click.option("--listen", type=host_port, metavar="H:P", help="Address of the WebSocket listener. [default: *:12150]")
@click.option("--rest", type=host_port, metavar="H:P", help="Address of the HTTP listener. [default: *:12151]")
@click.option("--no-tls", is_flag=True, help="No TLS; only on loopback addresses.")
@click.option("--no-executor", is_flag=True, help="Start no executor; wait for the one that its own service starts.")
@click.option(
    "--executor-socket",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Socket of an executor that runs as root for this server.",
)
def serve(
    *,
    config: Path | None,
    state_dir: Path | None,
    listen: tuple[str, int] | None,
    rest: tuple[str, int] | None,
    no_tls: bool,
    no_executor: bool,
    executor_socket: Path | None,
) -> int:
    """Run the server.

    It stays in the foreground until SIGTERM or SIGINT; SIGHUP reads the configuration again. One server runs on each
    state directory.
    """
    # What the imports of a start make stays, so looking for garbage among it is in vain; the server does it when ready.
    gc.disable()
    from sysadmd.config import load
    from sysadmd.server import run

    overrides = overrides_of(state_dir, listen, rest, no_tls)
    if no_executor:
        overrides["dispatcher.launch_executor"] = False
    if executor_socket is not None:
        overrides["dispatcher.executor_socket"] = str(executor_socket)
    return run(load(config, overrides), lambda: load(config, overrides))


def overrides_of(
    state_dir: Path | None, listen: tuple[str, int] | None, rest: tuple[str, int] | None, no_tls: bool
) -> dict[str, Any]:
    """The flags as configuration keys."""
    given: dict[str, Any] = {}
    if state_dir is not None:
        given["state_dir"] = str(state_dir)
    for name, address in (("listen", listen), ("rest", rest)):
        if address is not None:
            given[f"{name}.host"], given[f"{name}.port"] = address
    if no_tls:
        given["listen.tls"] = given["rest.tls"] = False
    return given
