"""Handlers by their class names, and who may call them."""

from __future__ import annotations

import pytest

from sysadmd.auth.core4_permissions import translated
from sysadmd.auth.scope import Scope
from sysadmd.listen.core4 import names
from sysadmd.listen.core4.app import PATHS
from sysadmd.listen.core4.names import ACTION_OF, Handler
from sysadmd.store.rows import ROLES


def scope(*permissions: str) -> Scope:
    return Scope("ada", (), translated(permissions))


STANDARD_USER = Scope("ada", ("standard_user",), ROLES["standard_user"])


def test_a_standard_user_has_the_standard_handlers_and_no_others() -> None:
    handlers = {name: one for name, one in vars(names).items() if isinstance(one, Handler)}
    permitted = {name for name, one in handlers.items() if one.permits(STANDARD_USER, "read")}
    assert permitted == {"EVENT", "EVENT_HISTORY", "PROFILE", "SYSTEM"}


@pytest.mark.parametrize("name", ["history.JobHistoryHandler", "history.JobHistory", "history.*", ".*"])
def test_either_name_of_a_handler_opens_it(name: str) -> None:
    permission = "api://core4.api.v1.request.queue" + (name if name == ".*" else f".{name}")
    assert names.JOB_HISTORY.permits(scope(permission), "read")


@pytest.mark.parametrize("permission", ["api://core4.api.v1.request.queue.history.Job", "job://.*/x"])
def test_a_beginning_of_a_name_opens_nothing(permission: str) -> None:
    assert not names.JOB_HISTORY.permits(scope(permission), "read")


def test_a_letter_is_one_action() -> None:
    one = scope("api://core4.api.v1.request.role.main.RoleHandler/r")
    assert [action for action in set(ACTION_OF.values()) if names.ROLES.permits(one, action)] == ["read"]


def test_what_changes_something_is_recorded_and_needs_more_than_reading() -> None:
    viewer = Scope("view", ("viewer",), ROLES["viewer"])
    own = {"/v1/profile"}
    for path, verbs in PATHS.items():
        for verb, endpoint in verbs.items():
            if endpoint.handler is None:
                continue
            assert endpoint.changes or verb in {"GET", "POST"}, (path, verb)
            if endpoint.changes and path not in own:
                assert not endpoint.handler.permits(viewer, ACTION_OF[verb], endpoint.access), (path, verb)
