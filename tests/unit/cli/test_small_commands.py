"""`config check`, `completion`, and what `serve` and `executor` refuse."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from sysadmd.cli import main
from sysadmd.keys.certificate import ensure_certificate


def test_a_good_configuration_is_said_to_be_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text('node = "vault"\n')
    assert main(["config", "check", str(file)]) == 0
    assert capsys.readouterr().out == f"{file}: ok\n"


def test_the_defaults_are_good(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check"]) == 0


@pytest.mark.parametrize("content", ["nod = 1", "[listen]\nport = 'x'", "[listen", "[limits]\nframe_bridge = -1"])
def test_a_bad_configuration_is_one_line_and_exit_2(
    tmp_path: Path, content: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "c.toml"
    file.write_text(content)
    for command in (["config", "check", str(file)], ["serve", "--config", str(file)]):
        assert main(command) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"sysadmd: {file}")
        assert error.count("\n") == 1


def test_a_missing_file_is_one_line_and_exit_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", str(tmp_path / "none")]) == 2
    assert "cannot be read: No such file" in capsys.readouterr().err


@pytest.mark.parametrize("table", ["listen", "relay"])
def test_a_key_that_does_not_fit_its_certificate_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], table: str
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        ensure_certificate(tmp_path / name)
    file = tmp_path / "c.toml"
    file.write_text(f'[{table}]\ncertificate = "a/server.crt"\nkey = "b/server.key"\n')
    assert main(["config", "check", str(file)]) == 2
    assert f"{table}.key" in capsys.readouterr().err


def test_no_tls_needs_the_loopback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = ["--state-dir", str(tmp_path / "s")]
    assert main(["serve", "--no-tls", *state]) == 2
    assert "loopback" in capsys.readouterr().err
    assert main(["serve", "--no-tls", "--listen", "0.0.0.0:0", *state]) == 2
    assert main(["serve", "--no-tls", "--listen", "127.0.0.1:0", "--rest", "0.0.0.0:0", *state]) == 2
    assert not (tmp_path / "s").exists()


def test_a_second_server_on_a_state_directory_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from sysadmd.store.lock import StateLock

    with StateLock(tmp_path / "s"):
        assert main(["serve", "--state-dir", str(tmp_path / "s"), "--listen", "127.0.0.1:0"]) == 2
    assert "is in use by process" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_ask_us(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "_SYSADMD_COMPLETE" in capsys.readouterr().out


def test_another_shell_is_wrong_usage() -> None:
    assert main(["completion", "tcsh"]) == 2


def test_the_shell_completes_commands_and_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    def completions(words: str) -> list[str]:
        environment = {
            "_SYSADMD_COMPLETE": "bash_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        }
        done = subprocess.run(
            [sys.executable, "-m", "sysadmd"], env=environment, capture_output=True, text=True, check=True
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert completions("sysadmd ba") == ["backup"]
    assert completions("sysadmd user pa") == ["passwd"]
    assert "--reconnect" in completions("sysadmd events --re")
