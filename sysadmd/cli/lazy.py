"""A click group that imports a command only when that command is used.

`sysadmd --help` has 0.15 s in all, and the imports of one command (an event loop, a database, a table printer) cost
more than that. So the group knows for each command its module and its line in the help; a test holds the lines equal
to what the commands say of themselves.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import click


class PipeClosed(Exception):
    """The reader of our output went away. click would turn the BrokenPipeError into exit code 1."""


class Lazy(NamedTuple):
    """A command that is not imported yet: `target` is `module:attribute`, `summary` its line in the help."""

    target: str
    summary: str


class LazyGroup(click.Group):
    """A group of `Lazy` commands."""

    def __init__(self, *args: Any, lazy: Mapping[str, Lazy] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the table, which is the order of the help."""
        return [*self.lazy, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        entry = self.lazy.get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = entry.target.partition(":")
        command = getattr(importlib.import_module(module), attribute)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in self.lazy.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a reader that goes away is told apart from every other failure."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise PipeClosed from error
