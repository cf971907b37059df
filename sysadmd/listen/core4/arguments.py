"""The arguments of a request, wherever they are: in the query, in a form, or in a JSON body (spec job-queues §1.8).

Keys of the body come before those of the query. What a query or a form says is text, so numbers, flags, lists and
objects may be text everywhere; a list or an object then is its JSON.

Secrets may come by query, since core4's clients send them so. `take_query` takes them out of the request before
anything else sees it: nothing that logs an address can show one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from sysadmd.errors import BadRequest, RpcError
from sysadmd.wire.text import kind, parse

SECRETS = frozenset({"token", "password", "passwd", "current_password", "secret", "access_token"})
REDACTED = "***"
FIELDS_MAX = 1000
"""Arguments of one query or form."""
FORM = "application/x-www-form-urlencoded"
_QUERY = "sysadmd.core4.query"
_FLAGS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def take_query(scope: MutableMapping[str, Any]) -> None:
    """Move the query of an ASGI request to where only this facade looks, and leave one without secrets."""
    try:
        pairs = _pairs(scope.get("query_string", b""))
    except BadRequest as error:
        scope[_QUERY], scope["query_string"] = error, b""
        return
    scope[_QUERY] = dict(pairs)
    shown = [(name, REDACTED if name.lower() in SECRETS else value) for name, value in pairs]
    scope["query_string"] = urlencode(shown).encode()


def query_of(scope: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that `take_query` took. Raises BadRequest for a query that cannot be read."""
    taken = scope.get(_QUERY, {})
    if isinstance(taken, BadRequest):
        raise taken
    return dict(taken)


def decode(body: bytes, content_type: str, depth: int) -> dict[str, Any]:
    """The arguments of a body. Raises BadRequest."""
    if not body:
        return {}
    if content_type.partition(";")[0].strip().lower() == FORM:
        return dict(_pairs(body))
    value = parse(body, depth)
    if not isinstance(value, dict):
        raise BadRequest(f"body: expected an object, got {kind(value)}", path="body", rule="type")
    return value


def redacted(value: Any) -> Any:
    """A copy for the audit trail: what is called like a secret is none of its business, however deep."""
    if isinstance(value, dict):
        return {key: REDACTED if str(key).lower() in SECRETS else redacted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [redacted(one) for one in value]
    return value


class Arguments:
    """Arguments by name. Each reader raises BadRequest with the name and what was expected; null is not given."""

    def __init__(self, values: Mapping[str, Any], depth: int = 32) -> None:
        self.values = dict(values)
        self._depth = depth

    def text(self, name: str, default: str | None = None) -> str | None:
        """Text."""
        value = self._value(name)
        if value is None:
            return default
        if not isinstance(value, str):
            raise _expected(name, "text", value)
        return value

    def required(self, name: str) -> str:
        """Text that has to be there."""
        value = self.text(name)
        if not value:
            raise BadRequest(f"{name}: is missing", path=name, rule="required")
        return value

    def secret(self) -> str | None:
        """The password that is to be set: `password`, or `passwd` as the original has it."""
        return self.text("password", self.text("passwd"))

    def integer(self, name: str, default: int) -> int:
        """A whole number."""
        value = self._value(name)
        if value is None:
            return default
        if isinstance(value, str) and len(value) <= 20:
            try:
                value = int(value)
            except ValueError:
                raise _expected(name, "a whole number", value) from None
        if type(value) is not int or abs(value) >= 1 << 53:
            raise _expected(name, "a whole number", value)
        return value

    def flag(self, name: str, default: bool | None = None) -> bool | None:  # noqa: FBT001
        """A boolean."""
        value = self._value(name)
        if value is None or isinstance(value, bool):
            return default if value is None else value
        found = _FLAGS.get(str(value).lower())
        if found is None:
            raise _expected(name, "true or false", value)
        return found

    def texts(self, name: str) -> tuple[str, ...] | None:
        """A list of text; None when it is not there."""
        value = self._json(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise _expected(name, "a list of text", value)
        return tuple(value)

    def mapping(self, name: str) -> dict[str, Any]:
        """An object; empty when it is not there."""
        value = self._json(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise _expected(name, "an object", value)
        return value

    def filter(self, *fields: str) -> dict[str, Any]:
        """The argument `filter`: values that these fields must have. It is no query language: whatever else is in it,
        an operator say, is refused.
        """
        wanted = self.mapping("filter")
        for field, value in wanted.items():
            if field not in fields:
                raise BadRequest(f"filter: {field[:40]!r} is none of {', '.join(fields)}", path="filter", rule="enum")
            if isinstance(value, dict | list):
                raise _expected(f"filter.{field}", "one value", value)
        return wanted

    def order(self, default: str, fields: Sequence[str]) -> tuple[str, int]:
        """The field to sort by and the direction, 1 or -1: `sort` and `order`, or a `sort` of one pair in a list."""
        field, direction = self.values.get("sort"), self.integer("order", 1)
        if isinstance(field, list) or (isinstance(field, str) and field.startswith("[")):
            pairs = self._json("sort")
            if not (isinstance(pairs, list) and len(pairs) == 1 and isinstance(pairs[0], list) and len(pairs[0]) == 2):
                raise _expected("sort", "a field, or a list of one pair of field and direction", pairs)
            field, direction = pairs[0]
        field = default if field is None else field
        if field not in fields or direction not in (1, -1):
            raise BadRequest(f"sort: expected one of {', '.join(fields)}, 1 or -1", path="sort", rule="enum")
        return field, direction

    def time(self, name: str) -> float | None:
        """A time, ISO 8601, UTC where it does not say; in Unix seconds."""
        value = self.text(name)
        if value is None:
            return None
        try:
            found = datetime.fromisoformat(value)
            return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            raise _expected(name, "a time such as 2026-01-31T10:00:00", value) from None

    def besides(self, names: Iterable[str]) -> dict[str, Any]:
        """All but these."""
        known = set(names)
        return {name: value for name, value in self.values.items() if name not in known}

    def _value(self, name: str) -> Any:
        return self.values.get(name)

    def _json(self, name: str) -> Any:
        value = self._value(name)
        if isinstance(value, str):
            try:
                return parse(value, self._depth)
            except RpcError as error:
                raise BadRequest(f"{name}: {error.message}", path=name, rule="json") from None
        return value


def _pairs(text: bytes) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=FIELDS_MAX)
    except ValueError:
        raise BadRequest("the query or form cannot be read", rule="format") from None


def _expected(name: str, expected: str, value: Any) -> BadRequest:
    return BadRequest(f"{name}: expected {expected}, got {kind(value)}", path=name, rule="type")
