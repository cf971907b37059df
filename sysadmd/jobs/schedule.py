"""Jobs that are enqueued by the clock.

What ran last is in the store, not in memory: `ran_at` moves on in the transaction that enqueues the job, so a crash
between the two cannot repeat a run, and of two servers on one store only one finds it unmoved. After a time without a
server there is one run, not one for each that was missed. An equal job that failed long ago is in nobody's way: a run
is left out only while the run before it is not over.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from sqlalchemy import insert, select, update

from sysadmd.config import ScheduleConfig
from sysadmd.config.cron import next_run, zone_of
from sysadmd.errors import Conflict, RpcError
from sysadmd.jobs.enqueueing import TakenKeys, enqueue
from sysadmd.jobs.spec import JobSpec, checked
from sysadmd.jobs.turn import Turn
from sysadmd.store.tables import schedule as schedules

log = logging.getLogger(__name__)

OWNER = "scheduler"
"""The owner of what the clock enqueues."""


def spec_of(name: str, config: ScheduleConfig) -> JobSpec:
    """What a schedule enqueues. Its unique key leaves out a run while the one before it is not over."""
    return checked(JobSpec(kind="task", name=config.job, args=config.args, unique_key=f"schedule {name}"))


def earliest(
    turn_now: float, ran: Mapping[str, tuple[str, float]], wanted: Mapping[str, ScheduleConfig]
) -> float | None:
    """When the next of the schedules is to run, as far as is known; None: there are none."""
    times = []
    for name, config in wanted.items():
        cron, at = ran.get(name, ("", 0.0))
        times.append(next_run(config.cron, at, zone_of(config.timezone)) if cron == config.cron else turn_now)
    return min(times, default=None)


def run_due(turn: Turn, wanted: Mapping[str, ScheduleConfig]) -> float | None:
    """Enqueue what is due, and say when to look again; None: never."""
    ran = _ran(turn)
    for name, config in wanted.items():
        if name not in ran or ran[name][0] != config.cron:
            _begin(turn, name, config, known=name in ran)
            ran[name] = config.cron, turn.now
            continue
        if ran[name][1] > turn.now + 60:
            # The clock was set back: begin again from now, or nothing would run until it is there again.
            ran[name] = config.cron, turn.now
            _moved(turn, name, None)
        if next_run(config.cron, ran[name][1], zone_of(config.timezone)) <= turn.now:
            _moved(turn, name, _enqueue(turn, name, config))
            ran[name] = config.cron, turn.now
    times = [next_run(config.cron, ran[name][1], zone_of(config.timezone)) for name, config in wanted.items()]
    return min(times, default=None)


def _enqueue(turn: Turn, name: str, config: ScheduleConfig) -> str | None:
    turn.flush()
    try:
        spec = spec_of(name, config)
        (job,) = enqueue(turn, TakenKeys(turn, [spec]), [spec], OWNER)
    except Conflict as error:
        log.info("schedule %s leaves this run out: %s", name, error)
        return None
    except RpcError as error:
        log.error("schedule %s cannot run: %s", name, error)
        return None
    return job.id


def _ran(turn: Turn) -> dict[str, tuple[str, float]]:
    rows = turn.connection.execute(select(schedules).with_for_update())
    return {row.name: (row.cron, row.ran_at) for row in rows}


def _begin(turn: Turn, name: str, config: ScheduleConfig, *, known: bool) -> None:
    """A new schedule, or a changed one, counts from now on."""
    if known:
        changed = update(schedules).where(schedules.c.name == name)
        turn.connection.execute(changed.values(cron=config.cron, ran_at=turn.now))
    else:
        turn.connection.execute(insert(schedules).values(name=name, cron=config.cron, ran_at=turn.now))


def _moved(turn: Turn, name: str, job_id: str | None) -> None:
    values: dict[str, object] = {"ran_at": turn.now}
    if job_id is not None:
        values["job_id"] = job_id
    turn.connection.execute(update(schedules).where(schedules.c.name == name).values(**values))
