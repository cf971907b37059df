"""What seed 001 calls the dispatcher: processes in lanes, run by the executor, told about by events."""

from __future__ import annotations

from sysadmd.dispatcher.service import Dispatcher
from sysadmd.jobs.command import ProcessSpec

__all__ = ["Dispatcher", "ProcessSpec"]
