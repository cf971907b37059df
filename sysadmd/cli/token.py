"""`sysadmd token`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from sysadmd.cli.user import state_dir_option
from sysadmd.cli.values import seconds


@click.group()
def token() -> None:
    """Make, list and revoke API tokens.

    The running server is asked through its Unix socket; without one, its database is changed in place.
    """


@token.command()
@click.argument("name")
@click.option("--user", metavar="ACCOUNT", help="The account it stands for. [default: the one of your own name]")
@click.option("--scope", "scopes", multiple=True, metavar="PATTERN", help="Confine it to this; may be repeated.")
@click.option("--expires", type=seconds, metavar="D", help="Its life, such as 12h or 90d. [default: until revoked]")
@state_dir_option
def create(
    *, name: str, user: str | None, scopes: tuple[str, ...], expires: float | None, state_dir: Path | None
) -> None:
    """Make a token for a program and print it, once.

    \b
    sysadmd token create monitor --user ines --scope call:rpc/dispatcher/list --scope 'event:*' --expires 90d
    """  # noqa: D301 - \b is the character that keeps click from rewrapping
    from sysadmd.cli.directory import open_directory
    from sysadmd.cli.render import safe

    args: dict[str, Any] = {"name": name, "expires": expires}
    if user is not None:
        args["user"] = user
    if scopes:
        args["scopes"] = sorted(set(scopes))
    with open_directory(state_dir) as server:
        made = server.call("rpc/tokens/create", args)
    # The token alone on standard output, for scripts; what it is, on standard error, for people.
    print(f"The token {safe(name)} ({made['id']}), shown only now:", file=sys.stderr, flush=True)
    print(made["token"], flush=True)


@token.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal, one token a line.")
@state_dir_option
def list_(*, as_json: bool, state_dir: Path | None) -> None:
    """List the API tokens that hold."""
    from sysadmd.cli.directory import open_directory
    from sysadmd.cli.render import print_rows

    with open_directory(state_dir) as server:
        rows = server.call("rpc/tokens/list")["tokens"]
    columns = {"id": "Id", "account": "Account", "name": "Name", "scopes": "Scopes"}
    print_rows({**columns, "used_at": "Last use", "expires_at": "Expires"}, rows, as_json=as_json)


@token.command()
@click.argument("token_id", metavar="ID")
@state_dir_option
def revoke(*, token_id: str, state_dir: Path | None) -> None:
    """Revoke a token; connections that use it end."""
    from sysadmd.cli.directory import open_directory

    with open_directory(state_dir) as server:
        server.call("rpc/tokens/revoke", {"id": token_id})
