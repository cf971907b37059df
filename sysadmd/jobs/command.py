r"""Commands as people and programs write them.

A command is a string or an argv list. A string is split by the rule of the originals (spec sysadm §5.3): spaces
separate, double quotes hold together, and nothing else is special. No shell ever sees it: `$HOME`, `|`, `'`, `\\` and
`*` are plain characters. What this rule cannot say (an argument that holds a double quote) an argv list can.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sysadmd.errors import BadRequest

Command: TypeAlias = str | Sequence[str]
"""A command line to be split, or an argv."""

COMMANDS_MAX = 1000
"""Commands of one process: each finished one makes a durable event."""
SPEC_KEYS = frozenset({"commands", "lane", "cwd", "user", "timeout", "no_new_privs"})
ARGUMENT_MAX = 131_071
"""Bytes of one argument: Linux's MAX_ARG_STRLEN less the closing NUL (execve(2))."""


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """What somebody asks the dispatcher to run.

    `commands` run one after another until one fails. `cwd` is an absolute path, `user` a login name (None: the
    executor's own), `timeout` seconds for each command. `no_new_privs`: set-uid programs give nothing; None for the
    default of the user.
    """

    commands: Sequence[Command]
    lane: str = "no_queue"
    cwd: str | None = None
    user: str | None = None
    timeout: float | None = None
    no_new_privs: bool | None = None


def split_command(line: str, path: str | None = None) -> tuple[str, ...]:
    """The argv of a command line: `ls -l "My Files"` gives three arguments; `""` is an empty one.

    Raises BadRequest naming `path` when a quote is left open or nothing is there to run.
    """
    arguments: list[str] = []
    word: list[str] = []
    quoted = begun = False
    for char in line:
        if char == '"':
            quoted, begun = not quoted, True
        elif char == " " and not quoted:
            if begun:
                arguments.append("".join(word))
            word, begun = [], False
        else:
            word.append(char)
            begun = True
    if quoted:
        raise BadRequest(_at(path, f"the double quotes of {line!r} do not balance"), path=path, rule="balanced quotes")
    if begun:
        arguments.append("".join(word))
    return tuple(arguments)


def join_command(argv: Sequence[str]) -> str:
    """The text that stands for an argv in logs and `process_details`.

    `split_command` turns it back, except for arguments with a double quote: those the string form cannot write.
    """
    return " ".join(f'"{argument}"' if not argument or " " in argument else argument for argument in argv)


def parse_command(command: Command, path: str | None = None) -> tuple[str, tuple[str, ...]]:
    """The text and the argv of a command. Raises BadRequest naming `path` and the rule."""
    if isinstance(command, str):
        text, argv = command, split_command(command, path)
    else:
        argv = tuple(command)
        text = join_command(argv)
    if not argv or not argv[0]:
        raise BadRequest(
            _at(path, "a command needs a program to run, this one is empty"), path=path, rule="non-empty command"
        )
    for argument in argv:
        if "\0" in argument:
            raise BadRequest(_at(path, "an argument holds a NUL character"), path=path, rule="no NUL")
        # A character takes four bytes at most, so only long arguments need to be encoded to be measured.
        if len(argument) * 4 > ARGUMENT_MAX and len(argument.encode("utf-8", "surrogatepass")) > ARGUMENT_MAX:
            raise BadRequest(
                _at(path, f"an argument is longer than {ARGUMENT_MAX} bytes"),
                path=path,
                rule=f"at most {ARGUMENT_MAX} bytes",
            )
    return text, argv


def process_spec(value: ProcessSpec | str | Sequence[Command] | Mapping[str, Any], path: str) -> ProcessSpec:
    """The spec of a process as a request may write it: one command line, a list of commands, or an object with
    settings.

    `path` begins the paths in errors. Types are the schema's to check; what it let through and is none of these is
    refused.
    """
    if isinstance(value, ProcessSpec):
        return value
    if isinstance(value, str):
        return ProcessSpec((value,))
    if isinstance(value, Mapping):
        unknown = sorted(set(value) - SPEC_KEYS)
        if unknown or "commands" not in value:
            rule = f"keys are {', '.join(sorted(SPEC_KEYS))}; commands is needed"
            raise BadRequest(_at(path, f"{rule}, here are {', '.join(sorted(value))}"), path=path, rule=rule)
        commands = value["commands"]
        settings = {key: setting for key, setting in value.items() if key != "commands" and setting is not None}
        return ProcessSpec((commands,) if isinstance(commands, str) else commands, **settings)
    return ProcessSpec(value)


def parse_commands(spec: ProcessSpec, path: str) -> list[tuple[str, tuple[str, ...]]]:
    """Text and argv of every command, after a check of the whole spec. `path` begins the paths in errors."""
    if not spec.commands:
        raise BadRequest(_at(path, "a process needs at least one command"), path=path, rule="non-empty commands")
    if len(spec.commands) > COMMANDS_MAX:
        raise BadRequest(
            _at(path, f"{len(spec.commands)} commands are more than {COMMANDS_MAX}"),
            path=path,
            rule=f"at most {COMMANDS_MAX}",
        )
    if spec.cwd is not None and (not spec.cwd.startswith("/") or "\0" in spec.cwd):
        where = f"{path}.cwd"
        raise BadRequest(_at(where, f"{spec.cwd!r} is not an absolute path"), path=where, rule="absolute path")
    if spec.user is not None and (not spec.user or "\0" in spec.user):
        where = f"{path}.user"
        raise BadRequest(_at(where, f"{spec.user!r} is not a login name"), path=where, rule="login name")
    if spec.timeout is not None and not 0 < spec.timeout < float("inf"):
        where = f"{path}.timeout"
        raise BadRequest(_at(where, f"{spec.timeout} is not a time in seconds"), path=where, rule="greater than 0")
    return [parse_command(command, f"{path}.commands.{index}") for index, command in enumerate(spec.commands)]


def _at(path: str | None, message: str) -> str:
    return f"{path}: {message}" if path else message
