"""The objects in which the native API shows jobs: what a row of a list has, and all that is known of one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sysadmd.jobs.views import AttemptView, JobView
from sysadmd.wire.masking import UNAUTHORIZED

Shown = dict[str, Any]

ROW = (
    "id", "seq", "ext_id", "kind", "name", "lane", "owner", "state", "priority", "force", "progress", "progress_msg",
    "tries_used", "tries_max", "created_at", "run_after", "started_at", "finished_at", "runtime", "worker",
    "steps_total", "steps_ok", "steps_failed",
)  # fmt: skip
"""Keys of a row, in order; the four flags follow."""
_ATTEMPT = (
    "n", "worker", "host", "created_at", "started_at", "finished_at", "outcome", "exit_code", "signal", "error",
    "output_bytes",
)  # fmt: skip


def flags(view: JobView) -> dict[str, bool]:
    """The flags of a job: silent for too long, running for too long, asked to leave, asked to end."""
    return {
        "zombie": view.zombie_at is not None,
        "wall": view.wall_at is not None,
        "removed": view.remove_requested_at is not None,
        "killed": view.kill_requested_at is not None,
    }


def row(view: JobView) -> Shown:
    """A job in a list."""
    return {**{name: getattr(view, name) for name in ROW}, **flags(view)}


def masked_row(view: JobView) -> Shown:
    """A job in a list, for somebody who may not read it: that there is one, and in which state."""
    return {"kind": view.kind, "name": UNAUTHORIZED, "state": view.state}


def whole(view: JobView) -> Shown:
    """All that is known of a job."""
    return {**msgspec.structs.asdict(view), **flags(view)}


def attempt(view: AttemptView) -> Mapping[str, Any]:
    """One execution."""
    return {name: getattr(view, name) for name in _ATTEMPT}
