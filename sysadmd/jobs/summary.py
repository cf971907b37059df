"""How many jobs there are of each name, state and flags: kept in memory, told when it has changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection

from sysadmd.events.record import Draft
from sysadmd.jobs.counts import KILLED, REMOVED, WALL, ZOMBIE, Counts, Key, load_all
from sysadmd.jobs.queue_events import QUEUE, SUMMARY
from sysadmd.jobs.views import SummaryRow


class Tally:
    """The counts of the table `job_count`, as of the last turn. `dirty`: a summary would tell something new."""

    def __init__(self) -> None:
        self._counts: dict[Key, int] = {}
        self._states: dict[str, int] = {}
        self.dirty = False
        self.moves = 0
        """Turns so far: what was read from the store before the last of them is outdated."""

    @staticmethod
    def read(connection: Connection) -> dict[Key, int]:
        """What is stored."""
        return load_all(connection)

    def load(self, counts: Mapping[Key, int]) -> None:
        """Take over what is stored."""
        found = {key: n for key, n in counts.items() if n}
        self.dirty = self.dirty or found != self._counts
        self._counts = found
        self._states = {}
        for (_, state, _), n in found.items():
            self._states[state] = self._states.get(state, 0) + n

    def move(self, counts: Counts) -> None:
        """A turn has changed them."""
        self.moves += 1
        for key, n in counts.changed.items():
            now = self._counts.get(key, 0) + n
            if now > 0:
                self._counts[key] = now
            else:
                self._counts.pop(key, None)
            self._states[key[1]] = self._states.get(key[1], 0) + n
            self.dirty = self.dirty or n != 0

    def counts(self) -> dict[str, int]:
        """Jobs by state."""
        return {state: n for state, n in self._states.items() if n > 0}

    def rows(self, progress: Iterable[tuple[str, float]]) -> list[SummaryRow]:
        """The rows by state and name; `progress` is that of what runs, by name."""
        values: dict[str, set[float]] = {}
        for name, value in progress:
            values.setdefault(name, set()).add(value)
        rows = []
        for (name, state, flags), n in sorted(
            self._counts.items(), key=lambda item: (item[0][1], item[0][0], item[0][2])
        ):
            known = values.get(name) if state == "running" else None
            mean = sum(known) / len(known) if known else None
            rows.append(
                SummaryRow(
                    name,
                    state,
                    zombie=bool(flags & ZOMBIE),
                    wall=bool(flags & WALL),
                    removed=bool(flags & REMOVED),
                    killed=bool(flags & KILLED),
                    n=n,
                    progress=mean,
                )
            )
        return rows


def summary_draft(rows: Iterable[SummaryRow]) -> Draft:
    """The record of a summary; each reader gets a copy with the names that it may know (wire/masking.py)."""
    told: list[dict[str, Any]] = [msgspec.structs.asdict(row) for row in rows]
    return Draft(QUEUE, {"event": SUMMARY, "rows": told}, durable=False)
