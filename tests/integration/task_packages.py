"""A package of tasks for tests, installed as any other is: by metadata on the interpreter's path."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

from tests import sample_tasks

ROOT = Path(__file__).resolve().parent.parent.parent
PREFIX = "sample."
"""Of the tasks' names: `sample.noop`."""


def task_environment(directory: Path) -> dict[str, str]:
    """Install it below `directory`; what a server's environment needs to find it."""
    place = directory / "packages"
    info = place / "sample_tasks-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: sample-tasks\nVersion: 1.0\n")
    names = [
        name
        for name, value in vars(sample_tasks).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == sample_tasks.__name__ and callable(value)
        if inspect.isclass(value) or inspect.isfunction(value)
    ]
    lines = "".join(f"{PREFIX}{name} = tests.sample_tasks:{name}\n" for name in names)
    (info / "entry_points.txt").write_text(f"[sysadmd.tasks]\n{lines}")
    known = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": os.pathsep.join([str(place), str(ROOT), *([known] if known else [])])}
