"""From the body of a request for a file job to what is enqueued (spec job-queues §2.2, §2.3).

What the server owns (`id`, `user_id`, `log_uid`, `status`, `timestamp`, and credentials, which nobody sends) may stand
in a body, since clients send back what they were shown, and is not looked at. Every other unknown key is refused: it is
a misspelt one.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, Final

from sysadmd.errors import BadRequest
from sysadmd.jobs.spec import TRIES_MAX, JobSpec, StepSpec
from sysadmd.jobs.transfers import elements
from sysadmd.jobs.transfers.options import options
from sysadmd.jobs.transfers.pdm import DEFAULT_PRIORITY, JobProtocol, JobType, read, stored_priority

PREFIX = "workqueue."
"""Of the names that permissions are about: `workqueue.copy`."""
NAMES: Final[Mapping[JobType, str]] = {kind: PREFIX + kind.name.lower() for kind in JobType}
TYPES: Final[Mapping[str, str]] = {name: kind.name for kind, name in NAMES.items()}
MAX_TRIES = 2
"""Executions of an element, where the request does not say."""
RETRY_DELAY = 10.0
"""Seconds between a failure of an element and its next try: a server that was restarted is back."""
SITE_MAX = 999_999_999
"""Sites are numbered by the keys of the configuration."""

GIVEN = ("type", "src_siteid", "src_filepath", "dst_siteid", "dst_filepath", "extra_opts", "protocol", "priority",
         "max_tries")  # fmt: skip
OWNED = frozenset({"id", "user_id", "log_uid", "status", "timestamp", "src_credentials", "dst_credentials"})
TWO_SIDED = frozenset({JobType.COPY, JobType.RENAME})


def requested(body: Any, kind: JobType | None = None) -> JobSpec:
    """The job that a body asks for; `kind` is that of the URL and goes before the body's `type`.

    Raises BadRequest whose `path` is the field.
    """
    if not isinstance(body, dict):
        raise BadRequest('the body must be an object, such as {"src_siteid": 1, "src_filepath": "a"}', path="body")
    _refuse_unknown(body)
    if kind is None:
        kind = read(JobType, _required(body, "type"), "type")
    args = _args(body, kind)
    first = elements.first(
        kind.name,  # type: ignore[arg-type]  # the names of the enumeration are the words of the literal
        src_site=args["src_siteid"],
        src=args["src_filepath"],
        dst_site=args.get("dst_siteid"),
        dst=args.get("dst_filepath"),
        opts=args["extra_opts"],
        protocol=args["protocol"],
    )
    tries = _whole(body.get("max_tries"), "max_tries", 1, TRIES_MAX, MAX_TRIES)
    step = StepSpec(type=first.type, spec=first.spec, stage=first.stage, size=first.size, tries=first.tries)
    return JobSpec(
        kind="transfer",
        name=NAMES[kind],
        args=args,
        steps=(step,),
        priority=stored_priority(_given(body, "priority", DEFAULT_PRIORITY)),
        tries=tries,
        retry_delay=RETRY_DELAY,
    )


def sites(args: Mapping[str, Any]) -> dict[str, int]:
    """The sites that a job's arguments name, by field."""
    return {field: args[field] for field in ("src_siteid", "dst_siteid") if field in args}


def _args(body: Mapping[str, Any], kind: JobType) -> dict[str, Any]:
    """What is kept of the body, in one spelling."""
    source = _whole(_required(body, "src_siteid"), "src_siteid", 0, SITE_MAX)
    args = {"type": kind.name, "src_siteid": source, "src_filepath": _text(body, "src_filepath")}
    if kind in TWO_SIDED:
        if kind is JobType.COPY:
            args["dst_siteid"] = _whole(_required(body, "dst_siteid"), "dst_siteid", 0, SITE_MAX)
        else:
            args["dst_siteid"] = source
        args["dst_filepath"] = _text(body, "dst_filepath")
    extra = _given(body, "extra_opts", {})
    if not isinstance(extra, dict):
        raise BadRequest("extra_opts: must be an object", path="extra_opts")
    options(extra)
    args["extra_opts"] = extra
    args["protocol"] = read(JobProtocol, _given(body, "protocol", JobProtocol.GRIDFTP.value), "protocol").name
    return args


def _refuse_unknown(body: Mapping[str, Any]) -> None:
    for key in body:
        if key not in GIVEN and key not in OWNED:
            near = difflib.get_close_matches(key[:64], GIVEN, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(GIVEN)}"
            raise BadRequest(f"{key[:64]}: is no field of a job ({hint})", path=key[:64])


def _given(body: Mapping[str, Any], field: str, default: Any) -> Any:
    """The value of a field that may be missing, or null, which is the same."""
    value = body.get(field)
    return default if value is None else value


def _required(body: Mapping[str, Any], field: str) -> Any:
    value = body.get(field)
    if value is None:
        raise BadRequest(f"{field}: is required", path=field)
    return value


def _text(body: Mapping[str, Any], field: str) -> str:
    value = _required(body, field)
    if not isinstance(value, str):
        raise BadRequest(f"{field}: must be a text", path=field)
    return value


def _whole(value: Any, field: str, least: int, most: int, default: int | None = None) -> int:
    """A whole number, or its digits."""
    if value is None and default is not None:
        return default
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(most)):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise BadRequest(f"{field}: must be a whole number of {least} to {most}", path=field)
    return value
