"""`sysadmd audit` on a stopped server's directory, whose database somebody changes with SQL."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sysadmd.auth import audit_table
from sysadmd.auth.audit import Audit
from sysadmd.auth.audit_key import KEY_FILE, PUBLIC_FILE
from sysadmd.auth.chain import GENESIS, Row, chained
from sysadmd.cli import main
from sysadmd.store import DATABASE_FILE, Store
from tests.unit.auth.doubles import DirectLog

RECORDS = 8
SIGNED = 5


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A stopped server's directory, with eight records, of which five are signed."""
    directory = tmp_path / "state"
    directory.mkdir(mode=0o700)
    store = Store.open(directory / DATABASE_FILE)

    async def write() -> None:
        audit = Audit(store, DirectLog(store), node="n", key_dir=directory)
        for n in range(1, RECORDS + 1):
            kind, account = ("login", "ann") if n % 2 else ("call", "bob")
            audit.record(kind, account=account, n=n)
            if n == SIGNED:
                await audit.checkpoint()

    asyncio.run(write())
    store.close()
    return directory


def audit(state: Path, command: str, *args: str) -> int:
    return main(["audit", command, *args, "--state-dir", str(state)])


def rows(state: Path) -> list[Row]:
    store = Store.open(state / DATABASE_FILE)
    try:
        return store.read_now(lambda connection: list(audit_table.read_rows(connection)))
    finally:
        store.close()


def sql(state: Path, *statements: str, values: tuple[Any, ...] = ()) -> None:
    with sqlite3.connect(state / DATABASE_FILE) as database:
        for statement in statements:
            database.execute(statement, values)
    database.close()


def anew(state: Path, start: int) -> None:
    """Write the trail anew from a number on, as who knows how hashes are made."""
    kept = rows(state)
    previous = kept[start - 2].hash if start > 1 else GENESIS
    texts = ['{"kind": "nothing"}', *(row.record for row in kept[start:])]
    for row in chained(texts, start - 1, previous):
        sql(state, "update audit set record=?, previous=?, hash=? where seq=?", values=(*row[1:], row.seq))
    sql(state, "update meta set value=? where key='audit_head'", values=(f"{row.seq}:{row.hash}",))


def test_an_untouched_trail_is_good(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit(state, "verify") == 0
    assert capsys.readouterr().out == "8 records and 1 signatures are as they were written\n"


@pytest.mark.parametrize(
    "statements,first,what",
    [
        (["update audit set record = replace(record, 'ann', 'eve') where seq = 3"], 3, "changed"),
        (["update audit set record = x'00ff' where seq = 8"], 8, "changed"),
        (["update audit set hash = previous where seq = 4"], 4, "changed"),
        (["delete from audit where seq = 2"], 2, "dropped"),
        (["delete from audit where seq = 1", "update audit set seq = seq - 1 where seq > 1"], 1, "dropped"),
        (["delete from audit where seq between 4 and 6"], 4, "dropped"),
        (
            [
                "update audit set seq = 100 where seq = 3",
                "update audit set seq = 3 where seq = 6",
                "update audit set seq = 6 where seq = 100",
            ],
            3,
            "reordered",
        ),
        (["update audit set seq = 100 where seq = 7"], 7, "reordered"),
        (["delete from audit where seq > 6"], 7, "cut"),
        (
            [
                "delete from audit where seq > 3",
                "update meta set value = '3:' || (select hash from audit where seq=3) where key = 'audit_head'",
            ],
            4,
            "cut",
        ),
        (["delete from audit"], 1, "cut"),
        (["insert into audit select 9, record, previous, hash from audit where seq = 8"], 9, "inserted"),
        (["insert into audit select 0, record, previous, hash from audit where seq = 8"], 8, "reordered"),
        (["update audit_checkpoint set hash = (select hash from audit where seq = 4)"], 5, "changed"),
        (["update audit_checkpoint set signature = 'AAAA'"], 5, "changed"),
        (["update meta set value = 'x' where key = 'audit_head'"], 8, "changed"),
    ],
)
def test_the_first_bad_record_is_named_in_one_line(
    state: Path, capsys: pytest.CaptureFixture[str], statements: list[str], first: int, what: str
) -> None:
    sql(state, *statements)
    assert audit(state, "verify") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"sysadmd: audit record {first}: {what}: ")
    assert printed.err.count("\n") == 1


