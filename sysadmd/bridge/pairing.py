"""Who may talk to whom: a server and a client that know a key in common, by its checksum (spec sysadm §6.5).

Pure, and in the size of the change: an index tells for each checksum which servers and which clients have it, and for
each pair it is counted how many they share. A checksum that comes or goes touches those on the other side who have it
too, and nobody else. A thousand clients that have nothing to do with a server cost its change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["server", "client"]
_OTHER: dict[Role, Role] = {"server": "client", "client": "server"}


@dataclass(slots=True)
class _Member:
    role: Role
    checksums: frozenset[str] = frozenset()
    shared: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Change:
    """The pairs that a step made and unmade, each as two ids: the one whose list changed first."""

    paired: list[tuple[str, str]] = field(default_factory=list)
    parted: list[tuple[str, str]] = field(default_factory=list)


class Pairing:
    """The members of one bridge by id."""

    def __init__(self) -> None:
        self._members: dict[str, _Member] = {}
        self._having: dict[Role, dict[str, set[str]]] = {"server": {}, "client": {}}

    def __len__(self) -> int:
        return len(self._members)

    def replace(self, member: str, role: Role, checksums: Iterable[str]) -> Change:
        """Take this as the list of a member, who is new or had another list or role."""
        change = Change()
        known = self._members.get(member)
        if known is not None and known.role != role:
            change = self.remove(member)
            known = None
        if known is None:
            known = self._members[member] = _Member(role)
        wanted = frozenset(checksums)
        before = dict(known.shared)
        for checksum in known.checksums - wanted:
            self._drop(member, known, checksum)
        for checksum in wanted - known.checksums:
            self._add(member, known, checksum)
        known.checksums = wanted
        change.parted += [(member, other) for other in before if other not in known.shared]
        change.paired += [(member, other) for other in known.shared if other not in before]
        return change

    def remove(self, member: str) -> Change:
        """Forget a member; the same for one that is not known."""
        known = self._members.get(member)
        if known is None:
            return Change()
        change = Change(parted=[(member, other) for other in known.shared])
        for checksum in known.checksums:
            self._drop(member, known, checksum)
        del self._members[member]
        return change

    def counterparts(self, member: str) -> frozenset[str]:
        """Those whom a member is paired with."""
        known = self._members.get(member)
        return frozenset() if known is None else frozenset(known.shared)

    def _add(self, member: str, known: _Member, checksum: str) -> None:
        self._having[known.role].setdefault(checksum, set()).add(member)
        for other in self._having[_OTHER[known.role]].get(checksum, ()):
            shared = self._members[other].shared
            shared[member] = known.shared[other] = known.shared.get(other, 0) + 1

    def _drop(self, member: str, known: _Member, checksum: str) -> None:
        having = self._having[known.role]
        having[checksum].discard(member)
        if not having[checksum]:
            del having[checksum]
        for other in self._having[_OTHER[known.role]].get(checksum, ()):
            left = known.shared[other] - 1
            shared = self._members[other].shared
            if left:
                shared[member] = known.shared[other] = left
            else:
                del shared[member], known.shared[other]
