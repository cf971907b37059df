"""The command line. One module holds one command; it is imported when the command is used, so that help is quick."""

from __future__ import annotations

from collections.abc import Sequence


def main(args: Sequence[str] | None = None) -> int:
    """Run one command line (`sys.argv` when `args` is None) and return its exit code."""
    from sysadmd.cli.app import app
    from sysadmd.cli.outcome import run

    return run(app, args)
