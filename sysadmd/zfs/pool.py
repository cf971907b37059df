"""What a query answers: pools, datasets, snapshots. Pure: text in, frozen objects out.

Values are the texts that the tools print for people (`107G`, `12%`, `1.00x`, `-`): that is what goes on the wire.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

from sysadmd.errors import ZfsError


@dataclass(frozen=True, slots=True)
class Pool:
    """One pool. A column that this release of ZFS does not know is "-"."""

    size: str = "-"
    alloc: str = "-"
    free: str = "-"
    frag: str = "-"
    expandsz: str = "-"
    dedup: str = "-"
    altroot: str = "-"
    capacity: str = "-"
    health: str = "-"

    def columns(self) -> dict[str, str]:
        """The columns as they stand in an event or a reply."""
        return asdict(self)

    def percent(self) -> int | None:
        """Capacity in use, in percent; None where it is not known (a faulted pool shows "-")."""
        digits = self.capacity.removesuffix("%")
        return int(digits) if digits.isascii() and digits.isdigit() else None


PROPERTIES: Mapping[str, str] = {
    "size": "size",
    "alloc": "allocated",
    "free": "free",
    "frag": "fragmentation",
    "expandsz": "expandsize",
    "dedup": "dedupratio",
    "altroot": "altroot",
    "capacity": "capacity",
    "health": "health",
}
"""Column of `Pool` -> zpool property. The full names: releases differ in the short ones that they accept."""

assert tuple(PROPERTIES) == tuple(field.name for field in fields(Pool))


@dataclass(frozen=True, slots=True)
class Dataset:
    """A file system or volume."""

    used: str
    avail: str
    refer: str
    mountpoint: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot. `creation` is the date as zfs prints it in the C locale, in the machine's time zone."""

    used: str
    refer: str
    creation: str


def rows(text: str, width: int) -> list[list[str]]:
    """The lines of a `-H` listing. Raises ZfsError for a line that does not have `width` columns."""
    found = []
    for line in text.splitlines():
        if not line or line == "no pools available":  # some releases say so even with -H
            continue
        row = line.split("\t")
        if len(row) != width:
            raise ZfsError(f"expected {width} columns separated by tabs, got {len(row)}: {line[:200]!r}")
        found.append(row)
    return found


def pools(text: str, columns: Sequence[str]) -> dict[str, Pool]:
    """The pools of `zpool list -H -o name,<columns>`, by name."""
    return {name: Pool(**dict(zip(columns, values, strict=True))) for name, *values in rows(text, len(columns) + 1)}


def datasets(text: str) -> dict[str, Dataset]:
    """The datasets of `zfs list -H -o name,used,avail,refer,mountpoint`, by name."""
    return {name: Dataset(*values) for name, *values in rows(text, 5)}


def snapshots(text: str) -> dict[str, Snapshot]:
    """The snapshots of `zfs list -H -t snapshot -o name,used,refer,creation`, by full name."""
    return {name: Snapshot(*values) for name, *values in rows(text, 4)}
