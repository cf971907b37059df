"""Run by Alembic: the connection and its transaction come from `sysadmd.store.migrate`."""

from __future__ import annotations

from alembic import context

from sysadmd.store.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
