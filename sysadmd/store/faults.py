"""What a fault of the database is to a caller."""

from __future__ import annotations

import sqlite3

from sqlalchemy.exc import OperationalError

from sysadmd.errors import Unavailable


def explain(error: Exception) -> Exception:
    """A database that cannot be read or written now (full, read-only, locked, gone) is 503; the rest stays as it is."""
    if isinstance(error, OperationalError):
        return Unavailable(f"the database cannot be used: {error.orig}")
    if isinstance(error, sqlite3.OperationalError):
        return Unavailable(f"the database cannot be used: {error}")
    return error
