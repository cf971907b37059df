"""How people name jobs: by id, by number, by the beginning of an id, or many at once by the name of their task.

======================  =========================================================================
24 hexadecimal digits   the id
decimal digits          the number (`seq`); the beginning of an id where there is no such number
4 to 23 hex digits      the beginning of an id, which has to be that of one job only
anything else           a job's name: every job of that name that is in the queue
======================  =========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from sysadmd.errors import BadRequest, NotFound, TooManyRequests
from sysadmd.jobs.queue_reads import ROWS_MAX, JobReader
from sysadmd.jobs.views import JobView

Reference = str | int

SEQ_MAX = 2**53
"""Above it there is no job, and a database could not even be asked."""
NAMED_MAX = 10_000
"""Jobs that one name may stand for."""

_ID = re.compile(r"[0-9a-f]{24}")
_PREFIX = re.compile(r"[0-9a-f]{4,23}")
_NUMBER = re.compile(r"[0-9]{1,16}", re.ASCII)


def is_name(reference: Reference) -> bool:
    """Whether it can only be a name, which may stand for many jobs."""
    text = str(reference)
    return not (_ID.fullmatch(text) or _PREFIX.fullmatch(text) or _NUMBER.fullmatch(text))


async def find(queue: JobReader, reference: Reference, path: str = "args.job") -> JobView:
    """The one job that is meant. Raises NotFound, and BadRequest for a beginning that several ids have."""
    text = str(reference)
    view = None
    if _ID.fullmatch(text):
        view = await queue.detail(text)
    elif _NUMBER.fullmatch(text) and int(text) < SEQ_MAX:
        view = await queue.detail(int(text))
    if view is None and _PREFIX.fullmatch(text):
        view = await _by_prefix(queue, text, path)
    if view is None:
        raise NotFound(f"{path}: there is no job {text[:80]!r}", path=path)
    return view


async def named(queue: JobReader, name: str) -> list[JobView]:
    """Every job of that name in the queue, newest first. Raises TooManyRequests for more than NAMED_MAX."""
    found: list[JobView] = []
    while True:
        page = await queue.listing(name=name, after=found[-1].seq if found else None, limit=ROWS_MAX)
        found += page
        if len(page) < ROWS_MAX:
            return found
        if len(found) >= NAMED_MAX:
            raise TooManyRequests(f"more than {NAMED_MAX} jobs are called {name[:80]!r}")


async def find_all(queue: JobReader, references: Iterable[Reference], path: str = "args.jobs") -> list[JobView]:
    """The jobs that are meant, each once. Raises as `find` and `named` do, NotFound for a name that none has."""
    found: dict[str, JobView] = {}
    for index, reference in enumerate(references):
        where = f"{path}.{index}"
        views = await named(queue, str(reference)) if is_name(reference) else [await find(queue, reference, where)]
        if not views:
            raise NotFound(f"{where}: no job in the queue is called {str(reference)[:80]!r}", path=where)
        found.update((view.id, view) for view in views)
    return list(found.values())


async def _by_prefix(queue: JobReader, prefix: str, path: str) -> JobView | None:
    found = await queue.beginning_with(prefix)
    if len(found) > 1:
        raise BadRequest(f"{path}: several jobs have ids that begin with {prefix}; give more digits", path=path)
    return await queue.detail(found[0]) if found else None
