"""The file of known servers: what is read from it, what is written to it, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.client import KnownServers, PinError
from sysadmd.client.pins import MAX_FILE, MAX_NAME, default_known_servers

ONE, TWO = "1" * 64, "2" * 64


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config" / "known_servers"


def written(file: Path, text: str) -> KnownServers:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    return KnownServers(file)


def test_a_file_that_is_not_there_knows_nobody(file: Path) -> None:
    known = KnownServers(file)
    assert (known.pins("nas"), known.all(), known.names()) == (frozenset(), frozenset(), ())
    assert not file.parent.exists()


def test_a_server_is_known_by_what_was_added(file: Path) -> None:
    known = KnownServers(file)
    known.add("nas", ONE)
    known.add("nas", TWO)
    known.add("vault", TWO.upper().replace("2", "A"))
    assert known.pins("nas") == {ONE, TWO}
    assert known.pins("vault") == {"a" * 64}
    assert known.pins("NAS") == frozenset()
    assert known.all() == {ONE, TWO, "a" * 64}
    assert known.names() == ("nas", "vault")


def test_the_file_is_its_owners_alone_and_nothing_lies_beside_it(file: Path) -> None:
    KnownServers(file).add("nas", ONE)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    assert list(file.parent.iterdir()) == [file]


def test_what_people_wrote_stays(file: Path) -> None:
    known = written(file, f"# mine\n\n  nas   {ONE.upper()}  # of olga\n")
    assert known.pins("nas") == {ONE}
    known.add("vault", TWO)
    assert file.read_text() == f"# mine\n\n  nas   {ONE.upper()}  # of olga\nvault {TWO}\n"


def test_adding_what_is_there_changes_nothing(file: Path) -> None:
    known = KnownServers(file)
    known.add("nas", ONE)
    before = file.stat().st_mtime_ns, file.stat().st_ino
    known.add("nas", ONE)
    known.pin("nas", ONE)
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == before


def test_another_key_is_not_pinned_unless_it_replaces_the_old_one(file: Path) -> None:
    known = written(file, f"nas {ONE}\n# kept\nvault {ONE}\n")
    with pytest.raises(PinError, match=f"nas is known by the key {ONE}, and this one is {TWO}"):
        known.pin("nas", TWO)
    assert known.pins("nas") == {ONE}
    known.pin("nas", TWO, replace=True)
    assert known.pins("nas") == {TWO}
    assert file.read_text() == f"# kept\nvault {ONE}\nnas {TWO}\n"


def test_replacing_forgets_every_other_key(file: Path) -> None:
    known = written(file, f"nas {ONE}\nnas {TWO}\n")
    known.pin("nas", TWO)
    assert known.pins("nas") == {ONE, TWO}
    known.pin("nas", TWO, replace=True)
    assert known.pins("nas") == {TWO}


@given(st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=1, max_size=MAX_NAME))
def test_every_name_is_read_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    known = KnownServers(tmp_path_factory.mktemp("names") / "known")
    known.add("other", TWO)
    known.add(name, ONE)
    assert known.pins(name) >= {ONE}
    assert known.names() == tuple(dict.fromkeys(("other", name)))


@pytest.mark.parametrize("name", ["", "a\nb", "a\0", "x" * (MAX_NAME + 1)])
def test_what_is_no_name_is_refused(file: Path, name: str) -> None:
    with pytest.raises(PinError, match="1 to 256 printable characters"):
        KnownServers(file).add(name, ONE)
    assert not file.exists()


@pytest.mark.parametrize("fingerprint", ["", "1" * 63, "1" * 65, "g" * 64, "SHA256:" + "1" * 64, ONE + "\n"])
def test_what_is_no_fingerprint_is_refused(file: Path, fingerprint: str) -> None:
    with pytest.raises(PinError, match="64 hexadecimal digits"):
        KnownServers(file).pin("nas", fingerprint)
    assert not file.exists()


@pytest.mark.parametrize(
    "line,reason",
    [
        ("nas", "a name and a fingerprint"),
        (f"nas {ONE} {TWO}", "a name and a fingerprint"),
        (f"nas {ONE[1:]}", "64 hexadecimal digits"),
        (f"{ONE} nas", "64 hexadecimal digits"),
        (f"%00 {ONE}", "printable"),
        (f"%ff {ONE}", "not UTF-8"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_trusted_or_changed(file: Path, line: str, reason: str) -> None:
    text = f"# mine\nvault {TWO}\n{line}\n"
    known = written(file, text)
    for action in (lambda: known.pins("vault"), known.all, known.names, lambda: known.add("new", ONE)):
        with pytest.raises(PinError, match=rf"known_servers, line 3: .*{reason}"):
            action()
    assert file.read_text() == text


def test_text_that_is_no_utf8_is_named_by_its_line(file: Path) -> None:
    known = written(file, "")
    file.write_bytes(b"# mine\n\xff\n")
    with pytest.raises(PinError, match="line 2: not UTF-8"):
        known.all()


def test_a_file_that_cannot_be_used_is_named(file: Path) -> None:
    file.mkdir(parents=True)
    with pytest.raises(PinError, match=r"known_servers: Is a directory"):
        KnownServers(file).all()
    with pytest.raises(PinError, match=r"/dev/null: File exists"):
        KnownServers(Path("/dev/null/known_servers")).add("nas", ONE)


def test_a_file_above_the_limit_is_refused(file: Path) -> None:
    known = written(file, "#" * MAX_FILE)
    assert known.all() == frozenset()
    file.write_text("#" * (MAX_FILE + 1))
    with pytest.raises(PinError, match="larger than"):
        known.all()


def test_of_those_who_add_at_once_nobody_is_lost(file: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: KnownServers(file).add(f"nas{number}", ONE), range(40)))
    assert len(KnownServers(file).names()) == 40


def test_the_file_is_in_the_configuration_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_known_servers({"XDG_CONFIG_HOME": "/c", "HOME": "/h"}) == Path("/c/sysadmd/known_servers")
    assert default_known_servers({"XDG_CONFIG_HOME": "c", "HOME": "/h"}) == Path("/h/.config/sysadmd/known_servers")
    assert default_known_servers({"HOME": "/h"}) == Path("/h/.config/sysadmd/known_servers")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert KnownServers().path == tmp_path / "sysadmd" / "known_servers"
