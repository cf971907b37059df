"""The registry: schema and handler of each method, and how a request finds them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sysadmd import api
from sysadmd.errors import BadRequest, NotFound, RpcError, SysadmdError
from sysadmd.rpc.registry import Registry
from sysadmd.schema import load_methods
from tests.unit.rpc.rig import METHODS, auth, declared, echo, identify, registry, scope, strict


def test_a_handler_without_a_schema_is_refused() -> None:
    with pytest.raises(SysadmdError, match="the handler test/echo has no schema"):
        Registry({}, [echo])


def test_a_schema_without_a_handler_is_refused() -> None:
    with pytest.raises(SysadmdError, match=r"schemas/methods/test/echo\.json has no handler"):
        Registry({"test/echo": declared("test/echo")}, [])


def test_two_handlers_of_one_method_are_refused() -> None:
    with pytest.raises(SysadmdError, match="two handlers for test/echo"):
        Registry({"test/echo": declared("test/echo")}, [echo, echo])


def test_every_mismatch_is_named_at_once() -> None:
    with pytest.raises(SysadmdError) as caught:
        Registry({"a/b": declared("a/b"), "a/c": declared("a/c")}, [echo])
    assert str(caught.value).count(";") == 2


def with_aliases(*aliases: str) -> Registry:
    return Registry({"test/echo": replace(declared("test/echo"), aliases=aliases)}, [echo])


@pytest.mark.parametrize("address", [("old", "echo", None), ("old", "settings", "say"), ("OLD", "Settings", "Say")])
def test_a_request_is_found_by_an_alias(address: tuple[str, str, str | None]) -> None:
    assert with_aliases("old/echo", "old/settings/say").find(*address).method.key == "test/echo"


def test_an_alias_is_not_listed() -> None:
    assert list(with_aliases("old/echo").methods) == ["test/echo"]
    assert [method.key for method in with_aliases("old/echo").allowed(scope())] == ["test/echo"]


def test_an_alias_that_is_another_method_is_refused() -> None:
    methods = {"test/echo": replace(declared("test/echo"), aliases=("test/strict/run",))}
    with pytest.raises(SysadmdError, match="the alias test/strict/run is another method"):
        Registry(methods | {"test/strict/run": declared("test/strict/run")}, [echo, strict])


def test_the_shipped_methods_and_handlers_match() -> None:
    assert Registry(load_methods(), api.handlers()).methods


@pytest.mark.parametrize(
    "namespace,name,action,key",
    [
        ("test", "echo", None, "test/echo"),
        ("TEST", "Echo", None, "test/echo"),
        ("test", "strict", "run", "test/strict/run"),
        ("test", "STRICT", "Run", "test/strict/run"),
        ("RPC", "identify", None, "rpc/identify"),
        ("Rpc", "auth", None, "rpc/auth"),
        # An action means nothing to a method that has none.
        ("test", "echo", "anything", "test/echo"),
    ],
)
def test_a_request_is_found(namespace: str, name: str, action: str | None, key: str) -> None:
    assert registry().find(namespace, name, action).method.key == key


@pytest.mark.parametrize(
    "namespace,name,action,error",
    [
        ("weather", "echo", None, NotFound),
        ("test", "weather", None, NotFound),
        ("", "", None, NotFound),
        ("test", "strict", "walk", BadRequest),
        ("test", "strict", None, BadRequest),
        ("test", "strict", "", BadRequest),
        # The names of the log-in are matched as they are (spec sysadm §2.1, §2.4).
        ("rpc", "Identify", None, NotFound),
        ("rpc", "AUTH", None, NotFound),
        ("rpc", "Auth_Token", None, NotFound),
    ],
)
def test_what_is_not_there_is_told(namespace: str, name: str, action: str | None, error: type[RpcError]) -> None:
    with pytest.raises(error):
        registry().find(namespace, name, action)


def test_an_unknown_name_of_events_is_a_bad_request() -> None:
    """Elsewhere it would be 404; there the names are the actions (spec sysadm §5.1)."""
    with pytest.raises(BadRequest) as caught:
        Registry(load_methods(), api.handlers()).find("Events", "listen", None)
    assert str(caught.value) == "name: unknown name 'listen'; events has subscribe, unsubscribe"


def test_an_unknown_action_names_the_path_the_rule_and_the_known_ones() -> None:
    with pytest.raises(BadRequest) as caught:
        registry().find("test", "strict", "walk")
    assert (caught.value.path, caught.value.rule) == ("args.action", "enum")
    assert str(caught.value) == "args.action: unknown action 'walk'; test/strict has run"


def test_a_scope_lists_what_it_may_call_and_what_is_public() -> None:
    small = Registry(
        {one.key: one for one in METHODS if one.key in {"rpc/auth", "rpc/identify", "test/echo", "test/strict/run"}},
        [auth, identify, echo, strict],
    )

    def keys(*patterns: str) -> list[str]:
        return [one.key for one in small.allowed(scope("ann", *patterns))]

    assert keys("call:*") == ["rpc/auth", "rpc/identify", "test/echo", "test/strict/run"]
    assert keys("call:@read") == ["rpc/auth", "rpc/identify", "test/echo"]
    assert keys("event:*") == ["rpc/auth", "rpc/identify"]


@pytest.mark.parametrize("args,named", [([1], {"n": 1}), ([], {})])
def test_positional_parameters_take_the_names_of_the_schema(args: list[Any], named: dict[str, Any]) -> None:
    assert registry().find("test", "strict", "run").named(args) == named


def test_more_parameters_than_the_method_has_are_refused() -> None:
    with pytest.raises(BadRequest, match="2 positional parameters, test/strict/run has 1: n"):
        registry().find("test", "strict", "run").named([1, 2])
