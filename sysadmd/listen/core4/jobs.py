"""Jobs: `/job`, and the older `/jobs`, over the one queue (spec job-queues §1.9).

Whoever may not read a job sees in `/job` that there is one, in `/jobs` not even that; to ask for it by its id is
refused. Nothing is looked up, loaded or stored for a name before the permission for that name is known.
"""

from __future__ import annotations

import fnmatch
import hashlib
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec

from sysadmd.errors import BadRequest, Conflict, Forbidden, NotFound
from sysadmd.jobs.queue_reads import Sort
from sysadmd.jobs.rights import may
from sysadmd.jobs.tasks.catalogue import SETTINGS
from sysadmd.jobs.tasks.settings import TaskSettings
from sysadmd.jobs.views import JobView
from sysadmd.listen.core4.exchange import Exchange
from sysadmd.listen.core4.follow import follow, output_page
from sysadmd.listen.core4.pager import Page
from sysadmd.listen.core4.records import HIGH_STATES, document, row

SORTS: Mapping[str, Sort] = {
    "_id": "seq",
    "enqueued.at": "seq",
    "state": "state",
    "priority": "priority",
    "started_at": "started_at",
    "finished_at": "finished_at",
}
"""What a listing may be sorted by; the order of names would tell of those that are masked."""
UNSUPPORTED = frozenset({"chain", "dependency", "tag", "schedule", "author", "sources"})
"""Properties of a job there that do nothing here, so that they are refused and not taken for arguments."""
_ID = re.compile(r"[0-9a-f]{24}")


async def listing(exchange: Exchange) -> Page:
    """A page of the queue, with foreign jobs masked."""
    scope = exchange.scope
    names, states = _filtered(exchange)
    found, page = await _page(exchange, names, states)
    return replace(page, rows=[row(job, exchange.now, readable=may(scope, job)) for job in found])


async def readable(exchange: Exchange) -> Page:
    """A page of those jobs of the queue that the caller may read."""
    scope = exchange.scope
    names, states = _filtered(exchange)
    if names is None:
        names = {one.name for one in exchange.parts.queue.summary() if scope.may_job(one.name)}
    found, page = await _page(exchange, names, states)
    return replace(page, rows=[document(job) for job in found if may(scope, job)])


async def detail(exchange: Exchange) -> dict[str, Any]:
    """One job, also one that left the queue."""
    job = await _job(exchange, "read")
    return document(job, await exchange.parts.queue.attempts(job.id))


async def names(exchange: Exchange) -> Page:
    """A page of the tasks that the caller may run; `search` may have ? and *."""
    search = exchange.args.text("search", "*") or "*"
    if len(search) > 256 or search.count("*") > 4:
        raise BadRequest("search: expected at most 256 characters, with at most 4 stars", path="search", rule="pattern")
    found = fnmatch.filter(exchange.parts.tasks.names(), search if "*" in search else f"*{search}*")
    rows = [{"_id": name, "qual_name": name} for name in found if exchange.scope.may_job(name, "run")]
    return exchange.page().of(rows)


async def enqueue(exchange: Exchange) -> Any:
    """Enqueue a task: its id, or with `follow` all that happens to it."""
    args = exchange.args
    job = await _enqueued(exchange, args.required("qual_name"), args.mapping("args"), args.values)
    return await follow(exchange, job) if args.flag("follow", default=True) else job.id


async def enqueue_named(exchange: Exchange) -> dict[str, Any]:
    """The older way: what is no setting of a job is an argument of it."""
    args = exchange.args
    name = args.text("qual_name") or args.required("name")
    given = args.besides({"name", "qual_name", "args", "follow", *SETTINGS, *UNSUPPORTED})
    return document(await _enqueued(exchange, name, {**given, **args.mapping("args")}, args.values))


async def kill(exchange: Exchange) -> bool:
    """End a job that waits or runs."""
    job = await _job(exchange, "run")
    if not await exchange.parts.queue.kill([job.id], exchange.scope.account):
        raise Conflict(f"job [{job.id}] is {job.state}: it neither waits nor runs")
    return True


async def remove(exchange: Exchange) -> bool:
    """Take a job out of the queue."""
    job = await _job(exchange, "run")
    if not await exchange.parts.queue.remove([job.id], exchange.scope.account):
        raise Conflict(f"job [{job.id}] is not in the queue any more")
    return True


