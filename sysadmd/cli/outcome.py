"""How a command ends: its exit code, and one line on standard error when something went wrong.

====  =====================================================================================
0     done
1     refused: an error reply, a timeout, a state directory in use
2     wrong usage, or a bad configuration
3     cannot connect, or the log-in was refused
4     the connection was lost and not restored
130   interrupted (128 + SIGINT)
====  =====================================================================================

A traceback is for us, not for an administrator: SYSADMD_DEBUG=1 shows it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

import click

from sysadmd.cli.lazy import PipeClosed
from sysadmd.errors import ConfigError, SysadmdError

PROGRAM = "sysadmd"
REFUSED, USAGE, NO_CONNECTION, LOST, INTERRUPTED = 1, 2, 3, 4, 130


def run(app: click.Command, args: Sequence[str] | None, program: str = PROGRAM) -> int:
    """Run a command line and return its exit code. Never raises."""
    try:
        result = app.main(args=None if args is None else list(args), prog_name=program, standalone_mode=False)
        sys.stdout.flush()
    except (PipeClosed, BrokenPipeError):
        _forget_stdout()
        return 0
    except BaseException as error:  # noqa: BLE001 - the outermost frame: what is not reported here is a traceback
        if os.environ.get("SYSADMD_DEBUG") == "1" and not isinstance(error, SystemExit):
            _show_traceback(error)
        with contextlib.suppress(BrokenPipeError):
            return _report(error, program)
        return REFUSED
    return result if isinstance(result, int) else 0


def exit_code_of(error: BaseException) -> int:
    """The exit code that belongs to an error."""
    if isinstance(error, ConfigError):
        return USAGE
    if isinstance(error, SysadmdError):
        from sysadmd.client.errors import AuthFailed, BadAddress, ConnectFailed, ConnectionLost

        codes = {BadAddress: USAGE, ConnectFailed: NO_CONNECTION, AuthFailed: NO_CONNECTION, ConnectionLost: LOST}
        return next((code for kind, code in codes.items() if isinstance(error, kind)), REFUSED)
    return REFUSED


def say(text: str, program: str = PROGRAM) -> None:
    """One line on standard error, under our name."""
    from sysadmd.cli.render import one_line

    print(f"{program}: {one_line(text)}", file=sys.stderr)


def _report(error: BaseException, program: str) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else REFUSED
    if isinstance(error, click.Abort | KeyboardInterrupt):
        # The prompt of a password ends this way at the end of its input, too.
        return REFUSED if isinstance(error.__cause__, EOFError) else INTERRUPTED
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        error.show()
        return USAGE
    if isinstance(error, click.ClickException):
        say(_usage_text(error, program), program)
        return error.exit_code
    say(_plain_text(error), program)
    return exit_code_of(error)


def _plain_text(error: BaseException) -> str:
    if isinstance(error, SysadmdError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"internal error: {type(error).__name__}: {error} (SYSADMD_DEBUG=1 shows where)"


def _usage_text(error: click.ClickException, program: str) -> str:
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is None:
        return error.format_message()
    command = context.command_path.removeprefix(program).strip()
    where = f"{command}: " if command else ""
    return f"{where}{error.format_message()} (try '{context.command_path} --help')"


def _forget_stdout() -> None:
    """Keep the interpreter from flushing into the closed pipe when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _show_traceback(error: BaseException) -> None:
    import traceback

    traceback.print_exception(error)
