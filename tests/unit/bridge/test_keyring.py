"""The keyring of a bridge: what is in the directory is what is let in."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from structlog.testing import capture_logs

from sysadmd.bridge import keyring as module
from sysadmd.bridge.keyring import Keyring
from sysadmd.errors import BadRequest, Conflict, NotFound, StateError
from sysadmd.keys.signing import PrivateKey, PublicKey

KEYS = [PrivateKey.generate("ed25519").public for _ in range(6)]
RSA = PrivateKey.generate("rsa").public


@pytest.fixture
def ring(tmp_path: Path) -> Keyring:
    return Keyring(tmp_path / "state" / "keys")


def nicks(ring: Keyring) -> dict[str, str]:
    """What the ring says, by nickname."""
    return {key.nick: fingerprint for fingerprint, key in ring.current().items()}


def prints(**keys: PublicKey) -> dict[str, str]:
    return {nick: key.fingerprint for nick, key in keys.items()}


def test_an_absent_directory_is_an_empty_keyring_and_stays_absent(ring: Keyring) -> None:
    assert ring.current() == {}
    assert not ring.directory.exists()


@pytest.mark.parametrize("public", [KEYS[0], RSA], ids=["ed25519", "rsa"])
def test_a_key_is_a_file_of_its_nickname_that_only_the_owner_reads(ring: Keyring, public: PublicKey) -> None:
    ring.add("web 1/a.b", public)
    (file,) = ring.directory.iterdir()
    assert file.name == "web%201%2Fa.b.pem"
    assert file.read_text() == public.pem
    assert file.stat().st_mode & 0o777 == 0o600
    assert {path.stat().st_mode & 0o777 for path in (ring.directory, ring.directory.parent)} == {0o700}
    (key,) = ring.current().values()
    assert (key.nick, key.public, key.imported) == ("web 1/a.b", public, file.stat().st_mtime)


def test_a_nickname_has_one_key_and_the_new_one_replaces_the_old(ring: Keyring) -> None:
    ring.add("a", KEYS[0])
    ring.add("a", KEYS[1])
    assert nicks(ring) == prints(a=KEYS[1])


def test_a_key_has_one_nickname(ring: Keyring) -> None:
    ring.add("a", KEYS[0])
    with pytest.raises(Conflict, match="known as 'a' already"):
        ring.add("b", KEYS[0])
    ring.add("a", KEYS[0])
    assert nicks(ring) == prints(a=KEYS[0])


def test_a_removed_key_is_let_in_no_more(ring: Keyring) -> None:
    ring.add("a", KEYS[0])
    ring.remove("a")
    assert nicks(ring) == {}
    with pytest.raises(NotFound, match="no key 'a'"):
        ring.remove("a")


def test_nothing_can_be_removed_from_a_keyring_that_does_not_exist(ring: Keyring) -> None:
    with pytest.raises(NotFound, match="no key 'a'"):
        ring.remove("a")


@pytest.mark.parametrize("nick", ["", "a" * 65, "é" * 41, "a\nb", "a\x1b[2J", " a", "a ", "\u202ea"])
def test_a_nickname_beyond_the_rule_is_refused(ring: Keyring, nick: str) -> None:
    with pytest.raises(BadRequest, match="a nickname has 1 to 64 printable characters"):
        ring.add(nick, KEYS[0])
    with pytest.raises(BadRequest, match="a nickname has 1 to 64 printable characters"):
        ring.remove(nick)
    assert not ring.directory.exists()


@pytest.mark.parametrize("nick", ["a" * 64, "é" * 40, ".", "..", "%", "..%2f..", "-rf", "机" * 26])
def test_a_nickname_within_the_rule_stays_in_the_directory(ring: Keyring, nick: str) -> None:
    ring.add(nick, KEYS[0])
    assert nicks(ring) == {nick: KEYS[0].fingerprint}
    assert len(list(ring.directory.iterdir())) == 1
    ring.remove(nick)
    assert nicks(ring) == {}


# What another process does to the directory


def test_the_change_of_another_process_is_seen_at_the_next_look(ring: Keyring) -> None:
    other = Keyring(ring.directory)
    ring.add("a", KEYS[0])
    assert nicks(other) == prints(a=KEYS[0])
    ring.add("b", KEYS[1])
    assert nicks(other) == prints(a=KEYS[0], b=KEYS[1])
    ring.remove("a")
    assert nicks(other) == prints(b=KEYS[1])


def test_a_key_replaced_within_one_tick_of_the_clock_is_seen(ring: Keyring) -> None:
    other = Keyring(ring.directory)
    ring.add("a", KEYS[0])
    file = ring.directory / "a.pem"
    moment = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    directory = (ring.directory.stat().st_atime_ns, ring.directory.stat().st_mtime_ns)
    assert nicks(other) == prints(a=KEYS[0])
    ring.add("a", KEYS[1])
    os.utime(file, ns=moment)
    os.utime(ring.directory, ns=directory)
    assert nicks(other) == prints(a=KEYS[1])


def test_without_a_change_nothing_is_read_again(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    ring.add("a", KEYS[0])
    before = ring.current()
    monkeypatch.setattr(module, "_contents", lambda path: pytest.fail(f"{path} was read"))
    assert ring.current() is before


def test_only_the_file_that_changed_is_read_again(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(3):
        ring.add(f"n{number}", KEYS[number])
    ring.current()
    read: list[str] = []
    contents = module._contents

    def counted(path: Path) -> tuple[str, float]:
        read.append(path.name)
        return contents(path)

    monkeypatch.setattr(module, "_contents", counted)
    Keyring(ring.directory).add("n1", KEYS[4])
    read.clear()
    assert nicks(ring) == prints(n0=KEYS[0], n1=KEYS[4], n2=KEYS[2])
    assert read == ["n1.pem"]


def spoil_text(ring: Keyring) -> str:
    (ring.directory / "bad.pem").write_text("half of a k")
    return "bad.pem"


def spoil_size(ring: Keyring) -> str:
    (ring.directory / "bad.pem").write_text(KEYS[1].pem + "x" * 65536)
    return "bad.pem"


def spoil_link(ring: Keyring) -> str:
    target = ring.directory.parent / "elsewhere"
    target.write_text(KEYS[1].pem)
    (ring.directory / "bad.pem").symlink_to(target)
    return "bad.pem"


def spoil_pipe(ring: Keyring) -> str:
    os.mkfifo(ring.directory / "bad.pem")
    return "bad.pem"


def spoil_directory(ring: Keyring) -> str:
    (ring.directory / "bad.pem").mkdir()
    return "bad.pem"


def spoil_name(ring: Keyring) -> str:
    (ring.directory / "b%61d.pem").write_text(KEYS[1].pem)
    return "b%61d.pem"


def spoil_encoding(ring: Keyring) -> str:
    (ring.directory / "%ff.pem").write_text(KEYS[1].pem)
    return "%ff.pem"


def spoil_control(ring: Keyring) -> str:
    (ring.directory / "%1b.pem").write_text(KEYS[1].pem)
    return "%1b.pem"


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_text,
        spoil_size,
        spoil_link,
        spoil_pipe,
        spoil_directory,
        spoil_name,
        spoil_encoding,
        spoil_control,
    ],
)
def test_a_bad_file_is_told_once_and_stops_no_other(ring: Keyring, spoil: Callable[[Keyring], str]) -> None:
    ring.add("a", KEYS[0])
    name = spoil(ring)
    with capture_logs() as logs:
        assert nicks(ring) == prints(a=KEYS[0])
        ring.add("c", KEYS[2])
        assert nicks(ring) == prints(a=KEYS[0], c=KEYS[2])
    assert [line["file"] for line in logs] == [name]


def test_a_bad_file_that_is_mended_is_used(ring: Keyring) -> None:
    ring.add("a", KEYS[0])
    file = ring.directory / spoil_text(ring)
    assert nicks(ring) == prints(a=KEYS[0])
    file.write_text(KEYS[1].pem)
    assert nicks(ring) == prints(a=KEYS[0], bad=KEYS[1])


def test_a_key_that_lies_there_twice_counts_once_and_is_told(ring: Keyring) -> None:
    ring.add("a", KEYS[0])
    (ring.directory / "b.pem").write_text(KEYS[0].pem)
    with capture_logs() as logs:
        assert nicks(ring) == prints(a=KEYS[0])
    assert [(line["used"], line["ignored"]) for line in logs] == [("a", "b")]


def test_other_files_are_no_keys(ring: Keyring) -> None:
    ring.add("a", KEYS[0])
    (ring.directory / "README").write_text("keys")
    (ring.directory / "b.pem.part").write_text(KEYS[1].pem)
    with capture_logs() as logs:
        assert nicks(ring) == prints(a=KEYS[0])
    assert logs == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_too_few_descriptors_throw_nobody_out(ring: Keyring, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    ring.add("a", KEYS[0])
    before = ring.current()

    def scarce(path: Path) -> tuple[str, float]:
        raise OSError(number, os.strerror(number))

    Keyring(ring.directory).add("b", KEYS[1])
    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(module, "_contents", scarce)
        assert ring.current() is before
        assert ring.current() is before
    assert len(logs) == 1
    assert nicks(ring) == prints(a=KEYS[0], b=KEYS[1])


def test_a_directory_that_others_may_write_is_not_filled(ring: Keyring) -> None:
    ring.add("a", KEYS[0])
    ring.directory.chmod(0o777)
    with pytest.raises(StateError, match="may be written by others"):
        ring.add("b", KEYS[1])


def test_two_commands_do_not_change_a_keyring_at_once(ring: Keyring, monkeypatch: pytest.MonkeyPatch) -> None:
    ring.add("a", KEYS[0])
    monkeypatch.setattr(module, "LOCK_WAIT", 0.0)
    with ring._locked(), pytest.raises(StateError, match="being changed by another command"):
        Keyring(ring.directory).add("b", KEYS[1])
    assert nicks(ring) == prints(a=KEYS[0])


def test_any_thread_may_ask_while_the_keyring_changes(ring: Keyring) -> None:
    changing, stop = Keyring(ring.directory), threading.Event()

    def ask() -> int:
        number = 0
        while not stop.is_set():
            assert len(ring.current()) <= 2
            number += 1
        return number

    with ThreadPoolExecutor(4) as threads:
        asking = [threads.submit(ask) for _ in range(4)]
        for number in range(30):
            changing.add("a", KEYS[number % 2])
            changing.add("b", KEYS[2 + number % 2])
        stop.set()
        assert all(one.result() for one in asking)
    assert nicks(ring) == prints(a=KEYS[1], b=KEYS[3])


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from(["a", "b", "ä/%", "."]), st.integers(0, 3)),
        st.tuples(st.just("remove"), st.sampled_from(["a", "b", "ä/%", "."]), st.just(0)),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(operations=OPERATIONS)
def test_a_keyring_is_a_dictionary_whose_values_differ(
    tmp_path_factory: pytest.TempPathFactory, operations: list[tuple[str, str, int]]
) -> None:
    directory = tmp_path_factory.mktemp("ring") / "keys"
    changing, watching, model = Keyring(directory), Keyring(directory), dict[str, PublicKey]()
    for operation, nick, number in operations:
        if operation == "add" and any(key == KEYS[number] for name, key in model.items() if name != nick):
            with pytest.raises(Conflict):
                changing.add(nick, KEYS[number])
        elif operation == "add":
            changing.add(nick, KEYS[number])
            model[nick] = KEYS[number]
        elif nick in model:
            changing.remove(nick)
            del model[nick]
        else:
            with pytest.raises(NotFound):
                changing.remove(nick)
        assert nicks(watching) == {name: key.fingerprint for name, key in model.items()}
        assert nicks(Keyring(directory)) == nicks(watching)
