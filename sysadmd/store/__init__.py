"""The database: every table, its migrations, one writer and a few readers.

Only this package names SQLite. The tables and statements elsewhere are SQLAlchemy Core and mean the same on PostgreSQL.
"""

from __future__ import annotations

from sysadmd.store.database import DATABASE_FILE, Store

__all__ = ["DATABASE_FILE", "Store"]
