"""The schema that migrations make is the schema that the tables say."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, select, update

from sysadmd.errors import StateError
from sysadmd.store import Store, tables
from sysadmd.store.migrate import MIGRATIONS, upgrade


def migrated(path: Path) -> None:
    """A database made by the migrations alone, as an upgrade from the first release would."""
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        upgrade(connection)
    engine.dispose()


def schema(path: Path) -> dict[str, list[str]]:
    """What SQLite keeps of each table and index; the order of a table's constraints means nothing."""
    with sqlite3.connect(path) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    connection.close()
    return {
        name: sorted(" ".join(sql.split()).removesuffix(" )").split(", "))
        for name, sql in rows
        if name != "alembic_version"
    }


def test_migrations_make_exactly_the_schema_of_a_new_database(tmp_path: Path) -> None:
    migrated(tmp_path / "old.db")
    Store.open(tmp_path / "new.db").close()
    assert schema(tmp_path / "old.db") == schema(tmp_path / "new.db")


def test_autogenerate_finds_nothing_to_migrate(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "new.db")

    def compare(connection: Connection) -> object:
        return compare_metadata(MigrationContext.configure(connection), tables.metadata)

    assert store.read_now(compare) == []
    store.close()


def test_migrations_make_the_rows_of_a_new_database(tmp_path: Path) -> None:
    migrated(tmp_path / "old.db")
    Store.open(tmp_path / "new.db").close()
    found = []
    for name in ("old.db", "new.db"):
        store = Store.open(tmp_path / name)
        found.append(store.read_now(lambda c: [c.execute(select(t)).all() for t in (tables.role, tables.lane)]))
        assert len(store.epoch) == 16
        store.close()
    assert found[0] == found[1]
    assert all(found[0])


def test_the_head_constant_is_the_newest_script() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    scripts = ScriptDirectory.from_config(config)
    assert scripts.get_current_head() == tables.HEAD
    assert {script.revision for script in scripts.walk_revisions()} == tables.VERSIONS


def test_a_database_at_head_needs_no_alembic(tmp_path: Path) -> None:
    path = tmp_path / "a.db"
    Store.open(path).close()
    code = (
        "import sys; from pathlib import Path; from sysadmd.store import Store; "
        "Store.open(Path(sys.argv[1])).close(); sys.exit('alembic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 0


def test_a_database_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "a.db")
    store.write_now(lambda c: c.execute(update(tables.version).values(version_num="9999")))
    store.close()
    with pytest.raises(StateError, match=r"a\.db: schema version 9999 is newer"):
        Store.open(tmp_path / "a.db")


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "a.db") as connection:
        connection.execute("CREATE TABLE flowers (name TEXT)")
    connection.close()
    with pytest.raises(StateError, match="not a database of sysadmd"):
        Store.open(tmp_path / "a.db")
