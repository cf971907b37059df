"""Configuration keys, limits and error codes."""

from __future__ import annotations

import ast
import dataclasses
import json
from pathlib import Path

from sysadmd import errors as tree
from sysadmd.config import FIXED, RELOADABLE
from sysadmd.limits import GIB, KIB, MIB, Limits
from sysadmd_reference.schema_text import cell, rows, table

TIMES = {"timeout", "deadline", "window", "block", "interval", "idle", "absolute", "update", "grace", "drain"}
SIZES = {"bytes", "buffer", "log", "cap", "unauthenticated", "authenticated", "bridge"}


def config(path: Path) -> str:
    """All keys of the configuration file, and those of them that SIGHUP applies."""
    schema = json.loads(path.read_text())
    live = [f"- {_whole_table(key)}" if key.endswith(".*") else f"- `{key}`" for key in sorted(RELOADABLE)]
    parts = [
        "# Configuration",
        schema["description"],
        "A key `a.b` is the key `b` of the table `[a]`.",
        table(rows(schema)),
        "## What SIGHUP applies",
        "A change of one of these takes effect when the file is read again; a change of any other needs a restart.",
        "\n".join(live),
    ]
    return "\n\n".join(parts) + "\n"


def _whole_table(key: str) -> str:
    fixed = [f"`{one}`" for one in sorted(FIXED) if one.startswith(key[:-1])]
    return f"every key of `[{key[:-2]}]`" + (f" but {', '.join(fixed)}" if fixed else "")


def limits(path: Path) -> str:
    """All limits with their defaults and reasons, which are the docstrings below them in the source."""
    reasons = docstrings(path)
    lines = [
        "# Limits",
        "",
        "Keys of the table `[limits]` of the configuration.",
        "",
        "| key | default | reason |",
        "|---|---:|---|",
    ]
    for field in dataclasses.fields(Limits):
        value = quantity(field.name, float(str(field.default)))
        lines.append(f"| `{field.name}` | {value} | {cell(reasons[field.name])} |")
    return "\n".join(lines) + "\n"


def docstrings(path: Path) -> dict[str, str]:
    """The string below each annotated assignment of the class `Limits`."""
    found: dict[str, str] = {}
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ClassDef) and node.name == "Limits":
            for this, following in zip(node.body, node.body[1:], strict=False):
                if isinstance(this, ast.AnnAssign) and isinstance(this.target, ast.Name):
                    assert isinstance(following, ast.Expr)
                    found[this.target.id] = str(ast.literal_eval(following.value))
    return found


def quantity(name: str, value: float) -> str:
    """`1 MiB`, `30 s`, `20`: the unit follows from the last word of the name."""
    last = name.rsplit("_", 1)[-1]
    if last in SIZES:
        for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
            if value >= size:
                return f"{value / size:g} {unit}"
        return f"{value:g} B"
    if last in TIMES:
        for unit, size in (("h", 3600), ("min", 60)):
            if value >= 2 * size and value % size == 0:
                return f"{value / size:g} {unit}"
        return f"{value:g} s"
    return f"{value:,g}" if value < 1 else f"{value:,.0f}"


def errors() -> str:
    """The codes that an answer can carry."""
    lines = ["# Error codes", "", "The codes are those of HTTP (RFC 9110 §15); 499 is what a caller withdrew.", ""]
    lines += ["| code | name | when |", "|---:|---|---|"]
    # Direct children only: the root is InternalError's code without its meaning, and what is further below has no code
    # of its own.
    for error in sorted(tree.RpcError.__subclasses__(), key=lambda error: error.code):
        said = (error.__doc__ or "").strip().splitlines()[0]
        lines.append(f"| {error.code} | {error.title} | {cell(said)} |")
    return "\n".join(lines) + "\n"
