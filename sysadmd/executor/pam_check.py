"""The process that asks PAM once: a question in JSON on stdin, a verdict in JSON on stdout, and it ends.

It holds a password, so it leaves no core file, and it does not trust what it loads: what modules print goes to
/dev/null, and an alarm ends it even where nobody else does.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import resource
import signal
import sys
from typing import Any

ALARM = 15
"""Seconds until the kernel ends it: above the deadline of whoever started it, in case that one is gone."""
QUESTION_LIMIT = 65536
NOBODY = -1
"""The uid in a verdict that is no."""


def main() -> int:
    """Read the question, answer it. Any failure at all is no verdict, and no verdict is a refusal."""
    signal.alarm(ALARM)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    question = json.loads(sys.stdin.buffer.read(QUESTION_LIMIT))
    answer = os.dup(1)  # not inherited, so that no process of a module keeps it open
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    verdict = _verdict(question["service"], question["user"], question["password"])
    with os.fdopen(answer, "w", encoding="utf-8") as file:
        json.dump(verdict, file)
    return 0


def _verdict(service: str, user: str, password: str) -> dict[str, Any]:
    from pam import PamAuthenticator  # the extra `pam`

    asked = PamAuthenticator()
    # pam_authenticate and pam_acct_mgmt. Without pam_setcred: credentials are for a session, which this is not.
    if not asked.authenticate(user, password, service=service, resetcreds=False):
        return {"ok": False, "uid": NOBODY, "groups": [], "reason": str(asked.reason)}
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return {"ok": False, "uid": NOBODY, "groups": [], "reason": "PAM knows it, the system does not"}
    if entry.pw_name != user:
        # Directories are case-insensitive, and have aliases: one person would become several accounts.
        return {"ok": False, "uid": NOBODY, "groups": [], "reason": "the name is spelled otherwise"}
    groups = list(_names(os.getgrouplist(user, entry.pw_gid)))
    return {"ok": True, "uid": entry.pw_uid, "groups": groups, "reason": ""}


def _names(numbers: list[int]) -> list[str]:
    names: list[str] = []
    for number in numbers:
        with contextlib.suppress(KeyError):  # a group without a name is in no configuration
            names.append(grp.getgrgid(number).gr_name)
    return names


if __name__ == "__main__":
    sys.exit(main())
