"""What the hand-written pages say of the tree is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from sysadmd.cli.app import COMMANDS

ROOT = Path(__file__).resolve().parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
NAMED = re.findall(r"`(\w[\w/]*/test_\w+\.py)::(\w+)`", (ROOT / "docs" / "reliability.md").read_text())


@cache
def defined_in(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / "tests" / path).read_text())
    return frozenset(n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))


def test_every_promise_names_tests_that_are_there() -> None:
    assert len(NAMED) > 50
    assert [f"{path}::{name}" for path, name in NAMED if name not in defined_in(path)] == []


def test_every_promise_has_a_test() -> None:
    rows = [line for line in (ROOT / "docs" / "reliability.md").read_text().splitlines() if line.startswith("| ")]
    assert [row for row in rows if "::test_" not in row and not row.startswith("| what happens")] == []


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_no_page_waits_to_be_filled(page: Path) -> None:
    assert not re.search(r"TO FILL|to be filled|TODO|FIXME", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_a_page_shows_no_command_that_is_not_there(page: Path) -> None:
    shown = set(re.findall(r"^(?:\$ |    )(?:\S*/)?sysadmd ([a-z]+)", page.read_text(), re.MULTILINE))
    assert shown <= set(COMMANDS)


def test_the_readme_links_to_files_that_are_there() -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


@pytest.mark.parametrize("process", ["server", "bridge"])
def test_every_figure_is_explained(process: str) -> None:
    source = (ROOT / "sysadmd" / process / "metrics.py").read_text()
    names = re.findall(r'"(sysadmd_[a-z_]+)"', source)
    names += [f"sysadmd_bridge_{name}" for name in re.findall(r'_(?:gauge|counter|by)\("(\w+)"', source)]
    assert len(names) > 5
    page = (ROOT / "docs" / "operations.md").read_text()
    assert [name for name in names if not re.search(rf"`{name}(_total)?`", page)] == []
