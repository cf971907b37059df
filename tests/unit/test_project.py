"""The rules that no linter holds: what is where, how long it is, what it is called."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sysadmd

ROOT = Path(__file__).resolve().parent.parent.parent
TOP = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "docs",
    "pyproject.toml",
    "rc.d",
    "schemas",
    "sysadmd",
    "tests",
}
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "manager", "managers", "misc", "common"}
MODULE_LINES = 400
FUNCTION_LINES = 40
SOURCES = sorted((ROOT / "sysadmd").rglob("*.py"))


def tracked() -> list[str]:
    """What git has; nothing in an unpacked release."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    return listed.stdout.splitlines()


def pyproject() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and length of each function, its docstring not counted: explaining is free."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node, clean=False) is not None:
                lines -= (first.end_lineno or first.lineno) - first.lineno + 1
            yield node.name, lines


def test_the_top_of_the_tree_is_as_laid_out() -> None:
    files = tracked()
    if not files:
        pytest.skip("not a git clone: what belongs to the tree is not known")
    assert {name.partition("/")[0] for name in files} <= TOP


def test_a_module_fits_in_a_head() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert not {name: lines for name, lines in lengths.items() if lines > MODULE_LINES}


def test_a_function_fits_on_a_screen() -> None:
    found = [(name_of(path), name, lines) for path in SOURCES for name, lines in functions(path)]
    assert not [each for each in found if each[2] > FUNCTION_LINES]


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert not [name_of(path) for path in SOURCES if path.stem in NAMES_THAT_SAY_NOTHING]
    assert not [name_of(path) for path in SOURCES if path.parent.name in NAMES_THAT_SAY_NOTHING]


def test_unit_tests_mirror_the_package() -> None:
    directories = [
        path for path in (ROOT / "tests" / "unit").rglob("*") if path.is_dir() and any(path.glob("test_*.py"))
    ]
    strays = [
        path for path in directories if not (ROOT / "sysadmd" / path.relative_to(ROOT / "tests" / "unit")).is_dir()
    ]
    assert not [name_of(path) for path in strays]


def test_every_lint_exemption_gives_its_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    section = text[text.index("[tool.ruff.lint]") : text.index("[tool.ruff.lint.flake8-builtins]")]
    codes = [line for line in section.splitlines() if re.search(r'^\s*"[A-Z]+[0-9]*",|= \["[A-Z]+[0-9]', line)]
    assert codes
    assert not [line for line in codes if "  #" not in line]


def test_every_exemption_in_the_code_names_its_rule() -> None:
    bare = re.compile(r"#\s*(noqa(?!: [A-Z])|type: ignore(?!\[))")
    assert not [name_of(path) for path in SOURCES if bare.search(path.read_text())]


def test_the_version_is_one() -> None:
    assert pyproject()["project"]["version"] == sysadmd.__version__


def test_the_changelog_knows_this_version() -> None:
    assert f"## {sysadmd.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_first_screen_of_the_readme_has_the_two_commands() -> None:
    screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:24])
    assert "make run" in screen
    assert "make test" in screen


@pytest.mark.parametrize("target", ["setup", "run", "test", "bench", "lint", "docs"])
def test_make_knows_the_target(target: str) -> None:
    done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_ci_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert "make test" in script.read_text()


@pytest.mark.parametrize(
    "script", ["tests/packages.sh", "rc.d/sysadmd", "rc.d/sysadmd_executor", "rc.d/sysadmd_bridge"]
)
def test_a_shell_script_parses(script: str) -> None:
    done = subprocess.run(["sh", "-n", ROOT / script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_layer_that_exists_is_in_the_contracts() -> None:
    parts = {path.name for path in (ROOT / "sysadmd").iterdir() if (path / "__init__.py").exists()}
    for contract in pyproject()["tool"]["importlinter"]["contracts"]:
        if contract["type"] == "layers":
            named = set(re.findall(r"[a-z]+", " ".join(contract["layers"])))
            assert parts - named <= {"executor", "client"}, contract["name"]
