"""`sysadmd worker`."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.option(
    "--name",
    metavar="NAME",
    help="Name of the worker; jobs choose it as NAME@HOST. [default: worker-1, worker-2 and so on]",
)
@click.option(
    "--parallel", type=click.IntRange(1, 1000), metavar="N", help="Tasks that run at once. [default: one for each CPU]"
)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration file of the server.")
@click.option(
    "--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="State directory. [env: SYSADMD_STATE_DIR]"
)
def worker(name: str | None, parallel: int | None, config: Path | None, state_dir: Path | None) -> int:
    """Run tasks of the server's job queue in a process of its own.

    It works beside the server of the same state directory, as the same user, and claims through its Unix socket. The
    server has a worker of its own already; with "task_slots = 0" in the table [jobs] it leaves all tasks to these.

    SIGTERM and SIGINT end it: what runs gets a few seconds, and is given back to the queue after them.
    """
    from sysadmd.cli.owner import become_owner
    from sysadmd.config import load

    overrides = {} if state_dir is None else {"state_dir": str(state_dir)}
    found = load(config, overrides)
    become_owner(found.state_dir)

    from sysadmd.server.worker_process import run

    return run(found, name, parallel or os.cpu_count() or 1)
