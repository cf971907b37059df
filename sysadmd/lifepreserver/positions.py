"""How far the logs are read, in the table `log_position`: one row for each main log."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert, select, update

from sysadmd.lifepreserver.parse import Progress
from sysadmd.lifepreserver.tail import Position
from sysadmd.lifepreserver.watch import Follow, State
from sysadmd.store.tables import log_position


def load(connection: Connection, path: Path) -> State | None:
    """The stored state of a main log; None before its first start."""
    row = connection.execute(select(log_position).where(log_position.c.path == str(path))).mappings().first()
    if row is None:
        return None
    position = Position(row["device"], row["inode"], row["position"], row["fingerprint"])
    return State(position, tuple(_follow(entry) for entry in row["follows"] or ()))


def save(connection: Connection, path: Path, state: State, time: float) -> None:
    """Store the state of a main log; `time` is Unix seconds."""
    values = {**columns(state), "read_at": time}
    if connection.execute(update(log_position).where(log_position.c.path == str(path)).values(values)).rowcount == 0:
        connection.execute(insert(log_position).values(path=str(path), **values))


def columns(state: State) -> dict[str, Any]:
    """What of a state outlives the process. Progress that is held back does not: a newer line says more."""
    position = state.position
    return {
        "device": position.device,
        "inode": position.inode,
        "position": position.offset,
        "fingerprint": position.fingerprint,
        "follows": [
            {
                "replication": follow.replication,
                "log": follow.log,
                "position": asdict(follow.position),
                "progress": asdict(follow.progress),
            }
            for follow in state.follows
        ],
    }


def _follow(entry: dict[str, Any]) -> Follow:
    return Follow(entry["replication"], entry["log"], Position(**entry["position"]), Progress(**entry["progress"]))
