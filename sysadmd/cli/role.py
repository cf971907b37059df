"""`sysadmd role`."""

from __future__ import annotations

from pathlib import Path

import click

from sysadmd.cli.user import state_dir_option


@click.group()
def role() -> None:
    """List, set and remove roles: what accounts may do.

    The running server is asked through its Unix socket, and open connections have a change at once; without a server,
    its database is changed in place.
    """


@role.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal, one role a line.")
@state_dir_option
def list_(*, as_json: bool, state_dir: Path | None) -> None:
    """List the roles with their permissions and the roles that they include."""
    from sysadmd.cli.directory import open_directory
    from sysadmd.cli.render import print_rows

    with open_directory(state_dir) as server:
        rows = server.call("rpc/roles/list")["roles"]
    print_rows({"name": "Name", "patterns": "Permissions", "includes": "Includes"}, rows, as_json=as_json)


@role.command("set")
@click.argument("name")
@click.option("--pattern", "patterns", multiple=True, metavar="P", help="A permission; may be repeated.")
@click.option("--include", "includes", multiple=True, metavar="ROLE", help="A role to include; may be repeated.")
@state_dir_option
def set_(*, name: str, patterns: tuple[str, ...], includes: tuple[str, ...], state_dir: Path | None) -> None:
    """Make a role, or replace what it grants.

    \b
    sysadmd role set nightly --pattern call:rpc/dispatcher/run --pattern 'job:nightly_*:run' --include viewer
    """  # noqa: D301 - \b is the character that keeps click from rewrapping
    from sysadmd.cli.directory import open_directory

    args = {"name": name, "patterns": sorted(set(patterns)), "includes": sorted(set(includes))}
    with open_directory(state_dir) as server:
        server.call("rpc/roles/set", args)


@role.command()
@click.argument("name")
@state_dir_option
def remove(*, name: str, state_dir: Path | None) -> None:
    """Remove a role that no account has and no other role includes."""
    from sysadmd.cli.directory import open_directory

    with open_directory(state_dir) as server:
        server.call("rpc/roles/remove", {"name": name})
