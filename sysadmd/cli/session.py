"""`sysadmd session`."""

from __future__ import annotations

from pathlib import Path

import click

from sysadmd.cli.user import state_dir_option

COLUMNS = {
    "id": "Id",
    "account": "Account",
    "address": "Address",
    "via": "Via",
    "method": "Log-in",
    "idle": "Idle",
    "subscriptions": "Subscriptions",
    "calls": "Calls",
    "insecure": "Insecure",
}


@click.group()
def session() -> None:
    """List who is connected, and end connections."""


@session.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal, one session a line.")
@state_dir_option
def list_(*, as_json: bool, state_dir: Path | None) -> None:
    """List the open sessions, this one among them."""
    from sysadmd.cli.directory import open_directory
    from sysadmd.cli.render import print_rows

    with open_directory(state_dir) as server:
        rows = server.call("rpc/sessions/list")["sessions"]
    print_rows(COLUMNS, rows, as_json=as_json)


@session.command()
@click.argument("session_id", metavar="ID")
@state_dir_option
def kill(*, session_id: str, state_dir: Path | None) -> None:
    """End a session now; its log-in token is revoked."""
    from sysadmd.cli.directory import open_directory

    with open_directory(state_dir) as server:
        server.call("rpc/sessions/kill", {"id": session_id})
