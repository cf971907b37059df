"""Topics: their spellings, priority labels, and their payloads as the documented and the classic clients see them.

A record holds a canonical payload, which no client sees:

============== ======================================================================================================
life_preserver ``{"message", "priority": 0..10, "class": "snapshot" | "replication"}``
system_state   ``{"hostname", "hostnamechanged": bool, "priority": 0..10, "zpools"?: {pool: {column: str}}}``
dispatcher     ``{"phase", "process_id", "event_system", "extra": {}, "details": {}, "update": {} | None}``
queue          ``{"event", "job": {}, "counts": {}, "attempts_left": int, "detail"?: {}}``, or ``{"event", "rows"}``
workqueue      ``{"event", "job": {}, "element"?: {}, "progress"?: {}}``
bridge         ``{"available_connections": [str]}``
gap            ``{"from": int, "to": int, "cause": "overflow" | "expired" | "restart"}``
============== ======================================================================================================

`documented_args` and `classic_args` turn one payload into the `args` of the frames that tell it: none, one or several.
The documented form is that of the protocol's reference, the classic one is what its original programs send
(spec sysadm §5). A topic that is not in the table passes unchanged.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sysadmd.errors import BadRequest

SUBSCRIBABLE = frozenset({"dispatcher", "life_preserver", "queue", "system_state", "workqueue"})
"""The topics that a client may ask for."""
CLASSIC_TOPICS = frozenset({"dispatcher", "life_preserver", "system_state"})
"""Those that the original programs know: in their dialect the others are no topics."""
TOPICS = SUBSCRIBABLE | {"bridge", "gap"}
"""Those, and the ones that come unasked."""

_LABELS = ("Information",) * 3 + ("Warning",) * 3 + ("Critical",) * 3 + ("Urgent",) * 2
_TIMES = ("time_started", "time_finished")
_HEAD = ("state", "process_id", *_TIMES, "cmd_list")
_CODE = "return_codes/"

Args = Sequence[Mapping[str, Any]]


def canonical_topic(spelling: str) -> str:
    """`life_preserver` for ``life-preserver`` and ``life_preserver``. Raises `BadRequest` for what is no topic."""
    topic = spelling.replace("-", "_")
    if topic in TOPICS:
        return topic
    near = difflib.get_close_matches(topic[:64], SUBSCRIBABLE, 1)
    hint = f"did you mean {near[0]}?" if near else f"the topics are {', '.join(sorted(SUBSCRIBABLE))}"
    raise BadRequest(f"args: {spelling[:64]!r} is no topic ({hint})", path="args", rule="enum")


def hyphenated(topic: str) -> str:
    """`life-preserver`: the spelling of the original programs."""
    return topic.replace("_", "-")


def priority_label(priority: int, separator: str) -> str:
    """``6/Critical`` or ``6 - Critical``; the number is clamped to 0..10 (spec sysadm §5.2)."""
    number = min(max(priority, 0), 10)
    return f"{number}{separator}{_LABELS[number]}"


def documented_args(topic: str, data: Any, *, extended: bool = False) -> Args:
    """The `args` of the frames that tell a record to a documented (or JSON-RPC) client.

    `extended` subscribers get the overall priority of the system state too, which the plain form does not know.
    """
    render = _DOCUMENTED.get(topic)
    return (data,) if render is None else render(data, extended=extended)


def documented_log(details: Mapping[str, Any]) -> dict[str, Any]:
    """A process's log object as documented clients see it: the keys in order, the times in ISO 8601."""
    return _log_object(details, _offset_time)


def classic_args(topic: str, data: Any) -> Args:
    """The same for the original programs, before scalars are turned into strings."""
    render = _CLASSIC.get(topic)
    return (data,) if render is None else render(data)


# Life preserver and system state


def _documented_life_preserver(data: Mapping[str, Any], *, extended: bool) -> Args:
    return ({**data, "priority": priority_label(data["priority"], "/")},)


def _classic_life_preserver(data: Mapping[str, Any]) -> Args:
    return ({**data, "priority": priority_label(data["priority"], " - ")},)


