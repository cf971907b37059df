"""Which account tasks run as."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sysadmd.jobs.tasks import spawning


@pytest.fixture
def as_uid(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    return lambda uid: monkeypatch.setattr(os, "geteuid", lambda: uid)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that anybody can get to; those of pytest are their owner's alone."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_the_account_that_is_named_is_taken(as_uid: Callable[[int], None]) -> None:
    as_uid(0)
    assert spawning.account_for("www") == "www"


def test_a_server_that_is_not_root_runs_tasks_as_itself(as_uid: Callable[[int], None]) -> None:
    as_uid(1000)
    assert spawning.account_for(None) is None


def test_root_runs_tasks_as_nobody_where_nobody_can_read_what_they_need(
    as_uid: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_uid(0)
    monkeypatch.setattr(spawning, "NEEDED", ("/etc/passwd",))
    assert spawning.account_for(None) == "nobody"


@pytest.mark.parametrize("closed", ["file", "directory", "link"])
def test_root_runs_them_as_root_where_it_alone_can_read_that(
    as_uid: Callable[[int], None], monkeypatch: pytest.MonkeyPatch, closed: str, open_directory: Path
) -> None:
    as_uid(0)
    kept = open_directory / "kept"
    kept.mkdir(mode=0o755)
    file = kept / "python"
    file.touch(mode=0o644)
    monkeypatch.setattr(spawning, "NEEDED", (str(file),))
    assert spawning.account_for(None) == "nobody"
    if closed == "file":
        file.chmod(0o600)
    elif closed == "directory":
        kept.chmod(0o700)
    else:
        link = open_directory / "link"
        link.symlink_to(file)
        kept.chmod(0o700)
        monkeypatch.setattr(spawning, "NEEDED", (str(link),))
    assert spawning.account_for(None) is None


def test_the_environment_is_an_allow_list() -> None:
    environ = {"PATH": "/bin", "SECRET": "1", "LANG": "C", "PYTHONPATH": "/p", "SYSADMD_TOKEN": "t"}
    found = spawning.environment_of(None, ("PATH", "LANG"), {}, environ)
    assert found == {"PATH": "/bin", "LANG": "C", "PYTHONPATH": "/p"}


def test_there_is_always_a_path() -> None:
    assert "/usr/bin" in spawning.environment_of(None, (), {}, {})["PATH"]


def test_an_account_has_its_own_home_and_the_configuration_the_last_word() -> None:
    given = {"HOME": "/home/olga", "LANG": "C"}
    found = spawning.environment_of("root", ("HOME", "LANG"), {"LANG": "C.UTF-8"}, given)
    assert (found["USER"], found["LOGNAME"], found["LANG"]) == ("root", "root", "C.UTF-8")
    assert found["HOME"] != "/home/olga"
