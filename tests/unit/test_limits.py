"""Every limit has a sentence that says why, the same one in the reference, and a sound default."""

from __future__ import annotations

import ast
import itertools
import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

import sysadmd.limits
from sysadmd.config import schemas_root
from sysadmd.limits import Limits

NAMES = [one.name for one in fields(Limits)]


def reasons() -> dict[str, str]:
    """The docstring below each field."""
    tree = ast.parse(Path(sysadmd.limits.__file__).read_text())
    body = next(node for node in tree.body if isinstance(node, ast.ClassDef)).body
    found: dict[str, str] = {}
    for one, after in itertools.pairwise(body):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and isinstance(after, ast.Expr):
            found[one.target.id] = " ".join(str(ast.literal_eval(after.value)).split())
    return found


def documented(name: str) -> dict[str, Any]:
    schema = json.loads((schemas_root() / "config.json").read_text())
    return dict(schema["properties"]["limits"]["properties"][name])


@pytest.mark.parametrize("name", NAMES)
def test_a_limit_says_why(name: str) -> None:
    assert len(reasons()[name]) > 15


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_says_the_same(name: str) -> None:
    assert documented(name)["description"] == reasons()[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_default_is_within_the_range(name: str) -> None:
    node = documented(name)
    assert node["default"] == getattr(Limits(), name)
    assert node["minimum"] <= node["default"] <= node["maximum"]


def test_the_reference_has_no_limit_that_is_gone() -> None:
    schema = json.loads((schemas_root() / "config.json").read_text())
    assert set(schema["properties"]["limits"]["properties"]) == set(NAMES)