async def restart(exchange: Exchange) -> Any:
    """Let a waiting job run now, or a stopped one anew: the id of the job that runs, or with `follow` what happens."""
    new = await _restarted(exchange)
    if exchange.args.flag("follow"):
        job = await exchange.parts.queue.detail(new)
        if job is not None:
            return await follow(exchange, job)
    return new


async def restart_named(exchange: Exchange) -> dict[str, str]:
    """The older way to answer."""
    return {"old_id": exchange.path("id"), "new_id": await _restarted(exchange)}


async def followed(exchange: Exchange) -> Any:
    """What happens to a job from now on."""
    return await follow(exchange, await _job(exchange, "read"))


async def log(exchange: Exchange) -> Any:
    """What a job wrote, by pages of lines, or with `follow` as it is written."""
    job = await _job(exchange, "read")
    return await (follow if exchange.args.flag("follow") else output_page)(exchange, job)


async def _restarted(exchange: Exchange) -> str:
    job = await _job(exchange, "run")
    return await exchange.parts.queue.restart(job.id, exchange.scope.account)


async def _page(exchange: Exchange, names: set[str] | None, states: set[str] | None) -> tuple[list[JobView], Page]:
    """The jobs of the page, and the page without them."""
    sort, order = exchange.args.order("_id", tuple(SORTS))
    wanted = exchange.page()
    queue = exchange.parts.queue
    found, total = await queue.page(wanted.span, states=states, names=names, sort=SORTS[sort], descending=order < 0)
    return found, wanted.holding((), total)


def _filtered(exchange: Exchange) -> tuple[set[str] | None, set[str] | None]:
    """The names and states that the filter asks for. Raises Forbidden for a name whose jobs are not the caller's to
    read: the number of rows would tell whether there are any.
    """
    wanted = exchange.args.filter("name", "state")
    name, state = wanted.get("name"), wanted.get("state")
    if state is not None and state not in HIGH_STATES:
        raise BadRequest(f"filter.state: expected one of {', '.join(HIGH_STATES)}", path="filter", rule="enum")
    if name is not None and not (isinstance(name, str) and exchange.scope.may_job(name)):
        raise Forbidden(f"{exchange.scope.account} may not read jobs of this name")
    return None if name is None else {name}, None if state is None else {state}


async def _job(exchange: Exchange, right: str) -> JobView:
    """The job that the path names. Raises BadRequest, NotFound, and Forbidden where the caller lacks the right."""
    job_id = exchange.path("id")
    if not _ID.fullmatch(job_id):
        raise BadRequest(f"failed to parse job _id [{job_id[:40]}]", path="_id", rule="pattern")
    job = await exchange.parts.queue.detail(job_id)
    if job is None:
        raise NotFound(f"job_id [{job_id}] not found")
    if not may(exchange.scope, job, right):
        raise Forbidden(f"{exchange.scope.account} may not {right} this job")
    return job


async def _enqueued(exchange: Exchange, name: str, args: Mapping[str, Any], values: Mapping[str, Any]) -> JobView:
    scope, parts = exchange.scope, exchange.parts
    if not scope.may_job(name, "run"):
        raise Forbidden(f"{scope.account} may not run jobs of this name")
    for word in sorted(UNSUPPORTED & set(values)):
        raise BadRequest(f"{word}: is not supported", path=word, rule="enum")
    given = _settings(values)
    digest = hashlib.sha256(msgspec.json.encode(args, order="sorted")).hexdigest()
    spec = await parts.tasks.job(name, args, **given, unique_key=f"{name}:{digest}")
    try:
        return await parts.queue.enqueue(spec, owner=scope.account)
    except Conflict:
        raise Conflict(f"job [{name}] exists with args {digest[:12]}") from None


def _settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a job that the arguments set. Raises BadRequest for a setting of another type."""
    given = {word: _number(word, values[word]) for word in SETTINGS if values.get(word) is not None}
    try:
        msgspec.convert(given, TaskSettings)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at `$.")
        raise BadRequest(f"{where.rstrip('`')}: {what}", path=where.rstrip("`"), rule="type") from None
    return {SETTINGS[word]: value for word, value in given.items()}


def _number(word: str, value: Any) -> Any:
    """A setting as its type, where a query or form says it as text."""
    if word == "worker" or not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, RecursionError):
        raise BadRequest(f"{word}: expected a number or a flag", path=word, rule="type") from None
