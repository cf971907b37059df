"""Jobs on a terminal: tables, live ones too, and a bar for one job that is followed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

Job = Mapping[str, Any]
COLORS = {"running": "cyan", "complete": "green", "failed": "yellow", "deferred": "yellow", "error": "red",
          "inactive": "red", "killed": "red"}  # fmt: skip
BAR = 14


def age(seconds: float) -> str:
    """`42s`, `7m`, `3h`, `2d`: how long, roughly."""
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f}{unit}"
    return f"{max(seconds, 0):.0f}s"


def flags(job: Job) -> str:
    """`ZWRK` for zombie, wall, removed and killed, a dot for each that is not set."""
    named = zip("ZWRK", ("zombie", "wall", "removed", "killed"), strict=True)
    return "".join(letter if job.get(name) else "." for letter, name in named)


def table(jobs: Sequence[Job], now: float) -> Table:
    """The jobs as a table, with a bar of progress for each that runs."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    from sysadmd.cli.render import one_line

    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("Number", "Id", "State", "Flags", "Progress", "Prio", "Tries", "Owner", "Age", "Worker", "Name"):
        made.add_column(heading, overflow="fold", no_wrap=heading in ("Id", "State", "Age"))
    for job in jobs:
        if "id" not in job:
            made.add_row("", "", job["state"], "", "", "", "", "", "", "", Text(job["name"], style="dim"))
            continue
        progress = job["progress"]
        running = job["state"] == "running"
        bar = ProgressBar(total=1.0, completed=progress or 0.0, width=BAR) if running else _percent(progress)
        priority = f"{job['priority']}{'F' if job['force'] else ''}"
        state = Text(job["state"], style=COLORS.get(job["state"], ""))
        since = age(now - job["created_at"])
        tries = f"{job['tries_used']}/{job['tries_max']}"
        worker, owner, name = (Text(one_line(str(job[key] or ""))) for key in ("worker", "owner", "name"))
        made.add_row(str(job["seq"]), job["id"], state, flags(job), bar, priority, tries, owner, since, worker, name)
    return made


def print_table(jobs: Sequence[Job]) -> None:
    """The table, once."""
    from rich.console import Console

    Console().print(table(jobs, time.time()))


@contextmanager
def live_table() -> Iterator[Callable[[Sequence[Job]], None]]:
    """A table that is drawn anew by each call."""
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(), auto_refresh=False) as live:
        yield lambda jobs: live.update(table(jobs, time.time()), refresh=True)


@contextmanager
def bar(name: str) -> Iterator[Callable[[Job], None]]:
    """A bar on standard error for one job; what is printed meanwhile stays above it."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from sysadmd.cli.render import one_line

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    console = Console(stderr=True)
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bars:
        task = bars.add_task("", total=1.0)

        def show(job: Job) -> None:
            said = one_line(job["progress_msg"] or name)
            bars.update(task, completed=_part(job), description=_plain(f"{job['state']}  {said[:60]}"))

        yield show


def print_detail(job: Job, attempts: Sequence[Job]) -> None:
    """What is known of a job, a line for each value that it has, and its executions."""
    from sysadmd.cli.render import compact, print_rows, safe

    for key, value in job.items():
        if value is None or value is False or value == {}:
            continue
        if key == "last_error":
            print(f"{key:<20}{safe(_error(value))}")
        else:
            print(f"{key:<20}{safe(_time(key, value)) if isinstance(value, str | int | float) else compact(value)}")
    if attempts:
        print(flush=True)
        columns = {
            "n": "Attempt",
            "worker": "Worker",
            "outcome": "Outcome",
            "exit_code": "Exit",
            "output_bytes": "Output",
        }
        print_rows(columns, attempts, as_json=False)
    sys.stdout.flush()


def _time(key: str, value: Any) -> str:
    if not (key.endswith("_at") or key in ("run_after", "defer_deadline")):
        return str(value)
    import datetime

    return f"{datetime.datetime.fromtimestamp(value).astimezone():%Y-%m-%d %H:%M:%S}"


def _error(error: Mapping[str, Any]) -> str:
    said = f"{error.get('exception', '')}: {error.get('message', '')}"
    trace = error.get("traceback") or []
    lines = trace if isinstance(trace, list) else str(trace).splitlines()
    return "\n".join([said, *(f"    {line}" for text in lines for line in str(text).rstrip("\n").split("\n"))])


def _part(job: Job) -> float:
    """How much of a job is done, 0 to 1: of a transfer the part of its elements."""
    if job.get("steps_total", 1) > 1:
        return float((job["steps_ok"] + job["steps_failed"]) / job["steps_total"])
    return float(job["progress"] or 0.0)


def _percent(progress: float | None) -> str:
    return "" if progress is None else f"{progress:.0%}"


def _plain(text: str) -> str:
    """Text in which rich sees no markup."""
    from rich.markup import escape

    return escape(text)
