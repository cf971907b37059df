"""What an attempt is started with: its environment, its bounds, its user."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping

from sysadmd.config import Config
from sysadmd.executor.protocol import AttemptLimits, Start
from sysadmd.jobs.model import Attempt, Job

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""For a server that was started without a PATH."""


class Launcher:
    """Makes `Start` frames. The environment is what the configuration's allow-list lets through, never all of the
    server's.
    """

    def __init__(self, config: Config, environ: Mapping[str, str] = os.environ) -> None:
        options = config.dispatcher
        allowed = {name: environ[name] for name in options.environment if name in environ}
        if options.executor_socket is not None:  # root runs it, whoever the server is
            allowed |= {name: value for name, value in _account("root").items() if name in options.environment}
        self._environment = {"PATH": DEFAULT_PATH, **allowed, **options.variables}
        self._timeout = options.timeout
        self._grace = config.limits.kill_grace
        self._no_new_privs = options.no_new_privs
        self._rlimits = {name.lower(): value for name, value in options.rlimits.items()}

    def frame(self, job: Job, attempt: Attempt) -> Start:
        """The frame that starts the attempt."""
        environment = self._environment
        if job.user is not None:
            environment = {**environment, **_account(job.user)}
        timeout = self._timeout if job.timeout is None else job.timeout
        return Start(
            attempt=attempt.id,
            lease=attempt.lease,
            argv=list(job.steps[attempt.idx].argv),
            env=environment,
            cwd=job.cwd or "/",
            user=job.user,
            limits=AttemptLimits(
                timeout=timeout, grace=self._grace, no_new_privs=self._locked(job), rlimits=self._rlimits
            ),
        )

    def _locked(self, job: Job) -> bool:
        """Whether set-uid programs give nothing: who was named as a lesser user stays one, unless the job says so."""
        if job.no_new_privs is not None:
            return job.no_new_privs
        return self._no_new_privs or (job.user is not None and not _is_root(job.user))


def known_user(name: str) -> bool:
    """Whether the machine has that account."""
    return bool(_account(name))


def _is_root(name: str) -> bool:
    try:
        return pwd.getpwnam(name).pw_uid == 0
    except KeyError:
        return False


def _account(name: str) -> Mapping[str, str]:
    """What login(1) sets of an account; empty when there is none, which the executor then refuses with its reason."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return {}
    return {"HOME": entry.pw_dir, "USER": name, "LOGNAME": name}
