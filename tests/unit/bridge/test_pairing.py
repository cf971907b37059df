"""Who may talk to whom, against a model that looks at everybody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sysadmd.bridge.pairing import Change, Pairing, Role

Step = tuple[str, str, Role, frozenset[str]]

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["replace", "replace", "remove"]),
        st.sampled_from("abcdefg"),
        st.sampled_from(["server", "client"]),
        st.frozensets(st.sampled_from("1234"), max_size=3),
    ),
    max_size=40,
)


def pairs(change: list[tuple[str, str]]) -> set[frozenset[str]]:
    assert len({frozenset(pair) for pair in change}) == len(change)
    return {frozenset(pair) for pair in change}


def model(members: dict[str, tuple[Role, frozenset[str]]]) -> set[frozenset[str]]:
    return {
        frozenset({one, other})
        for one, (role, has) in members.items()
        for other, (second, also) in members.items()
        if role == "server" and second == "client" and has & also
    }


@given(STEPS)
def test_pairs_are_those_of_a_server_and_a_client_with_a_checksum_in_common(steps: list[Step]) -> None:
    pairing = Pairing()
    members: dict[str, tuple[Role, frozenset[str]]] = {}
    known: set[frozenset[str]] = set()
    for what, member, role, checksums in steps:
        if what == "remove":
            members.pop(member, None)
            change = pairing.remove(member)
        else:
            members[member] = (role, checksums)
            change = pairing.replace(member, role, checksums)
        paired, parted = pairs(change.paired), pairs(change.parted)
        assert parted <= known
        known = known - parted | paired
        assert known == model(members)
        assert len(pairing) == len(members)
        for one in "abcdefg":
            assert pairing.counterparts(one) == {other for pair in known if one in pair for other in pair - {one}}


@given(STEPS)
def test_nothing_is_left_of_those_who_are_gone(steps: list[Step]) -> None:
    pairing = Pairing()
    for _, member, role, checksums in steps:
        pairing.replace(member, role, checksums)
    for member in "abcdefg":
        pairing.remove(member)
    assert pairing._having == {"server": {}, "client": {}}
    assert len(pairing) == 0


def test_a_list_that_is_the_same_changes_nothing() -> None:
    pairing = Pairing()
    pairing.replace("s", "server", ["k"])
    pairing.replace("c", "client", ["k"])
    assert pairing.replace("c", "client", ["k", "k"]) == Change()


def test_a_pair_stays_while_one_checksum_is_shared() -> None:
    pairing = Pairing()
    pairing.replace("s", "server", ["a", "b"])
    assert pairing.replace("c", "client", ["a", "b"]).paired == [("c", "s")]
    assert pairing.replace("c", "client", ["b"]) == Change()
    assert pairing.replace("c", "client", []).parted == [("c", "s")]


def test_a_member_that_changes_its_role_loses_its_old_pairs_first() -> None:
    pairing = Pairing()
    pairing.replace("s", "server", ["a"])
    pairing.replace("c", "client", ["a"])
    pairing.replace("x", "client", ["a"])
    change = pairing.replace("x", "server", ["a"])
    assert change == Change(paired=[("x", "c")], parted=[("x", "s")])


def test_a_change_touches_only_those_who_share_the_checksum() -> None:
    """Counted by what the index gives out, not by a clock."""
    pairing = Pairing()
    for number in range(1000):
        pairing.replace(f"c{number}", "client", [f"k{number}"])
    change = pairing.replace("s", "server", ["k7", "k8"])
    assert sorted(other for _, other in change.paired) == ["c7", "c8"]
    assert pairing.counterparts("s") == {"c7", "c8"}


def test_who_is_not_known_has_no_counterparts_and_can_be_forgotten() -> None:
    assert Pairing().counterparts("x") == frozenset()
    assert Pairing().remove("x") == Change()
