"""Each path and verb of the API: the permission it needs, and the call of the service that it is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from sysadmd.auth.scope import Scope
from sysadmd.jobs.transfers.pdm import JobType
from sysadmd.jobs.workqueue.service import Workqueue
from sysadmd.limits import Limits
from sysadmd.listen.workqueue import query as read

LAST_NUMBER = 999_999_999
"""Of elements and attempts."""

Pages: TypeAlias = AsyncIterator[list[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request whose caller is known: `names` are the variable parts of its path, `key` its Idempotency-Key."""

    service: Workqueue
    caller: Scope
    names: Mapping[str, Any]
    query: Mapping[str, str]
    limits: Limits
    body: Any = None
    key: str | None = None

    @property
    def job(self) -> int:
        """The number of the job."""
        return int(self.names["job"])

    @property
    def element(self) -> int:
        """The number of the element."""
        return int(self.names["element"])

    @property
    def full(self) -> bool:
        """Whether listings have records instead of names."""
        return read.choice(self.query, "listing", "names", "full") == "full"

    def page(self) -> dict[str, int | None]:
        """Where a page begins, and how long it is; without a limit it is all."""
        after = read.whole(self.query, "after", 0, 2**53)
        return {"after": after, "limit": read.whole(self.query, "limit", 1, read.LIMIT_MAX)}

    def patience(self) -> dict[str, Any]:
        """How long to wait for which change."""
        wait = read.seconds(self.query, "wait", self.limits.call_deadline)
        return {"wait": wait, "known": read.status(self.query, "known")}


async def _nothing(asked: Asked) -> Any:
    """What an endpoint that answers in pages has for a handler."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`handle` gives what is answered, or `pages` the parts of a list. `action` and `access` are its permission;
    without an action it is that of the type in the body. `parameters` are those of the query, as openapi.py names them.
    """

    verb: Literal["GET", "POST", "DELETE"]
    path: str
    action: str | None
    summary: str
    handle: Callable[[Asked], Awaitable[Any]] = _nothing
    pages: Callable[[Asked], Pages] | None = None
    access: Literal["read", "run"] = "read"
    parameters: tuple[str, ...] = ()
    codes: tuple[int, ...] = ()
    kind: JobType | None = field(default=None)

    def methods(self) -> tuple[str, ...]:
        """What permissions name it, one of which is needed."""
        actions = [kind.name.lower() for kind in JobType] if self.action is None else [self.action]
        return tuple(f"workqueue/{action}" for action in actions)

    @property
    def mutates(self) -> bool:
        """Whether it changes something."""
        return self.verb != "GET"

    @property
    def takes_body(self) -> bool:
        """Whether it reads a job from the body."""
        return self.verb == "POST" and "{" not in self.path


def _jobs(asked: Asked) -> Pages:
    counts = read.flag(asked.query, "counts")
    return asked.service.jobs(asked.caller, owner=asked.query.get("owner"), counts=counts, **asked.page())


async def _job(asked: Asked) -> Any:
    return await asked.service.job(asked.caller, asked.job)


async def _status(asked: Asked) -> Any:
    return await asked.service.status(asked.caller, asked.job, **asked.patience())


async def _output(asked: Asked) -> Any:
    if read.choice(asked.query, "attempts", "latest", "all") == "all":
        return await asked.service.all_output(asked.caller, asked.job, full=asked.full, **asked.page())
    return await asked.service.output(asked.caller, asked.job, full=asked.full, **asked.page())


def _elements(asked: Asked) -> Pages:
    return asked.service.elements(asked.caller, asked.job, full=asked.full, **asked.page())


async def _element(asked: Asked) -> Any:
    return await asked.service.element(asked.caller, asked.job, asked.element, full=asked.full)


async def _element_status(asked: Asked) -> Any:
    return await asked.service.element_status(asked.caller, asked.job, asked.element, **asked.patience())


async def _element_output(asked: Asked) -> Any:
    if read.choice(asked.query, "attempts", "latest", "all") == "all":
        return await asked.service.all_element_output(asked.caller, asked.job, asked.element, full=asked.full)
    return await asked.service.element_output(asked.caller, asked.job, asked.element, full=asked.full)


async def _attempt_output(asked: Asked) -> Any:
    attempt = read.number(asked.names["attempt"], "attempt", -LAST_NUMBER, LAST_NUMBER)
    return await asked.service.element_output(asked.caller, asked.job, asked.element, attempt, full=asked.full)


async def _cancel(asked: Asked) -> Any:
    return await asked.service.cancel(asked.caller, asked.job)


async def _retry(asked: Asked) -> Any:
    return await asked.service.retry(asked.caller, asked.job)


def _submit(kind: JobType | None) -> Callable[[Asked], Awaitable[Any]]:
    async def submit(asked: Asked) -> Any:
        return await asked.service.submit(asked.caller, asked.body, kind, request_key=asked.key)

    return submit


_PAGE = ("after", "limit")
_WAIT = ("wait", "known")
JOB, ELEMENT = "/jobs/{job:int}", "/jobs/{job:int}/elements/{element:int}"

ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "/jobs", "jobs", "Your jobs, newest first", pages=_jobs, parameters=(*_PAGE, "counts", "owner")),
    Endpoint("GET", JOB, "job", "A job", _job, codes=(404,)),
    Endpoint("GET", f"{JOB}/status", "status", "The status of a job", _status, parameters=_WAIT, codes=(404,)),
    Endpoint(
        *("GET", f"{JOB}/output", "output", "The latest output of each element"), _output,
        parameters=(*_PAGE, "attempts", "listing"), codes=(404, 500),
    ),
    Endpoint(
        *("GET", f"{JOB}/elements", "elements", "The elements of a job"), pages=_elements,
        parameters=(*_PAGE, "listing"), codes=(404,),
    ),
    Endpoint("GET", ELEMENT, "element", "An element", _element, parameters=("listing",), codes=(404,)),
    Endpoint(
        *("GET", f"{ELEMENT}/status", "status", "The status of an element"), _element_status,
        parameters=_WAIT, codes=(404,),
    ),
    Endpoint(
        *("GET", f"{ELEMENT}/output", "output", "The latest output of an element"), _element_output,
        parameters=("attempts", "listing"), codes=(404, 500),
    ),
    Endpoint(
        *("GET", f"{ELEMENT}/output/{{attempt}}", "output", "The output of an attempt; -1 is the latest"),
        _attempt_output, parameters=("listing",), codes=(404, 500),
    ),
    Endpoint("DELETE", JOB, "cancel", "End a job that waits or runs", _cancel, access="run", codes=(404, 409)),
    Endpoint("POST", f"{JOB}/retry", "retry", "Try again what failed", _retry, access="run", codes=(404, 409)),
    Endpoint("POST", "/jobs", None, "Ask for a job of the body's type", _submit(None), access="run"),
    *(
        Endpoint(
            *("POST", f"/{kind.name.lower()}", kind.name.lower(), f"Ask for a {kind.name} job"), _submit(kind),
            access="run", kind=kind,
        )
        for kind in JobType
    ),
)  # fmt: skip
