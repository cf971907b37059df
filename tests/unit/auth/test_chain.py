"""The audit trail's hash chain: whatever somebody does to a stored trail is found, and the first bad record named."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.auth import chain
from sysadmd.auth.chain import GENESIS, Checkpoint, Row, Verdict, chained, is_signed, key_id, link, statement, verify

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()

texts = st.lists(st.text(max_size=8), min_size=1, max_size=12)
long_texts = st.lists(st.text(max_size=8), min_size=2, max_size=12, unique=True)


@pytest.fixture(scope="module", autouse=True)
def _short_trails() -> Iterator[None]:
    """These trails have a dozen records; looking for a displaced one among 200,000 numbers takes its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chain, "SHIFTS", 30)
        yield


def sign(row: Row, time: float = 5.0, key: Ed25519PrivateKey = KEY) -> Checkpoint:
    signature = base64.b64encode(key.sign(statement(row.seq, row.hash, time))).decode()
    return Checkpoint(row.seq, row.hash, time, key_id(key.public_key().public_bytes_raw()), signature)


@dataclass(frozen=True)
class Kept:
    """What is stored: rows, checkpoints and the head. `rows` may be anything that a table can hold."""

    rows: tuple[Row, ...]
    checkpoints: tuple[Checkpoint, ...] = ()
    head: tuple[int, str] | None = None

    def verify(self, **options: Any) -> Verdict:
        def rows(start: int) -> Iterator[Row]:
            return (row for row in sorted(self.rows, key=lambda row: row.seq) if row.seq >= start)

        return verify(rows, self.checkpoints, public_key=PUBLIC, head=self.head, **options)


def trail(records: Sequence[str], signed: Sequence[int] = ()) -> Kept:
    rows = tuple(chained(records, 0, GENESIS))
    head = (rows[-1].seq, rows[-1].hash) if rows else (0, GENESIS)
    return Kept(rows, tuple(sign(rows[seq - 1]) for seq in signed), head)


def with_row(kept: Kept, row: Row, at: int) -> Kept:
    return replace(kept, rows=(*kept.rows[: at - 1], row, *kept.rows[at:]))


def renumbered(rows: Sequence[Row], start: int = 1) -> tuple[Row, ...]:
    return tuple(row._replace(seq=start + n) for n, row in enumerate(rows))


def chained_anew(kept: Kept, at: int, text: str) -> Kept:
    """What somebody does who knows how the hashes are made: one record is another, and all after it fit."""
    records = [row.record for row in kept.rows]
    records[at - 1] = text
    rows = tuple(chained(records, 0, GENESIS))
    return replace(kept, rows=rows, head=(rows[-1].seq, rows[-1].hash))


@given(st.lists(st.text(max_size=8), max_size=12), st.data())
def test_an_untouched_trail_is_good(records: list[str], data: st.DataObject) -> None:
    signed = data.draw(st.lists(st.sampled_from(range(1, len(records) + 1)), unique=True) if records else st.just([]))
    kept = trail(records, signed)
    assert kept.verify() == Verdict(len(records), len(signed))
    assert kept.verify(anchors={row.seq: row.hash for row in kept.rows}).ok


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda row: row._replace(record=row.record + "x"), id="text"),
        pytest.param(lambda row: row._replace(hash=GENESIS), id="hash"),
        pytest.param(lambda row: row._replace(hash=row.hash.upper() + "A"), id="hash in another form"),
        pytest.param(lambda row: row._replace(previous="ab" * 32), id="previous"),
        pytest.param(lambda row: row._replace(previous=f" {row.previous}"), id="previous in another form"),
        pytest.param(lambda row: row._replace(previous="no hash"), id="previous is no hash"),
        pytest.param(lambda row: row._replace(record=b"\xff"), id="bytes"),
        pytest.param(lambda row: row._replace(record=None), id="nothing"),
        pytest.param(lambda row: row._replace(record="\udcff"), id="half a character"),
        pytest.param(lambda row: row._replace(record="x", hash=link(row.previous, row.seq, "x")), id="text and hash"),
        pytest.param(
            lambda row: Row(row.seq, "x", "ab" * 32, link("ab" * 32, row.seq, "x")), id="text, previous and hash"
        ),
    ],
)
@given(texts, st.data())
def test_a_changed_record_is_named(change: Callable[[Row], Row], records: list[str], data: st.DataObject) -> None:
    kept = trail(records)
    at = data.draw(st.integers(1, len(records)))
    verdict = with_row(kept, change(kept.rows[at - 1]), at).verify()
    assert (verdict.first_bad, (verdict.reason or "").partition(":")[0]) == (at, "changed")


