"""`/system`: the workers that are there, and whether the queue is paused."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, select

from sysadmd.listen.core4.exchange import Exchange
from sysadmd.store.tables import lane
from sysadmd.wire.core4 import iso


async def system(exchange: Exchange) -> dict[str, Any]:
    """The state of the system; there are no projects here."""
    alive = [
        {
            "_id": worker.id,
            "kind": "worker",
            "hostname": worker.host,
            "loop": "halted" if worker.halted else "loop",
            "loop_time": max(0.0, exchange.now - worker.started_at),
            "heartbeat": iso(worker.heartbeat_at),
            "running": worker.running,
        }
        for worker in exchange.parts.queue.workers()
    ]

    def paused(connection: Connection) -> bool:
        rows = connection.scalars(select(lane.c.paused_at).where(lane.c.name.in_(("default", "transfer")))).all()
        return bool(rows) and None not in rows

    return {"alive": alive, "maintenance": {"system": await exchange.parts.accounts.read(paused), "project": []}}
