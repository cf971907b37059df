"""The connection flags that all client commands share, and the client they make.

A password is read from standard input or asked for, never taken from the command line: other users can read that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from sysadmd.client import AsyncClient
    from sysadmd.client.bridge import Reachable

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS: tuple[Callable[[F], F], ...] = (
    click.option(
        "--server",
        metavar="URL",
        envvar="SYSADMD_SERVER",
        help="wss://HOST[:PORT], unix:///PATH, or bridge://HOST[:PORT]/PEER for the server PEER behind a bridge. "
        "[env: SYSADMD_SERVER; default: the socket of the state directory]",
    ),
    click.option("--user", metavar="NAME", help="Log in as NAME; the password is asked for."),
    click.option("--password-stdin", is_flag=True, help="Read the password from the first line of standard input."),
    click.option("--token", metavar="T", help="Log in with a token. Others can see it here; SYSADMD_TOKEN hides it."),
    click.option(
        "--key",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Log in with this private key, whose public half is registered. [env: SYSADMD_KEY]",
    ),
    click.option(
        "--bridge-key",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        envvar="SYSADMD_BRIDGE_KEY",
        help="Log in at the bridge with this private key, if not with the one of --key. [env: SYSADMD_BRIDGE_KEY]",
    ),
    click.option(
        "--pin",
        metavar="FINGERPRINT",
        help='The server behind the bridge must have this key. [default: the one that "sysadmd key pins" shows]',
    ),
    click.option(
        "--cert",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Show this TLS client certificate; its key is in the same file, or the one of --key.",
    ),
    click.option(
        "--ca",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="Trust this authority, or this certificate of the server (or bridge), and no other.",
    ),
    click.option(
        "--insecure",
        is_flag=True,
        help="Trust any certificate, and any server behind a bridge: whoever answers gets the password.",
    ),
)


@dataclass(frozen=True, slots=True)
class ConnectionOptions:
    """The values of the connection flags."""

    server: str | None
    user: str | None
    password_stdin: bool
    token: str | None
    key: Path | None
    bridge_key: Path | None
    pin: str | None
    cert: Path | None
    ca: Path | None
    insecure: bool

    def client(self) -> AsyncClient:
        """A client that is not connected yet; asks for the password where one is needed."""
        from sysadmd.client import AsyncClient

        if self.password_stdin and self.user is None:
            raise click.UsageError("--password-stdin needs --user")
        token, key = self._token_and_key()
        return AsyncClient(
            self.server or default_server(),
            token=token,
            username=self.user,
            password=self._password() if self.user else None,
            key=key,
            certificate=self.cert,
            ca=self.ca,
            insecure=self.insecure,
            bridge_key=self.bridge_key,
            pin=self.pin,
        )

    async def reachable(self) -> list[Reachable]:
        """The servers behind the bridge that --server names; only the keys say who asks."""
        from sysadmd.client.bridge import reachable

        if self.server is None:
            raise click.UsageError("--server bridge://HOST[:PORT] is needed: which bridge?")
        key = self._private_key()
        return await reachable(self.server, key=key, bridge_key=self.bridge_key, ca=self.ca, insecure=self.insecure)

    def _private_key(self) -> Path | None:
        import os

        environ = os.environ.get("SYSADMD_KEY")
        return self.key or (Path(environ) if environ else None)

    def _token_and_key(self) -> tuple[str | None, Path | None]:
        """A user goes before both; what was said here goes before the environment. The client tries the token first.

        Behind a bridge a user needs the key all the same, for being introduced to the server.
        """
        import os

        if self.user:
            behind_bridge = (self.server or "").lower().startswith("bridge:")
            return None, self._private_key() if behind_bridge else None
        if self.token or self.key:
            return self.token or None, self.key
        return os.environ.get("SYSADMD_TOKEN") or None, self._private_key()

    def _password(self) -> str:
        if self.password_stdin:
            return read_password_line()
        if not sys.stdin.isatty():
            raise click.UsageError("--user without a terminal needs --password-stdin")
        answer: str = click.prompt(f"Password of {self.user}", hide_input=True, err=True)
        return answer


def connection_options(command: F) -> F:
    """Add the connection flags to a command, which gets them as `connection`, a `ConnectionOptions`."""

    @wraps(command)
    def collected(*args: Any, **kwargs: Any) -> Any:
        values = {field.name: kwargs.pop(field.name) for field in fields(ConnectionOptions)}
        return command(*args, connection=ConnectionOptions(**values), **kwargs)

    for option in reversed(OPTIONS):
        collected = option(collected)
    return collected  # type: ignore[return-value]  # the same command with more flags


def read_password_line() -> str:
    """The first line of standard input, without its end."""
    line = sys.stdin.readline()
    password = line.removesuffix("\n").removesuffix("\r")
    if not password:
        raise click.UsageError("--password-stdin: standard input has no password in its first line")
    return password


def default_server() -> str:
    """The Unix socket of the state directory: SYSADMD_STATE_DIR, or the default one."""
    from urllib.parse import quote

    from sysadmd.config import default_state_dir, runtime_socket

    return f"unix://{quote(str(runtime_socket(default_state_dir())))}"
