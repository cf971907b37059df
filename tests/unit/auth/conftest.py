"""Accounts and tokens on a database of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sysadmd.auth.password import Cost
from sysadmd.limits import Limits
from tests.unit.auth.doubles import CHEAP, Auth


@pytest.fixture
def make_auth(tmp_path: Path) -> Iterator[Callable[..., Auth]]:
    made: list[Auth] = []

    def make(limits: Limits | None = None, cost: Cost = CHEAP) -> Auth:
        made.append(Auth(tmp_path, limits, cost))
        return made[-1]

    yield make
    for auth in made:
        auth.store.close()


@pytest.fixture
def auth(make_auth: Callable[..., Auth]) -> Auth:
    return make_auth()
