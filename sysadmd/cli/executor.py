"""`sysadmd executor`."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option(
    "--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="State directory. [env: SYSADMD_STATE_DIR]"
)
def executor(state_dir: Path | None) -> int:
    """Run the executor, which starts commands for the server.

    It outlives the server, so that a restart of the server interrupts no command. `sysadmd serve` starts one where none
    answers; a unit of its own is better.
    """
    from sysadmd.config import default_state_dir
    from sysadmd.executor.main import main

    return main(state_dir or default_state_dir())
