"""What commands print: for people on a terminal, for programs in a pipe.

Text from a server may hold anything, also the control sequences of terminals and characters that reorder a line.
Nothing of that reaches a terminal: JSON escapes it, `safe` makes it visible.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

import msgspec

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
"""C0 but tab and newline, DEL, C1, and the bidirectional controls (Unicode 15 §23.2): what a terminal acts upon."""


def for_people(stream: TextIO | None = None) -> bool:
    """Whether a person reads this stream (standard output when None)."""
    return (stream or sys.stdout).isatty()


def safe(text: str) -> str:
    r"""The text with everything that a terminal would act upon written as `\xNN` or `\uNNNN`."""
    return _UNSAFE.sub(_escape, text)


def one_line(text: str) -> str:
    """The text, safe, on one line."""
    return safe(" ".join(text.split("\n")))


def compact(value: Any) -> str:
    """JSON on one line."""
    return _safe_json(msgspec.json.encode(value))


def print_json(value: Any) -> None:
    """JSON: indented and coloured on a terminal, one compact line in a pipe."""
    if not for_people():
        print(compact(value))
        return
    from rich.console import Console
    from rich.highlighter import JSONHighlighter

    pretty = _safe_json(msgspec.json.format(msgspec.json.encode(value), indent=2))
    Console().print(JSONHighlighter()(pretty), soft_wrap=True)


def print_rows(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]], *, as_json: bool) -> None:
    """Rows as a table, or as one JSON object a line in a pipe and with `--json`. `columns` maps keys to headings."""
    if as_json or not for_people():
        for row in rows:
            print(compact(row))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in columns.values():
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(key))) for key in columns))
    Console().print(table)


def flat(value: Any, path: Sequence[str] = ()) -> Iterable[tuple[str, Any]]:
    """`(dotted path, leaf)` of nested objects; a key that holds a dot is quoted, a list is a leaf."""
    if isinstance(value, dict) and (value or not path):
        for key, item in value.items():
            yield from flat(item, (*path, f'"{key}"' if "." in key else key))
    else:
        yield ".".join(path), value


def _safe_json(encoded: bytes) -> str:
    # JSON may write any character as an escape, so this stays the same JSON value. C0 is escaped already.
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", encoded.decode())


def _escape(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return one_line(", ".join(value))
    return compact(value)
