"""The classic dialect: what the original programs send and understand (spec sysadm §2 and §5).

Replies have sorted keys and strings for all scalars. Errors are named `error` twice and carry one of the few codes that
the originals know: any other code is told as 400, since their clients look the text up by the code. Events have hyphens
in their names and no id.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from sysadmd.errors import RpcError
from sysadmd.wire.messages import Meta, Request
from sysadmd.wire.text import encode
from sysadmd.wire.topics import CLASSIC_TOPICS, classic_args, hyphenated

MESSAGES = {
    102: "Processing",
    201: "Created",
    202: "Accepted",
    204: "No Content",
    205: "Reset Content",
    206: "Partial Content",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
}
"""Every code of the originals, with its fixed text (spec sysadm §2.3)."""


class _Frame(msgspec.Struct):
    """The keys of a frame in the originals' order, which is alphabetical."""

    args: Any
    id: str
    name: str
    namespace: str


class ClassicDialect:
    """Frames as the original programs write them."""

    name = "classic"

    def reply(self, request: Request, result: Any) -> bytes:
        """Named `response`, or after the request where that had no id; b"" for `rpc/auth_clear`, which is silent."""
        if request.name == "auth_clear":
            return b""
        name = "response" if request.id else request.name
        return encode(_Frame(_rendered(request, result), request.id, name, request.namespace))

    def error(self, request: Request | None, error: RpcError) -> bytes:
        """``{"args": {"code": "401", "message": "Unauthorized"}, "id": .., "name": "error", "namespace": "error"}``."""
        code = error.code if error.code in MESSAGES else 400
        if request is not None and is_login(request):
            code = 401  # whatever is wrong with an attempt
        known = request.id if request is not None else getattr(error, "request_id", "")
        request_id = known if isinstance(known, str) else ""
        return encode(_Frame({"code": str(code), "message": MESSAGES[code]}, request_id, "error", "error"))

    def event(self, topic: str, data: Any, meta: Meta | None = None) -> Sequence[bytes]:
        """One frame for each part of the event. The originals have no place for `meta`."""
        name = hyphenated(topic)
        return [encode(_Frame(stringified(args), "", name, "events")) for args in classic_args(topic, data)]


CLASSIC = ClassicDialect()


def _rendered(request: Request, result: Any) -> Any:
    if is_login(request):
        return result  # [token, seconds]: the one number that stays a number
    return stringified(result)


def is_login(request: Request) -> bool:
    """Whether the originals take a request for an attempt to log in, even one that they do not know (spec §2.4)."""
    return request.namespace.lower() == "rpc" and request.name.startswith("auth")


def stringified(value: Any) -> Any:
    """`value` with sorted keys and strings for scalars: ``true``, ``12.5``; null is an empty string."""
    if isinstance(value, msgspec.Struct):
        value = msgspec.structs.asdict(value)
    if isinstance(value, dict):
        return {str(key): stringified(value[key]) for key in sorted(value)}
    if isinstance(value, (list, tuple)):
        return [stringified(item) for item in value]
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return value if isinstance(value, str) else str(value)


def accepted(request: Request) -> Request:
    """A request as the originals would take it: an id that is no string is empty, and unusable arguments are left out.

    Of a subscription that leaves no topic, the object form with no topics stays: it is answered with an empty object.
    """
    namespace, name, args = request.namespace.lower(), request.name.lower(), request.args
    if namespace == "events" and name in ("subscribe", "unsubscribe"):
        args = _known_topics(args)
    elif namespace == "rpc" and name == "dispatcher" and (request.action or "").lower() == "run":
        args = _commands(args)
    request_id = request.id if isinstance(request.id, str) else ""
    return Request(request.namespace, request.name, request.action, request_id, args)


def _known_topics(args: Any) -> Any:
    names = [args] if isinstance(args, str) else args
    if not isinstance(names, list) or not names:
        return args
    known = [name for name in names if isinstance(name, str) and name.replace("-", "_") in CLASSIC_TOPICS]
    return known or {"topics": []}


def _commands(args: Any) -> Any:
    if not isinstance(args, dict):
        return args
    jobs: dict[str, Any] = {}
    for process_id, commands in args.items():
        if isinstance(commands, str):
            jobs[process_id] = commands
        elif isinstance(commands, list):
            jobs[process_id] = [command for command in commands if isinstance(command, str)]
    return jobs
