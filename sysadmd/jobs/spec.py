"""What somebody enqueues: a job and its steps, checked before anything is stored.

A spec is a value of the caller; the queue gives it an id and a state. Checks here need nothing but the spec itself:
whether a lane exists, or a unique key is free, is the queue's to say, in the transaction that stores the job.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

import msgspec

from sysadmd.errors import BadRequest, PayloadTooLarge

Kind: TypeAlias = Literal["command", "task", "transfer"]
StepType: TypeAlias = Literal["command", "task", "LIST", "COPY", "REMOVE", "RENAME", "MKDIR"]
OnLost: TypeAlias = Literal["retry", "error"]

KINDS: frozenset[str] = frozenset(get_args(Kind))
STEP_TYPES: Mapping[str, frozenset[str]] = {
    "command": frozenset({"command"}),
    "task": frozenset({"task"}),
    "transfer": frozenset({"LIST", "COPY", "REMOVE", "RENAME", "MKDIR"}),
}
"""The types that the steps of a kind may have."""
LANES: Mapping[str, str] = {"task": "default", "transfer": "transfer"}

ARGS_BYTES = 256 * 1024
"""JSON of a job's arguments, and of one step: they travel with each claim."""
STEPS_MAX = 100_000
"""Steps of one job, those that others make included: the elements of a large directory."""
TEXT_MAX = 1024
"""Characters of a name, key or id."""
PRIORITY_MAX = 1_000_000
TRIES_MAX = 1000
STAGE_MAX = 10_000
"""Stages are numbered by depth of a directory, and no path is as deep."""
SECONDS_MAX = 10 * 366 * 86400.0
_NAME = re.compile(r"[^\x00-\x1f\x7f]+")


class StepSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a job to be.

    `spec` is what its worker reads; `stage` is a barrier: a step may start when those of all earlier stages are ok.
    `size` is in bytes, for lists. `tries` counts executions; None: as the job says.
    """

    type: StepType
    spec: Mapping[str, Any] = {}
    stage: int = 0
    size: int = 0
    tries: int | None = None


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job to be. Times are seconds; `run_after` is Unix time.

    `name` is what permissions and schedules are about. `args` are the job's arguments; `steps` are empty for the usual
    case, one step of the kind. Higher `priority` runs first, `force` before all priorities. `tries` counts executions:
    an execution that defers is none. `retry_delay` is between a failure and the next try, `defer_delay` between a
    deferral and the next look; the job is inactive when it defers later than `defer_max` after its first start.
    `wall_time` and `zombie_time` set flags (ran for longer; no progress for longer); `timeout` ends a step.
    `max_parallel` bounds the jobs of this name at once on one worker; `worker` names the only worker that may run it.
    `unique_key` is free again when the job is final. `on_lost`: what becomes of a step whose worker vanished; None for
    the kind's own (retry). `ext_id` is the owner's name for the job, unique among jobs that are not final.
    """

    kind: Kind
    name: str
    args: Mapping[str, Any] = {}
    steps: Sequence[StepSpec] = ()
    lane: str | None = None
    priority: int = 0
    force: bool = False
    tries: int = 1
    retry_delay: float = 600.0
    defer_delay: float = 300.0
    defer_max: float = 3600.0
    wall_time: float | None = None
    zombie_time: float = 1800.0
    timeout: float | None = None
    max_parallel: int | None = None
    worker: str | None = None
    unique_key: str | None = None
    run_after: float | None = None
    on_lost: OnLost | None = None
    ext_id: str | None = None
    parent_id: str | None = None


def checked(spec: JobSpec, path: str = "args") -> JobSpec:
    """The spec with its steps and lane filled in. Raises BadRequest or PayloadTooLarge naming the path and the rule."""
    if spec.kind not in KINDS:
        raise _refusal(f"{path}.kind", f"{spec.kind!r} is no kind of job", f"one of {', '.join(sorted(KINDS))}")
    if spec.kind == "command":
        raise _refusal(f"{path}.kind", "commands are run by rpc/dispatcher", "task or transfer")
    _check_texts(spec, path)
    _check_numbers(spec, path)
    _check_size(spec.args, f"{path}.args")
    steps = tuple(spec.steps)
    if not steps:
        if spec.kind != "task":
            raise _refusal(f"{path}.steps", "a transfer needs a step", "non-empty steps")
        steps = (StepSpec(type="task"),)
    check_steps(steps, spec.kind, f"{path}.steps")
    return msgspec.structs.replace(spec, steps=steps, lane=spec.lane or LANES[spec.kind])


