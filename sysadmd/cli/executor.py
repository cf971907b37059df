"""`sysadmd executor`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="State directory. [env: SYSADMD_STATE_DIR]"
)
@click.option("--server-user", metavar="NAME", help="Run as root, for a server that runs as NAME.")
@click.option(
    "--executor-dir",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --server-user: root's directory for the socket and the journal. [default: /var/lib/sysadmd-executor]",
)
def executor(state_dir: Path | None, server_user: str | None, executor_dir: Path | None) -> int:
    """Run the executor, which starts commands for the server.

    It outlives the server, so that a restart of the server interrupts no command. `sysadmd serve` starts one where none
    answers; a unit of its own is better.

    With --server-user it takes orders from that account alone, over the socket `executor.sock` in a directory of
    root's, and touches nothing that is the account's; `sysadmd serve --executor-socket` is told of it.
    """
    from sysadmd.config import default_state_dir, root_executor_dir
    from sysadmd.executor.main import main

    if server_user is None:
        if executor_dir is not None:
            raise click.UsageError("--executor-dir goes with --server-user")
        return main(state_dir or default_state_dir())
    if state_dir is not None:
        raise click.UsageError("--server-user and --state-dir exclude each other: the state directory is the server's")
    return main(executor_dir or root_executor_dir(), server_user=server_user)
