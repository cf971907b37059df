"""`sysadmd audit`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from sysadmd.cli.user import state_dir_option
from sysadmd.cli.values import anchor
from sysadmd.errors import StateError

if TYPE_CHECKING:
    from sysadmd.store import Store

PAGE = 1000
"""Records that are asked for at once."""
COLUMNS = {"seq": "Number", "when": "Time", "kind": "Kind", "account": "Account", "address": "From", "what": "What"}
SHOWN = {"seq", "time", "kind", "account", "address", "node", "hash", "via", "session"}
"""What has a column of its own, or is shown as JSON only."""


@click.group()
def audit() -> None:
    """Show, export and verify the audit trail.

    It says who did what. Works beside a running server and on the directory of a stopped one.
    """


@audit.command("list")
@click.option("--since", type=click.IntRange(min=1), default=1, metavar="N", help="Begin with this number.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="End after N records.")
@click.option("--kind", metavar="KIND", help="Only this kind, such as login, login_failed, refused or call.")
@click.option("--account", metavar="NAME", help="Only records of this account.")
@click.option("--json", "as_json", is_flag=True, help="JSON also on a terminal, one record a line.")
@state_dir_option
def list_(
    *, since: int, limit: int | None, kind: str | None, account: str | None, as_json: bool, state_dir: Path | None
) -> None:
    """List records, oldest first."""
    from sysadmd.cli.render import for_people, print_rows

    given = {"kind": kind, "account": account}
    wanted = {name: value for name, value in given.items() if value is not None}
    found = _records(state_dir, since, limit, wanted)
    if as_json or not for_people():
        print_rows({}, found, as_json=True)
    else:
        print_rows(COLUMNS, map(_described, found), as_json=False)


@audit.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@state_dir_option
def export(*, file: Path, state_dir: Path | None) -> None:
    """Write the whole trail to FILE (- is standard output), to be kept and verified elsewhere."""
    from sysadmd.auth import audit_export

    with _opened(state_dir) as (store, directory, node), _output(file) as out:
        count = audit_export.export(store, directory, node, out)
    click.echo(f"{count} records", err=True)


@audit.command()
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), metavar="EXPORT", help="Verify this export.")
@click.option(
    "--anchor",
    "anchors",
    type=anchor,
    multiple=True,
    metavar="SEQ:HASH",
    help="A number and its hash as you noted them; may be repeated.",
)
@click.option(
    "--public-key",
    "key_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="KEYFILE",
    help="Your copy of the server's audit.pub, instead of the one beside the trail.",
)
@state_dir_option
def verify(
    *, file: Path | None, anchors: tuple[tuple[int, str], ...], key_file: Path | None, state_dir: Path | None
) -> None:
    """Compute the hash chain and check every signature.

    Exit code 1 says that records are not what was written, and one line names the first of them. Whoever can write the
    database and read audit.key can write the whole trail anew: --anchor and --public-key find that out with what you
    noted elsewhere.
    """
    from sysadmd.auth.audit import verify_store
    from sysadmd.auth.audit_export import verify_export
    from sysadmd.auth.audit_key import read_public_key

    public_key = None if key_file is None else read_public_key(key_file)
    if key_file is not None and public_key is None:
        raise StateError(f"{key_file}: no such file")
    if file is not None:
        verdict = verify_export(file, public_key, dict(anchors))
    else:
        with _opened(state_dir) as (store, directory, _):
            verdict = verify_store(store, directory, dict(anchors), public_key)
    if verdict.reason is not None:
        raise StateError(f"audit record {verdict.first_bad}: {verdict.reason}")
    print(f"{verdict.records} records and {verdict.checkpoints} signatures are as they were written")


def _records(
    state_dir: Path | None, since: int | None, limit: int | None, wanted: dict[str, str]
) -> Iterator[dict[str, Any]]:
    from sysadmd.cli.directory import open_directory

    with open_directory(state_dir) as directory:
        left = limit
        while since is not None and left != 0:
            size = PAGE if left is None else min(left, PAGE)
            page = directory.call("rpc/audit/list", {"since": since, "limit": size, **wanted})
            yield from page["records"]
            since = page["next"]
            left = None if left is None else left - len(page["records"])


def _described(record: dict[str, Any]) -> dict[str, Any]:
    import datetime

    from sysadmd.cli.render import compact

    when = record.get("time")
    shown = ""
    if isinstance(when, int | float):
        shown = f"{datetime.datetime.fromtimestamp(when).astimezone():%Y-%m-%d %H:%M:%S}"
    return {
        **record,
        "when": shown,
        "what": " ".join(
            value if isinstance(value, str) else f"{key}={compact(value)}"
            for key, value in record.items()
            if key not in SHOWN
        ),
    }


@contextmanager
def _opened(state_dir: Path | None) -> Iterator[tuple[Store, Path, str]]:
    """The database, beside a running server or without one; what is read is one moment's."""
    from sysadmd.config import load
    from sysadmd.store import DATABASE_FILE, Store

    config = load(None, {"state_dir": str(state_dir)} if state_dir else {})
    database = config.state_dir / DATABASE_FILE
    if not database.exists():
        raise StateError(f"{database}: there is no database")
    store = Store.open(database)
    try:
        yield store, config.state_dir, config.node
    finally:
        store.close()


@contextmanager
def _output(file: Path) -> Iterator[IO[bytes]]:
    """FILE, which is there when it is complete, readable by its owner alone; or standard output."""
    import os

    if str(file) == "-":
        yield sys.stdout.buffer
        return
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        part.replace(file)
    except OSError as error:
        raise StateError(f"{file}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
