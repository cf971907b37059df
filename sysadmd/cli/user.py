"""`sysadmd user`."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

ALPHABET = "abcdefghjkmnpqrstuvwxyz23456789"
"""Nothing that looks like something else when it is read from a screen."""
GROUPS, GROUP = 5, 4
"""20 characters of 31: 99 bits, far beyond any guessing against Argon2."""

state_dir_option = click.option(
    "--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="State directory. [env: SYSADMD_STATE_DIR]"
)


def password_options(command: F) -> F:
    """The two ways to give a password, besides being asked for it."""
    command = click.option("--generate", is_flag=True, help="Make a random password and print it, once.")(command)
    return click.option("--password-stdin", is_flag=True, help="Read it from the first line of standard input.")(
        command
    )


@click.group()
def user() -> None:
    """Add, list, disable and remove accounts, set their passwords and roles.

    The running server is asked through its Unix socket; without one, its database is changed in place.
    """


@user.command()
@click.argument("name")
@click.option(
    "--role",
    "roles",
    multiple=True,
    metavar="ROLE",
    help="admin, operator, viewer or one of `sysadmd role`; may be repeated.",
)
@password_options
@click.option("--if-none", is_flag=True, help="Do nothing when there is an account already.")
@state_dir_option
def add(
    *,
    name: str,
    roles: tuple[str, ...],
    password_stdin: bool,
    generate: bool,
    if_none: bool,
    state_dir: Path | None,
) -> None:
    """Add an account. Without --role it is a viewer."""
    from sysadmd.cli.directory import open_directory

    with open_directory(state_dir) as server:
        if if_none and server.call("rpc/accounts/list")["accounts"]:
            return
        password = _new_password(name, password_stdin=password_stdin, generate=generate)
        args = {"name": name, "password": password, "roles": sorted(set(roles)) or ["viewer"]}
        server.call("rpc/accounts/add", args)
    _show_generated(name, password, generate=generate)


@user.command()
@click.argument("name")
@password_options
@state_dir_option
def passwd(*, name: str, password_stdin: bool, generate: bool, state_dir: Path | None) -> None:
    """Set the password of an account; its tokens end."""
    from sysadmd.cli.directory import open_directory

    with open_directory(state_dir) as server:
        password = _new_password(name, password_stdin=password_stdin, generate=generate)
        server.call("rpc/accounts/passwd", {"name": name, "password": password})
    _show_generated(name, password, generate=generate)


@user.command()
@click.argument("name")
@state_dir_option
def remove(*, name: str, state_dir: Path | None) -> None:
    """Remove an account; its tokens and connections end."""
    from sysadmd.cli.directory import open_directory

    with open_directory(state_dir) as server:
        server.call("rpc/accounts/remove", {"name": name})


@user.command("roles")
@click.argument("name")
@click.option("--role", "roles", multiple=True, metavar="ROLE", help="A role that it has from now on; may be repeated.")
@state_dir_option
def set_roles(*, name: str, roles: tuple[str, ...], state_dir: Path | None) -> None:
    """Give an account these roles instead of those it has; without --role, none."""
    from sysadmd.cli.directory import open_directory

    with open_directory(state_dir) as server:
        server.call("rpc/accounts/set_roles", {"name": name, "roles": sorted(set(roles))})


@user.command()
@click.argument("name")
@state_dir_option
def disable(*, name: str, state_dir: Path | None) -> None:
    """Close an account; its tokens and connections end."""
    _set_disabled(name, state_dir, disabled=True)


@user.command()
@click.argument("name")
@state_dir_option
def enable(*, name: str, state_dir: Path | None) -> None:
    """Open an account again that was closed."""
    _set_disabled(name, state_dir, disabled=False)


@user.command("list")
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal, one account a line.")
@state_dir_option
def list_(*, as_json: bool, state_dir: Path | None) -> None:
    """List the accounts."""
    from sysadmd.cli.directory import open_directory
    from sysadmd.cli.render import print_rows

    with open_directory(state_dir) as server:
        rows = server.call("rpc/accounts/list")["accounts"]
    print_rows({"name": "Name", "source": "Source", "roles": "Roles"}, rows, as_json=as_json)


def _set_disabled(name: str, state_dir: Path | None, *, disabled: bool) -> None:
    from sysadmd.cli.directory import open_directory

    with open_directory(state_dir) as server:
        server.call("rpc/accounts/set_disabled", {"name": name, "disabled": disabled})


def _new_password(name: str, *, password_stdin: bool, generate: bool) -> str:
    from sysadmd.cli.connection import read_password_line

    if password_stdin and generate:
        raise click.UsageError("--password-stdin and --generate exclude each other")
    if generate:
        return "-".join("".join(secrets.choice(ALPHABET) for _ in range(GROUP)) for _ in range(GROUPS))
    if password_stdin:
        return read_password_line()
    if not sys.stdin.isatty():
        raise click.UsageError("without a terminal, --password-stdin or --generate is needed")
    answer: str = click.prompt(f"New password of {name}", hide_input=True, confirmation_prompt=True, err=True)
    return answer


def _show_generated(name: str, password: str, *, generate: bool) -> None:
    """The password alone on standard output, for scripts; what it is, on standard error, for people."""
    if generate:
        print(f"The password of {name}, shown only now:", file=sys.stderr, flush=True)
        print(password, flush=True)
