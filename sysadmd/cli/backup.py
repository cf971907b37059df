"""`sysadmd backup`."""

from __future__ import annotations

import datetime
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sysadmd.errors import StateError

if TYPE_CHECKING:
    from sysadmd.cli.archive import Manifest
    from sysadmd.cli.progress import Report


@click.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--state-dir", type=click.Path(path_type=Path), metavar="DIR", help="State directory. [env: SYSADMD_STATE_DIR]"
)
@click.option("--config", type=click.Path(path_type=Path), metavar="CONFIG", help="Put this configuration file in too.")
@click.option("--force", is_flag=True, help="Replace FILE where it exists.")
def backup(file: Path, state_dir: Path | None, config: Path | None, force: bool) -> None:
    """Write database, certificate and configuration to one file.

    The server may run meanwhile. FILE holds password hashes and the private keys of the certificate and of the audit
    trail: it is made with mode 0600, and its copies deserve the same. The output of processes is not in it.
    """
    from sysadmd.cli.owner import become_owner
    from sysadmd.cli.progress import progress
    from sysadmd.config import load

    found = load(config, {"state_dir": str(state_dir)} if state_dir else {})
    become_owner(found.state_dir)
    if file.exists() and not force:
        raise StateError(f"{file} exists; --force replaces it")
    with progress() as report:
        manifest = write_backup(file, found.state_dir, found.node, config, report)
    click.echo(f"{file}: {', '.join(entry.name for entry in manifest.files)}", err=True)


def write_backup(file: Path, state_dir: Path, node: str, config: Path | None, report: Report) -> Manifest:
    """Write a backup of a state directory. Raises StateError when there is nothing to back up."""
    from sysadmd import __version__
    from sysadmd.auth.audit_key import KEY_FILE as AUDIT_KEY
    from sysadmd.auth.audit_key import PUBLIC_FILE as AUDIT_PUBLIC
    from sysadmd.cli.archive import Pack
    from sysadmd.keys.bridge import BRIDGE_KEY_FILE
    from sysadmd.keys.certificate import CERTIFICATE_FILE, KEY_FILE
    from sysadmd.store import DATABASE_FILE, Store

    database = state_dir / DATABASE_FILE
    if not database.exists():
        raise StateError(f"{database}: there is no database to back up")
    store = Store.open(database)
    try:
        with tempfile.TemporaryDirectory(prefix=".sysadmd-backup-", dir=file.absolute().parent) as scratch:
            copy = Path(scratch, DATABASE_FILE)
            store.backup(copy, lambda left, total: report("database", total - left, total))
            files = {DATABASE_FILE: copy}
            kept = {"certificate": (CERTIFICATE_FILE, KEY_FILE, BRIDGE_KEY_FILE), "audit": (AUDIT_KEY, AUDIT_PUBLIC)}
            for folder, names in kept.items():
                files |= {f"{folder}/{name}": state_dir / name for name in names if (state_dir / name).exists()}
            if config is not None:
                files["config.toml"] = config
            created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            about = {"version": __version__, "created": created, "node": node, "epoch": store.epoch}
            return Pack(file).write(about, files, report)
    finally:
        store.close()
