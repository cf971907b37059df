"""The directory of an executor that runs as root for a server that does not."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from sysadmd.errors import ExecutorError, StateError
from sysadmd.executor.channel import listen
from sysadmd.executor.home import prepare_home

SERVER = "nobody"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="an executor with --server-user is root's: not tested without")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@as_root
def test_the_socket_is_the_servers_and_everything_else_is_roots(tmp_path: Path) -> None:
    home = prepare_home(tmp_path / "home", SERVER)
    listen(home.socket, home.owner).close()
    uid = pwd.getpwnam(SERVER).pw_uid
    assert (home.socket.lstat().st_uid, mode(home.socket)) == (uid, 0o600)
    assert ((tmp_path / "home").lstat().st_uid, mode(tmp_path / "home")) == (0, 0o711)
    assert (home.journal.parent.lstat().st_uid, mode(home.journal.parent)) == (0, 0o700)
    assert home.peers == {0, uid}


@as_root
def test_a_directory_that_the_server_may_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    os.chown(tmp_path / "home", pwd.getpwnam(SERVER).pw_uid, -1)
    with pytest.raises(StateError, match=r"home belongs to uid \d+ .* must belong to uid 0"):
        prepare_home(tmp_path / "home", SERVER)


@as_root
@pytest.mark.parametrize("part", ["home", "home/executor"])
def test_a_link_is_not_followed(tmp_path: Path, part: str) -> None:
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o750)
    link = tmp_path / part
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(precious)
    with pytest.raises(StateError, match="is a link; it must be a directory"):
        prepare_home(tmp_path / "home", SERVER)
    assert mode(precious) == 0o750
    assert not list(precious.iterdir())


@as_root
def test_a_way_that_somebody_else_could_bend_is_refused(tmp_path: Path) -> None:
    above = tmp_path / "above"
    (above / "between").mkdir(parents=True)
    os.chown(above, pwd.getpwnam(SERVER).pw_uid, -1)
    with pytest.raises(StateError, match="above, above the executor's directory, must be a directory of root's"):
        prepare_home(above / "between" / "home", SERVER)
    os.chown(above, 0, -1)
    above.chmod(0o777)
    with pytest.raises(StateError, match="where nobody else may write"):
        prepare_home(above / "between" / "home", SERVER)
    above.chmod(0o755)
    (tmp_path / "link").symlink_to(above)
    with pytest.raises(StateError, match="link, above the executor's directory"):
        prepare_home(tmp_path / "link" / "home", SERVER)
    assert not (above / "between" / "home").exists()


@as_root
def test_an_unknown_account_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExecutorError, match="there is no account 'no-such-account'"):
        prepare_home(tmp_path / "home", "no-such-account")


def test_only_root_serves_another_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ExecutorError, match="--server-user needs root"):
        prepare_home(tmp_path / "home", SERVER)
