"""For authors of tasks: Python callables that run as jobs.

::

    from sysadmd.jobs.tasks import defer, logger, progress, task

    @task(attempts=3, error_time=60)
    def mirror(source: str, target: str) -> dict[str, int]:
        if not reachable(source):
            defer("the source is away", delay=300)
        for done, each in enumerate(files := listing(source), 1):
            copy(each, target)
            progress(done / len(files), each)
        logger.info("copied %d files", len(files))
        return {"files": len(files)}

A task is a function, or a class whose method `execute` takes the job's arguments and of which each attempt makes an
instance. Either may be async. Its package registers it under the name that jobs and permissions call it by:

::

    [project.entry-points."sysadmd.tasks"]
    "backup.mirror" = "backup.tasks:mirror"

What it prints, logs or writes to standard error, and what the programs that it starts write, is the attempt's output.
What it returns is the result, if it is JSON. An exception fails the attempt. SIGTERM raises `Terminated` in it, so
`finally` blocks run when it is killed or takes too long; a few seconds later its process group is killed. Attempts
share processes: a task that leaves a thread or a child process behind loses the one it ran in.

Outside of a worker, in the author's own tests, everything here can be called; `progress` does nothing then.
"""

from sysadmd.jobs.tasks.running import Current, Deferred, Terminated, current, defer, logger, progress
from sysadmd.jobs.tasks.settings import TaskSettings, task

__all__ = [
    "Current",
    "Deferred",
    "TaskSettings",
    "Terminated",
    "current",
    "defer",
    "logger",
    "progress",
    "task",
]
