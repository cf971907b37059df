"""Who may read or run which job: one rule for every way to the queue.

Jobs are permitted by their name. A transfer besides is its owner's and the administrators' only: what it names and
lists are the owner's files, and all transfers of a type have one name.
"""

from __future__ import annotations

from sysadmd.auth.scope import Scope
from sysadmd.jobs.views import JobView


def is_anothers_transfer(caller: Scope, job: JobView) -> bool:
    """Whether it is a transfer that is neither the caller's nor, as an administrator's, the caller's to see."""
    return job.kind == "transfer" and job.owner != caller.account and not caller.administers


def may(caller: Scope, job: JobView, right: str = "read") -> bool:
    """Whether the caller has a right to a job."""
    return caller.may_job(job.name, right) and not is_anothers_transfer(caller, job)
