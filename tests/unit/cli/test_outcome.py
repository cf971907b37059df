"""Exit codes, and the one line on standard error."""

from __future__ import annotations

import errno
import subprocess
import sys
from collections.abc import Callable

import click
import pytest

from sysadmd.cli.outcome import exit_code_of, run
from sysadmd.client import AuthFailed, BadAddress, CallTimeout, ConnectFailed, ConnectionLost, RemoteError, Untrusted
from sysadmd.errors import BadRequest, ConfigError, StateError


def app_that(act: Callable[[], int | None]) -> click.Group:
    @click.group()
    def app() -> None:
        pass

    @app.command()
    def act_() -> int | None:
        return act()

    app.add_command(act_, "act")
    return app


def raising(error: BaseException) -> click.Group:
    def act() -> int:
        raise error

    return app_that(act)


@pytest.mark.parametrize(
    "error,code",
    [
        (RemoteError(403, "no"), 1),
        (CallTimeout("late"), 1),
        (StateError("in use"), 1),
        (BadRequest("bad name"), 1),
        (ConfigError("f", "k", 1, "rule"), 2),
        (BadAddress("no scheme"), 2),
        (ConnectFailed("nobody"), 3),
        (Untrusted("who", None), 3),
        (AuthFailed("no"), 3),
        (ConnectionLost("gone"), 4),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(error: Exception, code: int) -> None:
    assert exit_code_of(error) == code
    assert run(raising(error), ["act"]) == code


def test_the_error_is_one_line_under_our_name(capsys: pytest.CaptureFixture[str]) -> None:
    run(raising(StateError("first\nsecond \x1b[31mred")), ["act"])
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "sysadmd: first second \\x1b[31mred\n")


def test_a_usage_error_names_the_command_and_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app_that(lambda: 0), ["act", "--nope"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("sysadmd: act: No such option")
    assert error.endswith("(try 'sysadmd act --help')\n")


def test_a_fault_of_ours_is_one_line_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(KeyError("x")), ["act"]) == 1
    assert capsys.readouterr().err == "sysadmd: internal error: KeyError: 'x' (SYSADMD_DEBUG=1 shows where)\n"


def test_debugging_shows_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSADMD_DEBUG", "1")
    run(raising(StateError("in use")), ["act"])
    assert "Traceback" in capsys.readouterr().err


def test_a_failing_file_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(raising(PermissionError(errno.EACCES, "Permission denied", "/x/y")), ["act"]) == 1
    assert capsys.readouterr().err == "sysadmd: /x/y: Permission denied\n"


def test_an_interrupt_is_130() -> None:
    assert run(raising(KeyboardInterrupt()), ["act"]) == 130


def test_the_end_of_input_at_a_prompt_is_no_interrupt() -> None:
    assert run(raising(EOFError()), ["act"]) == 1


@pytest.mark.parametrize("code", [0, 1, 2, 7])
def test_a_command_may_return_its_exit_code(code: int) -> None:
    assert run(app_that(lambda: code), ["act"]) == code


def test_a_command_that_returns_nothing_succeeded() -> None:
    assert run(app_that(lambda: None), ["act"]) == 0


def test_no_command_at_all_shows_the_help_and_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(app_that(lambda: 0), []) == 2
    assert "Usage: sysadmd" in capsys.readouterr().err


def test_a_reader_that_goes_away_ends_us_quietly() -> None:
    script = "import sys; from sysadmd.cli import main; sys.exit(main(['completion', 'bash']))"
    loop = (
        "import sys; from sysadmd.cli import main; [main(['completion', 'zsh']) for _ in range(200)]; sys.exit(main())"
    )
    for code in (script, loop):
        child = subprocess.Popen(
            [sys.executable, "-c", code, "--version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        child.stdout.close()
        assert child.stderr is not None
        assert child.stderr.read() == ""
        child.stderr.close()
        assert child.wait() == 0
