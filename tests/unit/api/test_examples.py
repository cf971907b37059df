"""Every example of every schema file, made against a running server: the documentation tells the truth.

A result shows the form, since times, ids and tokens differ on every machine, so it is checked against `returns`; where
it does not depend on the machine it must be equal too (`EQUAL`). An error has the code that the example says.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from sysadmd.auth import identity
from sysadmd.keys.signing import PrivateKey
from sysadmd.listen.discard import DiscardOutlet
from sysadmd.schema import Example, Method, load_methods
from tests.integration.apps import LiveApp, running_app
from tests.integration.servers import Peer

METHODS = load_methods()
EXAMPLES = [
    pytest.param(method, example, id=f"{method.key}: {example.title}")
    for method in METHODS.values()
    for example in method.examples
]
ANSWERED_BY_EACH_MACHINE = {
    "events/subscribe: The end of one job, resumable": "the epoch and the number of the last record",
    "queue/detail: By its number": "the id and the times",
    "queue/enqueue: An hour from now": "the id and the times",
    "queue/history: The last change": "the number of the event and the time",
    "queue/kill: All of one name": "the id",
    "queue/list: What waits": "the id and the times",
    "queue/output: Nothing yet": "the id",
    "queue/remove: One that waits": "the id",
    "queue/restart: One that was killed": "the ids and the times",
    "queue/workers: Who works?": "the times and the slots",
    "rpc/accounts/list: Who may log in?": "times",
    "rpc/audit/list: The first record": "the time, the process and its hash",
    "rpc/audit/verify: All is well": "the number of records",
    "rpc/auth: Log in": "the token",
    "rpc/auth_token: Log in again": "the token",
    "rpc/auth_ssl: Ask for a challenge": "the challenge",
    "rpc/auth_ssl: A classic proof": "the token",
    "rpc/discover: The document (shortened)": "it is shortened",
    "rpc/dispatcher/exec: What does it say?": "the id and the times",
    "rpc/identify: How is a session sealed?": "the key",
    "rpc/sessions/list: Who is connected?": "the id and the times",
    "rpc/settings/list_ssl_certs: Who has which?": "times",
    "rpc/tokens/create: For a monitor, confined and for a year": "the token and the time",
    "rpc/tokens/list: Which programs have one?": "the id and the times",
    "workqueue/copy: One tree": "the number of the user, the id and the time",
    "workqueue/element: Before it began": "the time",
    "workqueue/elements: Before it began": "the time",
    "workqueue/job: One that waits": "the number of the user, the id and the time",
    "workqueue/jobs: Mine": "the number of the user, the id and the time",
    "workqueue/list: One tree": "the number of the user, the id and the time",
    "workqueue/mkdir: One tree": "the number of the user, the id and the time",
    "workqueue/remove: One tree": "the number of the user, the id and the time",
    "workqueue/rename: One tree": "the number of the user, the id and the time",
    "workqueue/retry: One that was cancelled": "the number of the user, the id and the time",
}
"""Examples whose result is not equal, and what differs."""
LIVE_BY_PREPARATION = {
    "rpc/auth_ssl: A classic proof",
    "rpc/auth_token: Log in again",
    "rpc/sessions/kill: Somebody else's",
    "rpc/tokens/revoke: The one of a machine that is gone",
}
"""Examples that no other machine could repeat as they are; the test puts in what they need."""
COMMANDS = "rpc/dispatcher/"


def title(method: Method, example: Example) -> str:
    return f"{method.key}: {example.title}"


def envelope_args(method: Method, args: Any) -> Any:
    return {"action": method.action, **args} if method.action is not None else args


async def make(peer: Peer, method: Method, args: Any) -> dict[str, Any]:
    return await peer.request(method.namespace, method.name, envelope_args(method, args))


@contextlib.asynccontextmanager
async def example_server(directory: Path, method: Method) -> AsyncIterator[LiveApp]:
    """A server on the host of the examples; commands only run where the method is about them."""
    accounts = {"admin": ("admin",)}
    executor = method.key.startswith(COMMANDS)
    sites = {"1": {"dummy": True}, "2": {"dummy": True}}
    async with running_app(directory, executor=executor, accounts=accounts, node="vault", sites=sites) as live:
        yield live


async def prepared_args(live: LiveApp, peer: Peer, method: Method, example: Example) -> Any:
    """The arguments, after the calls that must come before."""
    for before in example.before:
        reply = await make(peer, METHODS[before.call], before.args)
        assert reply["name"] == "response", reply
    if title(method, example) == "rpc/auth_token: Log in again":
        async with live.connect(login=None) as other:
            return {"token": await other.login()}
    if title(method, example) == "rpc/sessions/kill: Somebody else's":
        return {"id": live.app.engine.open(DiscardOutlet(), identity.Peer("192.0.2.1", "rest")).id}
    if title(method, example) == "rpc/tokens/revoke: The one of a machine that is gone":
        made = await peer.call("rpc", "tokens", {"action": "create", "name": "gone"})
        return {"id": made["id"]}
    if title(method, example) == "rpc/auth_ssl: A classic proof":
        key = PrivateKey.generate()
        async with live.connect() as other:
            await other.call("rpc", "settings", {"action": "register_ssl_cert", "pub_key": key.public.pem})
        challenge = await peer.call("rpc", "auth_ssl", {})
        return {"encrypted_string": base64.b64encode(key.sign_classic(challenge["test_string"])).decode()}
    assert example.live, f"{title(method, example)}: say in LIVE_BY_PREPARATION what it needs"
    return example.args


@pytest.mark.parametrize("method,example", EXAMPLES)
async def test_an_example_is_true(tmp_path: Path, method: Method, example: Example) -> None:
    async with example_server(tmp_path, method) as live, live.connect() as peer:
        reply = await make(peer, method, await prepared_args(live, peer, method, example))
        if example.error is not None:
            assert reply["name"] == "error"
            assert reply["args"]["code"] == example.error.code
            assert example.error.code in {case.code for case in method.errors}
            return
        assert reply["name"] == "response", reply
        jsonschema.Draft202012Validator(dict(method.returns)).validate(reply["args"])
        jsonschema.Draft202012Validator(dict(method.returns)).validate(example.result)
        if title(method, example) not in ANSWERED_BY_EACH_MACHINE:
            assert without_state(reply["args"]) == without_state(example.result)


def without_state(result: Any) -> Any:
    """A job that an example begins may still be pending, or run already."""
    if isinstance(result, dict):
        return {key: without_state(value) for key, value in result.items() if (key, value) not in LIVE_STATES}
    return result


LIVE_STATES = (("state", "pending"), ("state", "running"))


def test_the_tables_name_examples_that_exist() -> None:
    titles = {title(method, example) for method in METHODS.values() for example in method.examples}
    assert titles >= LIVE_BY_PREPARATION | ANSWERED_BY_EACH_MACHINE.keys()


def test_only_prepared_examples_are_not_live() -> None:
    not_live = {title(m, e) for m in METHODS.values() for e in m.examples if not e.live}
    assert not_live == LIVE_BY_PREPARATION


def test_every_method_has_an_example() -> None:
    assert [key for key, method in METHODS.items() if not method.examples] == []


@pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
def test_a_method_names_the_refusals_of_its_access(method: Method) -> None:
    codes = {case.code for case in method.errors}
    if method.access == "public":
        assert 403 not in codes
    else:
        assert 401 in codes
    if method.access in {"admin", "run"}:
        assert 403 in codes
