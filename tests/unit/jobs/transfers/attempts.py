"""Attempts without a queue: one step, or a whole job stage by stage."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import msgspec

from sysadmd.config import SiteConfig
from sysadmd.jobs.spec import StepSpec
from sysadmd.jobs.transfers.elements import Kind, first
from sysadmd.jobs.transfers.engine import run
from sysadmd.jobs.transfers.sites import Sites
from sysadmd.jobs.views import End, StepView
from sysadmd.limits import Limits

ODD = [b"a b", b"'\"$(x)`", "größe ☂".encode(), b"line\nbreak", b"-rf", b"caf\xe9", "\uef80".encode(), b"...", b"~"]
"""Names that somebody may give to a file."""


class Reports(list[tuple[float, Mapping[str, Any]]]):
    """What was told about progress."""

    def __call__(self, value: float, message: str | None = None, data: Mapping[str, Any] | None = None) -> None:
        self.append((value, data or {}))


@asynccontextmanager
async def directories(*roots: Path, **limits: Any) -> AsyncIterator[Sites]:
    """Sites 1, 2, … on directories of this host."""
    made = {number: SiteConfig(root=str(root)) for number, root in enumerate(roots, 1)}
    async with Sites(made, Limits(**limits)) as sites:
        yield sites


async def attempt(
    sites: Sites,
    type: str,
    *,
    output: Any = None,
    report: Any = None,
    idx: Any = 1,
    starts: Any = 1,
    again: Any = lambda: True,
    size: Any = 0,
    **spec: Any,
) -> End:
    """One attempt of one step. Sites are 1 unless they are given."""
    whole = {"src_site": 1, "opts": {}, **({"dst_site": 1} if "dst" in spec else {}), **spec}
    # Specs and results travel as JSON.
    whole = msgspec.json.decode(msgspec.json.encode(whole))
    step = StepView(
        job_id="6" * 24,
        idx=idx,
        stage=1,
        type=type,
        state="running",
        spec=whole,
        size=size,
        tries_max=3,
        tries_used=starts,
        starts=starts,
    )
    end = await run(
        step, sites=sites, report=Reports() if report is None else report, output=output or io.BytesIO(), again=again
    )
    assert msgspec.json.encode(end)
    return end


async def step(sites: Sites, made: StepSpec, **more: Any) -> End:
    """One attempt of a step that was planned."""
    return await attempt(sites, made.type, size=made.size, **made.spec, **more)


async def job(sites: Sites, kind: Kind, src: str, dst: str | None = None, **more: Any) -> list[End]:
    """A whole job: the ends of its steps, stage by stage, the steps of one in their reverse order."""
    more = {"src_site": 1, "dst_site": 2, **more}
    ends = [await step(sites, first(kind, src=src, dst=dst, **more))]
    for _, stage in groupby(ends[0].expand, key=lambda one: one.stage):
        ends += [await step(sites, each) for each in reversed(list(stage))]
    return ends


def names(end: End) -> dict[str, list[str]]:
    """The names of a listing."""
    return {directory: [each["name"] for each in entries] for directory, entries in end.result["listing"].items()}


def content(root: Path) -> dict[bytes, bytes]:
    """Relative name -> content of every regular file below."""
    files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {os.fsencode(path.relative_to(root)): path.read_bytes() for path in files}


def failure(end: End) -> str:
    """The text of a failure."""
    assert end.outcome == "fail"
    assert end.exit_code == 1
    assert end.error is not None
    return str(end.error["message"])