@given(long_texts, st.data(), st.booleans())
def test_a_dropped_record_is_named(records: list[str], data: st.DataObject, close: bool) -> None:
    """Also where the ones after it took its number."""
    kept = trail(records)
    at = data.draw(st.integers(1, len(records) - 1))
    rows = kept.rows[: at - 1] + kept.rows[at:]
    verdict = replace(kept, rows=renumbered(rows) if close else rows).verify()
    assert verdict.first_bad == at
    assert (verdict.reason or "").startswith("dropped: ")


@given(long_texts, st.data())
def test_several_dropped_records_are_named_by_their_first(records: list[str], data: st.DataObject) -> None:
    kept = trail(records)
    gone = data.draw(st.sets(st.sampled_from(range(1, len(records))), min_size=1))
    rows = tuple(row for row in kept.rows if row.seq not in gone)
    assert replace(kept, rows=rows).verify().first_bad == min(gone)
    assert replace(kept, rows=renumbered(rows)).verify().first_bad == min(gone)


@given(long_texts, st.data())
def test_a_cut_tail_is_named_where_it_begins(records: list[str], data: st.DataObject) -> None:
    kept = trail(records)
    left = data.draw(st.integers(0, len(records) - 1))
    verdict = replace(kept, rows=kept.rows[:left]).verify()
    assert verdict.first_bad == left + 1
    assert verdict.reason == f"cut: the trail ends here, and there were at least {len(records)} records"


@given(long_texts, st.data())
def test_a_tail_cut_with_the_stored_head_is_found_by_checkpoint_and_by_anchor(
    records: list[str], data: st.DataObject
) -> None:
    kept = trail(records, [len(records)])
    left = data.draw(st.integers(0, len(records) - 1))
    head = (left, kept.rows[left - 1].hash) if left else (0, GENESIS)
    cut = replace(kept, rows=kept.rows[:left], head=head)
    assert cut.verify().first_bad == left + 1
    last = kept.rows[-1]
    unsigned = replace(cut, checkpoints=())
    assert unsigned.verify().ok
    assert unsigned.verify(anchors={last.seq: last.hash}).first_bad == left + 1


@given(long_texts, st.data())
def test_reordered_records_are_named_by_the_first_that_is_not_in_its_place(
    records: list[str], data: st.DataObject
) -> None:
    kept = trail(records)
    order = data.draw(st.permutations(kept.rows))
    verdict = replace(kept, rows=renumbered(order)).verify()
    first = next((n for n, row in enumerate(order, 1) if row.seq != n), None)
    assert verdict.first_bad == first
    assert first is None or (verdict.reason or "").startswith("reordered: ")


@given(long_texts, st.data())
def test_two_swapped_records_are_named_by_the_first(records: list[str], data: st.DataObject) -> None:
    kept = trail(records)
    one, other = sorted(data.draw(st.lists(st.integers(1, len(records)), min_size=2, max_size=2, unique=True)))
    rows = list(kept.rows)
    rows[one - 1], rows[other - 1] = rows[other - 1]._replace(seq=one), rows[one - 1]._replace(seq=other)
    verdict = replace(kept, rows=tuple(rows)).verify()
    assert (verdict.first_bad, verdict.reason) == (one, "reordered: it has another number")


@given(long_texts, st.data(), st.sampled_from([-5, 0, 1000]))
def test_a_record_with_another_number_is_named_by_its_own(records: list[str], data: st.DataObject, number: int) -> None:
    kept = trail(records)
    at = data.draw(st.integers(1, len(records) - 1))
    verdict = with_row(kept, kept.rows[at - 1]._replace(seq=number), at).verify()
    assert verdict.first_bad == at
    assert (verdict.reason or "").startswith("reordered: ")


@given(long_texts, st.data(), st.booleans())
def test_an_inserted_record_is_found(records: list[str], data: st.DataObject, fits: bool) -> None:
    """At its place, whether its hash fits there or not."""
    kept = trail(records)
    at = data.draw(st.integers(1, len(records) + 1))
    previous = kept.rows[at - 2].hash if at > 1 else GENESIS
    new = Row(at, "new", previous, link(previous, at, "new") if fits else "cd" * 32)
    rows = (*kept.rows[: at - 1], new, *renumbered(kept.rows[at - 1 :], at + 1))
    assert replace(kept, rows=rows).verify().first_bad == at


@given(long_texts, st.data())
def test_a_duplicated_record_is_found(records: list[str], data: st.DataObject) -> None:
    kept = trail(records)
    copied, at = data.draw(st.integers(1, len(records))), data.draw(st.integers(1, len(records) + 1))
    rows = renumbered([*kept.rows[: at - 1], kept.rows[copied - 1], *kept.rows[at - 1 :]])
    # A copy right before the original cannot be told from one right after it.
    assert replace(kept, rows=rows).verify().first_bad == (at + 1 if copied == at else at)