def _system_state(data: Mapping[str, Any], separator: str, *, overall: bool) -> Args:
    args: dict[str, Any] = {"hostname": data["hostname"]}
    if data.get("hostnamechanged"):
        args["hostnamechanged"] = "true"
    if overall:
        args["priority"] = priority_label(data["priority"], separator)
    if "zpools" in data:
        args["zpools"] = {
            pool: {**columns, "priority": priority_label(columns["priority"], separator)}
            for pool, columns in data["zpools"].items()
        }
    return (args,)


def _documented_system_state(data: Mapping[str, Any], *, extended: bool) -> Args:
    return _system_state(data, "/", overall=extended)


def _classic_system_state(data: Mapping[str, Any]) -> Args:
    return _system_state(data, " - ", overall=True)


# Dispatcher


def _documented_dispatcher(data: Mapping[str, Any], *, extended: bool) -> Args:
    phase = data["phase"]
    if phase == "waiting":
        return ()
    typed = data["event_system"] is not None
    args: dict[str, Any] = {"event_system": data["event_system"]} if typed else {}
    args["state"] = phase if phase in ("pending", "finished") else "running"
    args["process_id"] = data["process_id"]
    args.update((key, value) for key, value in data["extra"].items() if key not in args)
    if phase in ("output", "command"):
        # Running updates carry what is new; the whole log comes at the end.
        args["process_details"] = documented_log(data["update"] or data["details"])
    elif phase != "pending" or typed:
        args["process_details"] = documented_log(data["details"])
    return (args,)


def _classic_dispatcher(data: Mapping[str, Any]) -> Args:
    """Spec sysadm §5.3: raw jobs tell that they run and how they ended, typed ones tell everything."""
    phase, details = data["phase"], data["details"]
    bare = {"process_id": data["process_id"], "state": "running"}
    if data["event_system"] is None:
        if phase == "started":
            return (bare,)
        return (_log_object(details, _local_time),) if phase == "finished" else ()
    state = {"pending": "pending", "waiting": "pending", "finished": "finished"}.get(phase, "running")
    log = _log_object((data["update"] or details) if phase == "output" else details, _local_time)
    if phase == "started":
        log.pop("current_cmd", None)
    own = {"event_system": data["event_system"], "state": state, "process_details": log}
    typed = {**data["extra"], **own}
    return (bare, typed) if phase == "started" else (typed,)


def _log_object(details: Mapping[str, Any], time: Callable[[float], str]) -> dict[str, Any]:
    """`process_details` in the order of the reference: the head, the texts, the return codes, the current command."""
    log = {key: details[key] for key in _HEAD if key in details}
    for key in _TIMES:
        if isinstance(log.get(key), (int, float)):
            log[key] = time(log[key])
    rest = [key for key in details if key not in log and key != "current_cmd"]
    log.update((key, details[key]) for key in rest if not key.startswith(_CODE))
    log.update((key, str(details[key])) for key in rest if key.startswith(_CODE))
    if "current_cmd" in details:
        log["current_cmd"] = details["current_cmd"]
    return log


def _offset_time(seconds: float) -> str:
    """ISO 8601 with the machine's UTC offset: ``2026-11-22T03:15:00+01:00``."""
    return _local(seconds).isoformat(timespec="seconds")


def _local_time(seconds: float) -> str:
    """ISO 8601 without a zone, as Qt writes local time: ``2026-11-22T03:15:00``."""
    return _local(seconds).replace(tzinfo=None).isoformat(timespec="seconds")


def _local(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).astimezone()


_DOCUMENTED: dict[str, Callable[..., Args]] = {
    "life_preserver": _documented_life_preserver,
    "system_state": _documented_system_state,
    "dispatcher": _documented_dispatcher,
}
_CLASSIC: dict[str, Callable[[Mapping[str, Any]], Args]] = {
    "life_preserver": _classic_life_preserver,
    "system_state": _classic_system_state,
    "dispatcher": _classic_dispatcher,
}
