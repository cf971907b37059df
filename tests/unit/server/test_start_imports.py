"""What a start does not import: each of these costs a tenth of a second that a server may never need."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        *("alembic", "argon2", "click", "cryptography", "jsonschema", "prometheus_client", "rich", "starlette"),
        *("sysadmd.bridge", "uvicorn"),
    ],
)
def test_the_composition_root_leaves_it_for_later(module: str) -> None:
    code = f"import sys, sysadmd.server.app; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_rich_can_be_imported_after_the_server() -> None:
    code = "import sysadmd.server, rich.table"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