@pytest.mark.parametrize("number", [-3, 0])
def test_a_record_put_before_the_first_is_found(number: int) -> None:
    kept = trail(["a", "b"])
    verdict = replace(kept, rows=(Row(number, "new", GENESIS, "cd" * 32), *kept.rows)).verify()
    assert (verdict.first_bad, verdict.reason) == (number, "inserted: there was no record with this number")


@given(long_texts, st.data())
def test_a_chain_computed_anew_is_found_by_the_next_checkpoint(records: list[str], data: st.DataObject) -> None:
    signed = data.draw(st.sets(st.integers(1, len(records)), min_size=1))
    kept = trail(records, sorted(signed))
    at = data.draw(st.integers(1, max(signed)))
    verdict = chained_anew(kept, at, "another text").verify()
    before = max((seq for seq in signed if seq < at), default=0)
    assert verdict.first_bad == min(seq for seq in signed if seq >= at)
    assert verdict.reason == (
        f"changed: not the one that was signed; the trail was written anew from some record after {before} on"
    )


@given(long_texts, st.data())
def test_a_chain_computed_anew_is_found_by_an_anchor(records: list[str], data: st.DataObject) -> None:
    kept = trail(records)
    anchor = kept.rows[data.draw(st.integers(1, len(records))) - 1]
    anew = chained_anew(kept, data.draw(st.integers(1, anchor.seq)), "another text")
    assert anew.verify().ok
    assert anew.verify(anchors={anchor.seq: anchor.hash}).first_bad == anchor.seq


def test_a_chain_computed_anew_and_signed_anew_is_another_keys() -> None:
    kept = chained_anew(trail(["a", "b", "c"]), 2, "x")
    forged = replace(kept, checkpoints=(sign(kept.rows[2], key=Ed25519PrivateKey.generate()),))
    verdict = forged.verify()
    assert verdict.first_bad == 3
    assert "signed by another key" in (verdict.reason or "")


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one._replace(time=one.time + 1),
        lambda one: one._replace(hash=GENESIS),
        lambda one: one._replace(signature=base64.b64encode(bytes(64)).decode()),
        lambda one: one._replace(signature="no base64"),
        lambda one: one._replace(signature=None),
        lambda one: one._replace(seq=1),
        lambda one: one._replace(seq=9),
    ],
)
def test_a_changed_checkpoint_is_found(change: Callable[[Checkpoint], Checkpoint]) -> None:
    kept = trail(["a", "b", "c"], [2])
    changed = change(kept.checkpoints[0])
    verdict = replace(kept, checkpoints=(changed,)).verify()
    assert (verdict.first_bad, verdict.reason) == (changed.seq, "changed: the signature of its checkpoint is false")


def test_an_earlier_change_is_named_before_a_later_checkpoints() -> None:
    kept = trail(["a", "b", "c"], [3])
    broken = with_row(kept, kept.rows[0]._replace(record="x"), 1)
    forged = replace(broken, checkpoints=(kept.checkpoints[0]._replace(time=9.0),))
    assert forged.verify().first_bad == 1


def test_without_a_public_key_signatures_are_not_looked_at() -> None:
    kept = trail(["a", "b"], [2])
    unsigned = kept.checkpoints[0]._replace(signature="")
    assert verify(lambda start: kept.rows[start - 1 :] if start > 0 else kept.rows, [unsigned], public_key=None).ok


def test_a_head_that_is_not_the_last_records_is_found() -> None:
    kept = trail(["a", "b", "c"])
    other = replace(kept, head=(3, GENESIS)).verify()
    assert (other.first_bad, (other.reason or "").partition(":")[0]) == (3, "changed")
    behind = replace(kept, head=(2, kept.rows[1].hash)).verify()
    assert (behind.first_bad, behind.reason) == (3, "inserted: the trail ended with record 2")


def test_a_signature_is_for_one_number_hash_and_time() -> None:
    (row,) = chained(["a"], 0, GENESIS)
    good = sign(row)
    assert is_signed(PUBLIC, good)
    assert not is_signed(Ed25519PrivateKey.generate().public_key().public_bytes_raw(), good)
    assert not is_signed(PUBLIC[:5], good)


def test_the_hash_is_over_the_hash_before_the_number_and_the_text() -> None:
    """The formula of the module's head, computed with nothing of it."""
    import hashlib

    first, second = chained(["a", "ä"], 0, GENESIS)
    assert first.hash == hashlib.sha256(bytes(32) + (1).to_bytes(8, "big") + b"a").hexdigest()
    wanted = hashlib.sha256(bytes.fromhex(first.hash) + (2).to_bytes(8, "big") + "ä".encode()).hexdigest()
    assert (second.previous, second.hash) == (first.hash, wanted)