def check_steps(steps: Sequence[StepSpec], kind: str, path: str, *, above: int = -1, room: int = STEPS_MAX) -> None:
    """Raise for steps that a job of that kind cannot have: each in a stage after `above`, `room` of them at most."""
    if len(steps) > room:
        raise _refusal(path, f"{len(steps)} steps are more than a job may have", f"at most {STEPS_MAX}")
    types = STEP_TYPES[kind]
    for index, step in enumerate(steps):
        where = f"{path}.{index}"
        if step.type not in types:
            rule = f"one of {', '.join(sorted(types))}"
            raise _refusal(f"{where}.type", f"{step.type!r} is no step of a {kind}", rule)
        if not above < step.stage <= STAGE_MAX:
            raise _refusal(f"{where}.stage", f"stage {step.stage}", f"{above + 1} to {STAGE_MAX}")
        if step.size < 0:
            raise _refusal(f"{where}.size", f"a size of {step.size} bytes", "not negative")
        if step.tries is not None and not 1 <= step.tries <= TRIES_MAX:
            raise _refusal(f"{where}.tries", f"{step.tries} tries", f"1 to {TRIES_MAX}")
        if step.spec:
            _check_size(step.spec, f"{where}.spec")


def _check_texts(spec: JobSpec, path: str) -> None:
    for key in ("name", "lane", "worker", "unique_key", "ext_id"):
        value = getattr(spec, key)
        if value is None:
            continue
        if not _NAME.fullmatch(value) or len(value) > TEXT_MAX:
            rule = f"1 to {TEXT_MAX} characters, no control characters"
            raise _refusal(f"{path}.{key}", f"{value[:80]!r} cannot be a {key}", rule)


def _check_numbers(spec: JobSpec, path: str) -> None:
    whole = {"priority": -PRIORITY_MAX, "tries": 1, "max_parallel": 1}
    most = {"priority": PRIORITY_MAX, "tries": TRIES_MAX, "max_parallel": PRIORITY_MAX}
    for key, least in whole.items():
        value = getattr(spec, key)
        if value is not None and not least <= value <= most[key]:
            raise _refusal(f"{path}.{key}", f"{value}", f"{least} to {most[key]}")
    for key in ("retry_delay", "defer_delay", "defer_max"):
        if not 0 <= getattr(spec, key) <= SECONDS_MAX:
            raise _refusal(f"{path}.{key}", f"{getattr(spec, key)}", f"0 to {SECONDS_MAX:.0f} seconds")
    for key in ("wall_time", "zombie_time", "timeout"):
        value = getattr(spec, key)
        if value is not None and not 0 < value <= SECONDS_MAX:
            raise _refusal(f"{path}.{key}", f"{value}", f"more than 0, at most {SECONDS_MAX:.0f} seconds")
    if spec.run_after is not None and not 0 <= spec.run_after < 1e11:
        raise _refusal(f"{path}.run_after", f"{spec.run_after}", "Unix seconds")
    if spec.on_lost not in (None, "retry", "error"):
        raise _refusal(f"{path}.on_lost", f"{spec.on_lost!r}", "retry or error")


def _check_size(value: Mapping[str, Any], where: str) -> None:
    try:
        size = len(msgspec.json.encode(value)) if value else 0
    except (TypeError, ValueError, RecursionError) as error:
        raise _refusal(where, f"this is not JSON: {error}", "a JSON object") from None
    if size > ARGS_BYTES:
        raise PayloadTooLarge(
            f"{where}: {size} bytes of JSON are more than {ARGS_BYTES}", path=where, rule=f"at most {ARGS_BYTES} bytes"
        )


def _refusal(path: str, found: str, rule: str) -> BadRequest:
    return BadRequest(f"{path}: {found}; expected {rule}", path=path, rule=rule)
