"""One method of the API, as its schema file declares it.

The file is ``schemas/methods/<namespace>/<name>.json`` or, for a method with actions,
``schemas/methods/<namespace>/<name>/<action>.json``. The path gives the key, and with it the permission string.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

Access = Literal["public", "read", "run", "admin"]


class Before(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call that must have been made for an example to hold: `call` is the key of its method."""

    call: str
    args: Any


class Refusal(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The error of an example."""

    code: int


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call and its answer: `result`, or `error`.

    A result shows the form: process ids, times and tokens differ on every machine, so a live test checks it against
    `returns`. `live` is False where the arguments hold something that no other machine has, such as a token.
    """

    title: str
    args: Any
    result: Any = msgspec.UNSET
    error: Refusal | None = None
    before: tuple[Before, ...] = ()
    live: bool = True


class ErrorCase(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A code that the method answers with, and when."""

    code: int
    when: str


@dataclass(frozen=True, slots=True)
class Method:
    """A method: its address, who may call it, the schemas of its arguments and result, its documentation."""

    namespace: str
    name: str
    action: str | None
    key: str
    """``rpc/dispatcher/run``; ``rpc/query`` where there is no action."""
    access: Access
    mutates: bool
    """Whether a call changes the machine or the server's state; readers may not, and the audit trail records it."""
    inline: bool
    """Whether calls run in the order they came, before the next frame of the connection is looked at."""
    args: Mapping[str, Any]
    returns: Mapping[str, Any]
    title: str
    description: str
    examples: tuple[Example, ...]
    errors: tuple[ErrorCase, ...]
    aliases: tuple[str, ...] = ()
    """Other keys under which a request finds it; permission, metrics and documentation know the one key only."""
