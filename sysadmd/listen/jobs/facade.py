"""The resources and their verbs; each is a method of the namespace `queue` by another name.

============================  ==============================================================
`GET /api/v1/jobs`            `queue/list`, with `?cursor=` for the next page
`POST /api/v1/jobs`           `queue/enqueue`; 202 with the Location of the job
`GET /api/v1/jobs/J`          `queue/detail`
`DELETE /api/v1/jobs/J`       `queue/kill` and `queue/remove`; 202 while it still runs
`POST /api/v1/jobs/J/kill`    `queue/kill`
`POST /api/v1/jobs/J/restart` `queue/restart`; 202 with the Location of the job
`GET /api/v1/jobs/J/output`   the bytes of an output file, with `Range`
============================  ==============================================================

J is an id, the beginning of one, or a number.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import anyio.to_thread
from starlette.requests import Request as HttpRequest
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from sysadmd.auth.scope import Scope
from sysadmd.errors import BadRequest
from sysadmd.jobs.output_reading import read_bytes, size_of
from sysadmd.jobs.permitted import PermittedJobs
from sysadmd.listen.door import Door, outcome
from sysadmd.listen.jobs import openapi
from sysadmd.listen.jobs.ranges import Unsatisfiable, wanted
from sysadmd.rpc.session import Session
from sysadmd.wire.messages import Request
from sysadmd.wire.text import encode, parse

PREFIX = "/api/v1/jobs"
PART = 256 * 1024
"""Bytes of output that are read at once."""
JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
WHOLE = frozenset({"limit", "attempt", "step"})
MANY = {"state": "states", "kind": "kinds"}
"""Parameters that may be repeated -> the argument that is a list."""
ARCHIVED = {"true": True, "false": False, "all": None}


class JobsApi:
    """The facade. `jobs_of` gives the jobs as somebody may use them; `outputs` is the directory of the output files."""

    def __init__(self, door: Door, jobs_of: Callable[[Scope], PermittedJobs], outputs: Path) -> None:
        self._door, self._jobs_of, self._outputs = door, jobs_of, outputs

    def routes(self) -> Sequence[BaseRoute]:
        """Its routes, with their whole paths."""
        return [
            self._route("", GET=self._list, POST=self._enqueue),
            self._route("/{job}", GET=self._detail, DELETE=self._delete),
            self._route("/{job}/kill", POST=self._kill),
            self._route("/{job}/restart", POST=self._restart),
            self._route("/{job}/output", GET=self._output),
        ]

    def paths(self, scope: Scope | None) -> Mapping[str, Any]:
        """What somebody with this scope may use, described."""
        return openapi.paths(PREFIX, {one.key: one for one in self._door.engine.registry.allowed(scope)})

    def _route(self, path: str, **verbs: Callable[[HttpRequest, Session], Awaitable[Response]]) -> Route:
        async def serve(http: HttpRequest) -> Response:
            self._door.refuse_foreign(http)
            session = self._door.open(http)
            try:
                await self._door.identify(http, session)
                return await verbs["GET" if http.method == "HEAD" else http.method](http, session)
            finally:
                session.close()

        return Route(PREFIX + path, serve, methods=list(verbs))

    # The verbs

    async def _list(self, http: HttpRequest, session: Session) -> Response:
        found = await _call(http, session, "list", _filters(http))
        headers = {}
        if found["next"] is not None:
            found["next"] = str(found["next"])
            query = [(key, value) for key, value in http.query_params.multi_items() if key != "cursor"]
            following = urlencode([*query, ("cursor", found["next"])])
            headers["Link"] = f'<{PREFIX}?{following}>; rel="next"'
        return _json(found, headers=headers)

    async def _enqueue(self, http: HttpRequest, session: Session) -> Response:
        body = await self._door.body(http, session)
        args = parse(body, self._door.engine.limits.json_depth) if body else {}
        key = http.headers.get("idempotency-key")
        if key is not None and isinstance(args, dict):
            args = {"request_key": key, **args}
        return _accepted(await _call(http, session, "enqueue", args))

    async def _detail(self, http: HttpRequest, session: Session) -> Response:
        return _json(await _call(http, session, "detail", {"job": http.path_params["job"]}))

    async def _kill(self, http: HttpRequest, session: Session) -> Response:
        return await self._ended(http, session, ["kill"])

    async def _delete(self, http: HttpRequest, session: Session) -> Response:
        return await self._ended(http, session, ["kill", "remove"])

    async def _ended(self, http: HttpRequest, session: Session, methods: Sequence[str]) -> Response:
        """One job, which the path names: a name would stand for many."""
        job = (await _call(http, session, "detail", {"job": http.path_params["job"]}))["job"]["id"]
        for name in methods:
            await _call(http, session, name, {"jobs": [job]})
        found = await _call(http, session, "detail", {"job": job})
        return _json(found, 202 if found["job"]["state"] == "running" else 200)

    async def _restart(self, http: HttpRequest, session: Session) -> Response:
        return _accepted(await _call(http, session, "restart", {"job": http.path_params["job"]}))

    async def _output(self, http: HttpRequest, session: Session) -> Response:
        # A call like any other, for a byte: who may read, whether there is such a job, and the record of a refusal.
        asked = {"job": http.path_params["job"], "length": 1, **_numbers(http)}
        found = await _call(http, session, "output", asked)
        path = None
        if session.scope is not None and found["attempt"] is not None:
            _, attempt = await self._jobs_of(session.scope).attempt(found["job"], found["step"], found["attempt"])
            path = None if attempt is None else attempt.output_path
        size = await anyio.to_thread.run_sync(size_of, self._outputs, path)
        headers = {"Accept-Ranges": "bytes", "Cache-Control": "no-store"}
        try:
            part = wanted(http.headers.get("range"), size)
        except Unsatisfiable:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
        start, end = part or (0, size)
        if part is not None:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
        headers["Content-Length"] = str(end - start)
        body = self._bytes(path, start, end)
        return StreamingResponse(body, 200 if part is None else 206, headers, TEXT)

    async def _bytes(self, path: str | None, start: int, end: int) -> AsyncIterator[bytes]:
        """The file is opened for each part: nothing is left open by a client that goes away."""
        while start < end:
            data = await anyio.to_thread.run_sync(read_bytes, self._outputs, path, start, min(PART, end - start))
            if not data:
                return
            start += len(data)
            yield data


async def _call(http: HttpRequest, session: Session, name: str, args: Any) -> Any:
    return await outcome(http, session, Request("queue", name, None, "", args))


def _filters(http: HttpRequest) -> dict[str, Any]:
    """The arguments of `queue/list`, whose schema refuses what is none."""
    args: dict[str, Any] = _numbers(http)
    for key in set(http.query_params) - WHOLE:
        values = http.query_params.getlist(key)
        if key in MANY:
            args[MANY[key]] = [one for value in values for one in value.split(",")]
        elif key == "cursor":
            args["after"] = _number("cursor", values[-1])
        elif key == "archived":
            args["archived"] = ARCHIVED.get(values[-1], values[-1])
        else:
            args[key] = values[-1]
    return args


def _numbers(http: HttpRequest) -> dict[str, int]:
    return {key: _number(key, http.query_params[key]) for key in WHOLE if key in http.query_params}


def _number(key: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise BadRequest(f"{key}: {text[:40]!r} is no number", path=key, rule="a number")
    return int(text)


def _accepted(found: Any) -> Response:
    return _json(found, 202, {"Location": f"{PREFIX}/{found['job']['id']}"})


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode(value), status, media_type=JSON, headers=headers)
