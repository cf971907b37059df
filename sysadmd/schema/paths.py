"""Where the schema files are: inside an installed package, beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

from sysadmd.config import schemas_root


def root() -> Path:
    """The directory that holds methods/, events/, envelope.json and config.json."""
    return schemas_root()
