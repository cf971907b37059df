"""From rows and values to what the queue shows (views.py)."""

from __future__ import annotations

from operator import attrgetter
from typing import Any

from sysadmd.jobs.lifecycle import QueuedJob, QueuedStep
from sysadmd.jobs.queue_table import OpenAttempt
from sysadmd.jobs.views import AttemptView, JobView, StepView

_SAME = tuple(name for name in JobView.__struct_fields__ if name in QueuedJob.__struct_fields__)
_STEP_SAME = tuple(name for name in StepView.__struct_fields__ if name in QueuedStep.__struct_fields__)
_same, _step_same = attrgetter(*_SAME), attrgetter(*_STEP_SAME)
_ATTEMPT_SAME = tuple(name for name in AttemptView.__struct_fields__ if name in OpenAttempt.__struct_fields__)


def job_view(job: QueuedJob, args: Any) -> JobView:
    """A job as it is shown. `run_after` is when it is due: the time of the retry, where one waits."""
    values = dict(zip(_SAME, _same(job), strict=True))
    values["run_after"] = job.due_at if job.due_at is not None else job.run_after
    counters = job.counters
    return JobView(
        args=args or {},
        steps_total=counters.total,
        steps_ok=counters.ok,
        steps_failed=counters.failed,
        stage=counters.stage,
        **values,
    )


def step_view(step: QueuedStep, spec: Any) -> StepView:
    """A step as it is shown."""
    values = dict(zip(_STEP_SAME, _step_same(step), strict=True))
    values["run_after"] = step.run_after or None
    return StepView(spec=spec or {}, **values)


def attempt_view(attempt: OpenAttempt) -> AttemptView:
    """An attempt as it is shown; who knows its lease may end it, so that is not."""
    return AttemptView(worker=attempt.worker_id, **{name: getattr(attempt, name) for name in _ATTEMPT_SAME})