def test_a_trail_written_anew_is_found_by_its_signature(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    anew(state, 3)
    assert audit(state, "verify") == 1
    assert "audit record 5: changed: not the one that was signed" in capsys.readouterr().err


def test_what_no_signature_covers_is_found_by_an_anchor(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    noted = f"8:{rows(state)[7].hash}"
    assert audit(state, "verify", "--anchor", noted) == 0
    anew(state, 7)
    assert audit(state, "verify") == 0
    assert audit(state, "verify", "--anchor", noted) == 1
    assert "audit record 8: changed: not the one that was noted elsewhere" in capsys.readouterr().err


def test_a_trail_signed_anew_with_another_key_is_found_by_ones_own_copy_of_the_public_key(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.pub"
    own.write_bytes((state / PUBLIC_FILE).read_bytes())
    (state / KEY_FILE).unlink()
    anew(state, 3)
    sql(state, "delete from audit_checkpoint")
    store = Store.open(state / DATABASE_FILE)

    async def sign() -> None:
        forger = Audit(store, DirectLog(store), node="n", key_dir=state)
        forger.record("call")
        await forger.checkpoint()

    asyncio.run(sign())
    store.close()
    assert audit(state, "verify") == 0
    assert audit(state, "verify", "--public-key", str(own)) == 1
    assert "audit record 9: changed: its checkpoint is signed by another key" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["5", "5:abc", f"0:{GENESIS}", f"x:{GENESIS}"])
def test_what_is_no_anchor_is_wrong_usage(state: Path, value: str) -> None:
    assert audit(state, "verify", "--anchor", value) == 2


def test_a_directory_without_a_database_is_said_and_stays_empty(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none").mkdir()
    assert audit(tmp_path / "none", "verify") == 1
    assert "there is no database" in capsys.readouterr().err
    assert list((tmp_path / "none").iterdir()) == []


# Export


def test_an_export_is_verified_without_the_directory(
    state: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "trail.jsonl"
    assert audit(state, "export", str(file)) == 0
    assert file.stat().st_mode & 0o777 == 0o600
    capsys.readouterr()
    assert main(["audit", "verify", "--file", str(file)]) == 0
    assert capsys.readouterr().out == "8 records and 1 signatures are as they were written\n"


def test_an_export_on_standard_output_is_the_same(
    state: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    audit(state, "export", str(tmp_path / "file"))
    capfdbinary.readouterr()
    assert audit(state, "export", "-") == 0
    assert capfdbinary.readouterr().out == (tmp_path / "file").read_bytes()


def test_an_export_says_all_that_a_stranger_needs_to_verify_it(state: Path, tmp_path: Path) -> None:
    """With nothing of ours: SHA-256 and Ed25519 by the formulas of the documentation."""
    import base64
    import hashlib

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    audit(state, "export", str(tmp_path / "file"))
    head, *lines = map(json.loads, (tmp_path / "file").read_text().splitlines())
    previous = bytes(32)
    hashes = {}
    for line in lines:
        if "record" in line:
            assert line["previous"] == previous.hex()
            previous = hashlib.sha256(previous + line["seq"].to_bytes(8, "big") + line["record"].encode()).digest()
            assert line["hash"] == previous.hex()
            hashes[line["seq"]] = line["hash"]
    assert head["head"] == [8, previous.hex()]
    signed = [line["checkpoint"] for line in lines if "checkpoint" in line]
    assert [one["seq"] for one in signed] == [SIGNED]
    for one in signed:
        text = f"sysadmd audit checkpoint v1\0{one['seq']}\0{hashes[one['seq']]}\0{one['time']!r}"
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(head["public_key"]))
        key.verify(base64.b64decode(one["signature"]), text.encode())


def swap(lines: list[str]) -> list[str]:
    return [*lines[:4], lines[5], lines[4], *lines[6:]]


@pytest.mark.parametrize(
    "change,first,what",
    [
        (lambda lines: [*lines[:4], lines[4].replace("login", "logout"), *lines[5:]], 3, "changed"),
        (lambda lines: [*lines[:4], *lines[5:]], 3, "dropped"),
        (swap, 3, "reordered"),
        (lambda lines: lines[:-2], 7, "cut"),
        (lambda lines: [*lines[:5], lines[4], *lines[5:]], 4, "inserted"),
    ],
)
def test_what_was_done_to_an_export_is_found(
    state: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[list[str]], list[str]],
    first: int,
    what: str,
) -> None:
    file = tmp_path / "trail.jsonl"
    audit(state, "export", str(file))
    file.write_text("\n".join(change(file.read_text().splitlines())) + "\n")
    capsys.readouterr()
    assert main(["audit", "verify", "--file", str(file)]) == 1
    assert capsys.readouterr().err.startswith(f"sysadmd: audit record {first}: {what}: ")


@pytest.mark.parametrize("text", ["", "x\n", "[]\n", '{"seq": 1}\n'])
def test_a_file_that_is_no_export_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (tmp_path / "file").write_text(text)
    assert main(["audit", "verify", "--file", str(tmp_path / "file")]) == 1
    assert "exported audit trail" in capsys.readouterr().err


# List


def listed(state: Path, capsys: pytest.CaptureFixture[str], *args: str) -> list[int]:
    capsys.readouterr()
    assert audit(state, "list", *args) == 0
    return [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()]


def test_list_filters_and_ends(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(state, capsys) == list(range(1, 9))
    assert listed(state, capsys, "--since", "4", "--limit", "2") == [4, 5]
    assert listed(state, capsys, "--kind", "call", "--json") == [2, 4, 6, 8]
    assert listed(state, capsys, "--account", "ann", "--kind", "call") == []


def test_list_goes_on_behind_a_page(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sysadmd.cli import audit as module

    monkeypatch.setattr(module, "PAGE", 3)
    assert listed(state, capsys) == list(range(1, 9))
    assert listed(state, capsys, "--limit", "7") == list(range(1, 8))
