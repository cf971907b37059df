"""Root at work on a state directory of somebody else.

A server of its own user owns its state directory, and could put a link there. Root would follow it, and what root makes
there the server could not read. So root becomes that user, for good: a command is a process of its own, and ends.
"""

from __future__ import annotations

import os
import pwd
from pathlib import Path


def become_owner(state_dir: Path) -> None:
    """Give up root for the owner of the state directory, where that is another user. Nothing happens to others than
    root, or where there is no directory yet.
    """
    if os.geteuid() != 0:
        return
    try:
        owner = state_dir.stat()
    except FileNotFoundError:
        return
    if owner.st_uid == 0:
        return
    try:
        account = pwd.getpwuid(owner.st_uid)
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
    except KeyError:  # an owner without a name has no groups but the directory's
        os.setgroups([])
        os.setgid(owner.st_gid)
    os.setuid(owner.st_uid)
