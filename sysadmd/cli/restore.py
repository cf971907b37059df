"""`sysadmd restore`.

Everything is unpacked, verified and brought to this release's schema in a directory beside, on the same file system; a
failure up to there leaves the old state as it was. Then only renames are left: the old files go aside, where they are
kept, and the new ones take their places.
"""

from __future__ import annotations

import shutil
import tempfile
import time
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
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="CONFIG", help="Write the backup's configuration file there."
)
@click.option("--force", is_flag=True, help="Restore over what is there; it is moved aside, not lost.")
def restore(file: Path, state_dir: Path | None, config: Path | None, force: bool) -> None:
    """Bring back what a backup holds.

    The server must not run. Sums are verified before anything is touched. Events get a new epoch, so that clients which
    resume learn of the gap.
    """
    from sysadmd.cli.owner import become_owner
    from sysadmd.cli.progress import progress
    from sysadmd.config import default_state_dir
    from sysadmd.store.lock import StateLock

    directory = (state_dir or default_state_dir()).absolute()
    become_owner(directory)
    if config is not None and config.exists() and not force:
        raise StateError(f"{config} exists; --force replaces it")
    with StateLock(directory), progress() as report:
        manifest, aside = restore_backup(file, directory, config, report, force=force)
    click.echo(f"{directory}: restored {manifest.node} of {manifest.created}", err=True)
    if aside is not None:
        click.echo(f"{aside}: what was there before", err=True)
    if config is None and any(entry.name == "config.toml" for entry in manifest.files):
        click.echo("the backup's config.toml was left out; --config FILE writes it", err=True)


def restore_backup(
    file: Path, state_dir: Path, config: Path | None, report: Report, *, force: bool
) -> tuple[Manifest, Path | None]:
    """Restore into a locked state directory; returns the manifest and where the old files are now."""
    from sysadmd.cli.archive import unpack
    from sysadmd.store import DATABASE_FILE

    if (state_dir / DATABASE_FILE).exists() and not force:
        raise StateError(f"{state_dir} holds a database; --force moves it aside")
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=state_dir) as scratch:
        staged = Path(scratch)
        manifest = unpack(file, staged, report)
        names = [entry.name for entry in manifest.files]
        if DATABASE_FILE not in names:
            raise StateError(f"{file}: holds no database")
        _begin_new_epoch(staged / DATABASE_FILE)
        if config is not None:
            if "config.toml" not in names:
                raise StateError(f"{file}: holds no configuration file")
            _place_config(staged / "config.toml", config)
        moves = {staged / name: state_dir / Path(name).name for name in names if name != "config.toml"}
        return manifest, _swap(moves, state_dir, DATABASE_FILE)


def _begin_new_epoch(database: Path) -> None:
    """Migrate the database to this release and end its history: its old resume tokens must not match new records."""
    from sysadmd.store import Store

    store = Store.open(database)
    try:
        store.new_epoch()
    finally:
        store.close()


def _place_config(staged: Path, config: Path) -> None:
    part = config.with_name(f".{config.name}.part")
    try:
        shutil.copyfile(staged, part)
        part.replace(config)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise StateError(f"{config}: {error.strerror}") from error


def _swap(moves: dict[Path, Path], state_dir: Path, database: str) -> Path | None:
    """Move what is in the way aside, then the new files in. Returns where the old ones went, if there were any."""
    from sysadmd.cli.archive import sync_directory

    # A write-ahead log that stays beside another database would be replayed into it.
    leftovers = [state_dir / f"{database}{suffix}" for suffix in ("-wal", "-shm")]
    old = [path for path in (*moves.values(), *leftovers) if path.exists()]
    aside = None
    if old:
        aside = state_dir / time.strftime("before-restore-%Y%m%dT%H%M%SZ", time.gmtime())
        aside.mkdir(mode=0o700)
        for path in old:
            path.rename(aside / path.name)
    for source, target in moves.items():
        source.rename(target)
    sync_directory(state_dir)
    return aside
