"""The queue as the caller of a method may use it."""

from __future__ import annotations

from sysadmd.api.services import Services
from sysadmd.dispatcher.service import OUTPUT_DIRECTORY
from sysadmd.jobs.permitted import PermittedJobs
from sysadmd.rpc.call import Call


def jobs_of(call: Call, services: Services) -> PermittedJobs:
    """The jobs, by the caller's rights."""
    outputs = services.config.state_dir / OUTPUT_DIRECTORY
    return PermittedJobs(services.queue, services.tasks, call.caller, outputs)
