"""How SQLite runs the statements of a function: what must use an index is tested to do so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, event

from sysadmd.store import Store


def plans(store: Store, function: Callable[[Connection], Any]) -> str:
    """The lines of EXPLAIN QUERY PLAN for every statement that `function` runs."""
    statements: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, _many: Any) -> None:
        statements.append((statement, parameters))

    def explain(connection: Connection) -> list[str]:
        event.listen(connection, "before_cursor_execute", note)
        function(connection)
        event.remove(connection, "before_cursor_execute", note)
        cursor = connection.connection.cursor()
        lines: list[str] = []
        for statement, parameters in statements:
            cursor.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            lines += [row[3] for row in cursor.fetchall()]
        return lines

    return "\n".join(store.read_now(explain))
