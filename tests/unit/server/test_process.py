"""The exit code of a server that cannot start, and of one that breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sysadmd.config import Config, load
from sysadmd.errors import StateError
from sysadmd.server import app, lifecycle, process


class Broken:
    """An application that fails, before or after it is ready."""

    error: Exception
    ready_first = False

    def __init__(self, config: Config, reload: Any) -> None:
        pass

    def announced(self) -> dict[str, Any]:
        return {}

    async def run(self, stop: Any, ready: Any) -> None:
        if self.ready_first:
            ready()
        raise ExceptionGroup("tasks", [ExceptionGroup("inner", [self.error])])


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr(app, "App", Broken)
    monkeypatch.setattr(Broken, "error", StateError("the database is from a newer release"), raising=False)
    monkeypatch.setattr(lifecycle, "_loop_options", lambda limits: {})
    monkeypatch.setattr("sysadmd.server.logs.configure", lambda options: None)  # it would outlive the test
    monkeypatch.setattr("gc.freeze", lambda: None)
    return load(None, {"state_dir": str(tmp_path / "state")})


def run(config: Config) -> int:
    return process.run(config, lambda: config)


@pytest.mark.parametrize("error", [StateError("it is old"), OSError(98, "it is old")])
def test_what_keeps_it_from_starting_is_one_line_and_exit_2(
    config: Config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(Broken, "error", error)
    assert run(config) == 2
    written = capsys.readouterr().err
    assert written.startswith("sysadmd: ")
    assert written.endswith("it is old\n")
    assert written.count("\n") == 1


def test_a_defect_is_not_taken_for_a_usage_error(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Broken, "error", ZeroDivisionError())
    with pytest.raises(ExceptionGroup):
        run(config)


def test_what_breaks_a_running_server_is_not_taken_for_a_usage_error(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Broken, "ready_first", True)
    with pytest.raises(ExceptionGroup):
        run(config)
