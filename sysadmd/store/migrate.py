"""Bringing a database to the schema of this release.

A new file gets the tables straight from the metadata and an old one gets its migrations. A database at HEAD, the usual
case, costs one query: Alembic is imported only when there is something to migrate.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, insert, inspect, select

from sysadmd.errors import StateError
from sysadmd.store import rows, tables

MIGRATIONS = Path(__file__).parent / "migrations"


def bring_to_head(connection: Connection, name: str) -> None:
    """Create or migrate the schema inside the caller's transaction.

    `name` is the database in messages. Raises StateError for a database of a newer release, or one that is not ours.
    """
    present = set(inspect(connection).get_table_names())
    if not present:
        tables.metadata.create_all(connection)
        tables.version.create(connection)
        connection.execute(insert(tables.version).values(version_num=tables.HEAD))
        rows.seed(connection)
        return
    if tables.version.name not in present:
        raise StateError(f"{name}: this is not a database of sysadmd (no schema version in it)")
    found = connection.execute(select(tables.version.c.version_num)).scalar()
    if found == tables.HEAD:
        return
    if found not in tables.VERSIONS:
        raise StateError(f"{name}: schema version {found} is newer than this sysadmd knows ({tables.HEAD})")
    upgrade(connection)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Run the migrations up to `revision` on this connection."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
