"""Accounts and tokens written through the real event log."""

from __future__ import annotations

from pathlib import Path

import anyio

from sysadmd.auth.account_table import list_accounts
from sysadmd.auth.accounts import Accounts
from sysadmd.auth.password import Passwords
from sysadmd.auth.tokens import Tokens
from sysadmd.events.log import EventLog
from sysadmd.limits import Limits
from sysadmd.store import Store
from tests.unit.auth.doubles import CHEAP


async def test_what_a_server_wrote_is_there_after_its_stop(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "sysadmd.db")
    log = EventLog(store, node="n", limits=Limits())
    accounts = Accounts(store, log, passwords=Passwords(CHEAP))
    tokens = Tokens(store, log, accounts.policy)
    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda task_status: log.run(task_status=task_status))
        await accounts.add("alice", "secret", ["viewer"])
        await accounts.add("bob", "secret", [])
        scope = await accounts.authenticate("alice", "secret")
        kept, revoked = tokens.issue(scope), tokens.issue(scope)
        tokens.revoke(revoked)
        bobs = tokens.issue(await accounts.authenticate("bob", "secret"))
        await accounts.passwd("bob", "other")
        assert tokens.resolve(bobs) is None
        await accounts.remove("bob")
        assert [row["name"] for row in await accounts.list()] == ["alice"]
        tasks.cancel_scope.cancel()
    store.close()

    store = Store.open(tmp_path / "sysadmd.db")
    assert [row["name"] for row in store.read_now(list_accounts)] == ["alice"]
    again = Accounts(store, log, passwords=Passwords(CHEAP))
    restored = Tokens(store, log, again.policy)
    assert [restored.resolve(token) is not None for token in (kept, revoked, bobs)] == [True, False, False]
    store.close()


async def test_the_last_flush_does_not_wait_for_a_log_that_is_gone(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "sysadmd.db")
    log = EventLog(store, node="n", limits=Limits())
    accounts = Accounts(store, log, passwords=Passwords(CHEAP))
    tokens = Tokens(store, log, accounts.policy)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            await tasks.start(lambda task_status: log.run(task_status=task_status))
            await tasks.start(lambda task_status: tokens.run(task_status=task_status))
            await accounts.add("alice", "secret", [])
            tokens.resolve(tokens.issue(await accounts.authenticate("alice", "secret")))
            tasks.cancel_scope.cancel()
    store.close()
