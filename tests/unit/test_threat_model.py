"""The threat model has no row without a test that is there, and no part without a look at each kind of threat."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = ROOT / "docs" / "threat-model.md"
LETTERS = set("STRIDE")
NODE_ID = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


@dataclass
class Part:
    name: str
    rows: list[list[str]] = field(default_factory=list)
    excused: dict[str, str] = field(default_factory=dict)


def parts() -> list[Part]:
    found: list[Part] = []
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            found.append(Part(line[3:]))
        elif line.startswith("|") and not re.match(r"\|(---|   \|)", line):
            found[-1].rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif excuse := re.match(r"([STRIDE]) does not apply: (.+)", line):
            found[-1].excused[excuse[1]] = excuse[2]
    return found


PARTS = {part.name: part for part in parts()}
COMPONENTS = (
    "WebSocket listener",
    "REST listener",
    "Unix socket",
    "Sessions and the call pipeline",
    "Authentication",
    "Permissions and roles",
    "Throttle",
    "Audit trail",
    "Event log and subscriptions",
    "Dispatcher",
    "Executor",
    "Jobs and the queue",
    "Workers and tasks",
    "Transfers",
    "core4 API",
    "pdm.workqueue API",
    "Store and state directory",
    "TLS and certificates",
    "Command line and clients",
    "Browser",
    "Backup",
    "Bridge",
    "Links to bridges",
    "Sealed sessions",
    "Clients through a bridge",
)


@cache
def functions_of(path: str) -> frozenset[str]:
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text())
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_each_component_has_its_table() -> None:
    assert list(PARTS) == list(COMPONENTS)
    assert [name for name, part in PARTS.items() if not part.rows] == []


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_has_every_kind_of_threat_or_says_why_not(name: str) -> None:
    part = PARTS[name]
    letters = {row[0] for row in part.rows}
    assert letters <= LETTERS
    assert letters | set(part.excused) == LETTERS
    assert not letters & set(part.excused)


@pytest.mark.parametrize("name", COMPONENTS)
def test_every_row_names_tests_that_are_there(name: str) -> None:
    for row in PARTS[name].rows:
        letter, tried, stopped, tests = row  # four cells, none of which holds a bar
        assert tried
        assert stopped
        named = NODE_ID.findall(tests)
        assert named, (letter, tried)
        assert NODE_ID.sub("", tests).strip(" ,") == "", (letter, tests)
        missing = [f"{path}::{test}" for path, test in named if test not in functions_of(path)]
        assert missing == [], (letter, tried)
        assert all(test.startswith("test_") for _, test in named)
