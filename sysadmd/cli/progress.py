"""A progress bar for long work: on a terminal only, and on standard error, so that output stays output."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sysadmd.cli.render import for_people

Report = Callable[[str, int, int], None]
"""`report(what, done, total)`: called as often as one likes; `what` is a short name of the step."""


def _silent(what: str, done: int, total: int) -> None:
    pass


@contextmanager
def progress() -> Iterator[Report]:
    """A `Report` that draws a bar for each step where a person watches, and does nothing elsewhere."""
    if not for_people(sys.stderr):
        yield _silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=max(total, 1))

        yield report
