"""The method registry: schema files and handlers, one of each for every method, or the server does not start."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any
from weakref import WeakKeyDictionary

from sysadmd.auth.scope import Scope
from sysadmd.errors import BadRequest, NotFound, RpcError, SysadmdError
from sysadmd.rpc.call import Handler
from sysadmd.schema import Method, Validator
from sysadmd.schema.redact import Redactor

UNLISTED = frozenset({"rpc/identify", "rpc/query", "rpc/discover", "rpc/cancel"})
"""Subsystems that `rpc/query` leaves out."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One callable method: its schema, its compiled validator and its handler.

    `parameters` are the names of its arguments in the order of the schema, where they are an object.
    """

    method: Method
    validator: Validator
    handler: Handler
    is_async: bool
    parameters: tuple[str, ...]
    redact: Redactor

    def named(self, args: list[Any]) -> Any:
        """Positional parameters (JSON-RPC 2.0 §4.2) as the object that the method takes."""
        if not self.parameters:
            return args
        if len(args) > len(self.parameters):
            known = ", ".join(self.parameters)
            raise BadRequest(
                f"args: {len(args)} positional parameters, {self.method.key} has {len(self.parameters)}: {known}",
                path="args",
                rule="maxItems",
            )
        return dict(zip(self.parameters, args, strict=False))


class Registry:
    """Every method of the server, found by namespace, name and action."""

    def __init__(self, methods: Mapping[str, Method], handlers: Iterable[Handler]) -> None:
        by_key: dict[str, Handler] = {}
        for handler in handlers:
            key: str = handler.__method__  # type: ignore[attr-defined]
            if key in by_key:
                raise SysadmdError(f"two handlers for {key}")
            by_key[key] = handler
        _same_keys(set(methods), set(by_key))
        self.methods = dict(sorted(methods.items()))
        self.access = {key: declared.access for key, declared in self.methods.items()}
        """Of which access class each method is."""
        self._subsystems: WeakKeyDictionary[Scope, dict[str, str]] = WeakKeyDictionary()
        self._entries: dict[tuple[str, str], dict[str | None, Entry]] = {}
        for key, declared in self.methods.items():
            handler = by_key[key]
            is_async = inspect.iscoroutinefunction(handler)
            if declared.mutates and not is_async:
                raise SysadmdError(
                    f"{key} changes something, so its answer waits for its record: it has to be a coroutine"
                )
            redact = Redactor(declared.args)
            entry = Entry(declared, Validator(declared.args), handler, is_async, _parameters(declared), redact)
            self._entries.setdefault((declared.namespace, declared.name), {})[declared.action] = entry
            for alias in declared.aliases:
                self._add_alias(alias, entry)

    def find(self, namespace: str, name: str, action: str | None) -> Entry:
        """The entry that a request addresses: `NotFound` for an unknown namespace or name, `BadRequest` for an unknown
        action.
        """
        actions = self._actions(namespace, name)
        if actions is None:
            raise self._unknown(namespace, name)
        entry = actions.get(action) or actions.get(action and action.lower())
        if entry is None and action is not None:
            entry = actions.get(action.lower())  # the originals lower it first (spec sysadm §4)
        if entry is None:
            entry = actions.get(None)
        if entry is None:
            known = ", ".join(sorted(a for a in actions if a))
            what = f"unknown action {action!r}" if action else "missing action"
            raise BadRequest(f"args.action: {what}; {namespace}/{name} has {known}", path="args.action", rule="enum")
        return entry

    def subsystems(self, scope: Scope) -> dict[str, str]:
        """`"<namespace>/<name>": "read/write"|"read"` of what this scope may call, without what every peer has.

        Clients ask it again and again, to see that the server is there (spec sysadm §1.4); the answer is the same as
        long as the scope is, so it is kept with it.
        """
        found = self._subsystems.get(scope)
        if found is None:
            found = self._subsystems[scope] = {}
            for declared in self.allowed(scope):
                subsystem = f"{declared.namespace}/{declared.name}"
                if subsystem in UNLISTED or declared.namespace == "events" or declared.name.startswith("auth"):
                    continue
                if declared.mutates or subsystem not in found:
                    found[subsystem] = "read/write" if declared.mutates else "read"
        return found

    def allowed(self, scope: Scope | None) -> Iterator[Method]:
        """The methods that this scope may call, in order of their keys; None: that of a stranger."""
        for declared in self.methods.values():
            granted = scope is not None and scope.may_call(declared.key, declared.access)
            if granted or declared.access == "public":
                yield declared

    def _add_alias(self, alias: str, entry: Entry) -> None:
        """Another address of the same method: the documents and the original programs spell some differently."""
        namespace, name, *action = alias.split("/")
        if (
            alias in self.methods
            or self._entries.setdefault((namespace, name), {}).setdefault(action[0] if action else None, entry)
            is not entry
        ):
            raise SysadmdError(f"schemas/methods/{entry.method.key}.json: the alias {alias} is another method")

    def _unknown(self, namespace: str, name: str) -> RpcError:
        if namespace.lower() != "events":
            return NotFound(f"there is no {namespace}/{name}")
        # There the names are what actions are elsewhere (spec sysadm §5.1).
        known = ", ".join(sorted(n for space, n in self._entries if space == "events"))
        return BadRequest(f"name: unknown name {name!r}; events has {known}", path="name", rule="enum")

    def _actions(self, namespace: str, name: str) -> dict[str | None, Entry] | None:
        actions = self._entries.get((namespace, name))
        if actions is None and not (namespace.lower() == "rpc" and name.lower().startswith(("auth", "identify"))):
            # Everything but the log-in names is matched in lower case (spec sysadm §2.1).
            actions = self._entries.get((namespace.lower(), name.lower()))
        if actions is None:
            actions = self._entries.get((namespace.lower(), name))
        return actions


def handlers_of(modules: Iterable[ModuleType]) -> list[Handler]:
    """The marked handlers that these modules define."""
    return [f for module in modules for f in vars(module).values() if hasattr(f, "__method__")]


def _parameters(declared: Method) -> tuple[str, ...]:
    args = declared.args
    return tuple(args.get("properties", ())) if isinstance(args, dict) and args.get("type") == "object" else ()


def _same_keys(schemas: set[str], handlers: set[str]) -> None:
    problems = [f"schemas/methods/{key}.json has no handler" for key in sorted(schemas - handlers)]
    problems += [f"the handler {key} has no schema" for key in sorted(handlers - schemas)]
    if problems:
        raise SysadmdError("; ".join(problems))
