"""How a benchmark is measured: interleaved pairs, each side in a process of its own, medians.

A shared two-core machine is slow and fast by turns, so a number from one minute says nothing beside a number from
another. Both sides are therefore run one right after the other, the order changing from pair to pair, and the *ratio of
each pair* is taken; the row's result is the median of those ratios. A process of its own keeps one side's imports,
garbage and warm caches out of the other's number, and makes memory measurable at all.

Why not means: one disturbed pair of five moves their mean by a fifth of its own error, and their median not at all. Why
not minima, as `timeit` takes: they suit single functions; a server's garbage collections are part of what it costs.

A benchmark is a function from a side to one number, in a module `tests/bench/bench_*.py`::

    @bench("wire.decode", title="decode one request", unit="msg/s", floor=0.7)
    def decode(side: str) -> float: ...

It may be a coroutine function. Imports of what is measured belong inside it.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

Side = str
"""`"ours"` or `"baseline"`."""

Measure = Callable[[Side], float | Awaitable[float]]

OURS = "ours"
BASELINE = "baseline"
ROOT = Path(__file__).resolve().parent.parent.parent


class BenchError(Exception):
    """A side that gave no number."""


@dataclass(frozen=True, slots=True)
class Bench:
    """One row of the table.

    `floor` bounds the ratio ours/baseline from below (where less is better the ratio is baseline/ours: above 1 we are
    always the better one). `at_least` and `ceiling` bound our own median, in `unit`. A row without `floor` needs no
    baseline. `pairs` is how many pairs are run, `timeout` the seconds that one side may take. `note` is printed under
    the table when the row misses its bound: why, and what was tried.
    """

    name: str
    measure: Measure
    title: str
    unit: str
    floor: float | None = None
    at_least: float | None = None
    ceiling: float | None = None
    higher_is_better: bool = True
    has_baseline: bool = True
    pairs: int = 5
    timeout: float = 180.0
    note: str = ""

    @property
    def module(self) -> str:
        """The module that defines it, for a child process that is to import nothing else."""
        return self.measure.__module__

    def run(self, side: Side) -> float:
        """One number, measured in this process."""
        number = self.measure(side)
        if inspect.isawaitable(number):
            number = asyncio.run(_await(number))
        return float(number)


async def _await(number: Awaitable[float]) -> float:
    return await number


def bench(
    name: str,
    *,
    title: str,
    unit: str,
    floor: float | None = None,
    at_least: float | None = None,
    ceiling: float | None = None,
    higher_is_better: bool = True,
    baseline: bool | None = None,
    pairs: int = 5,
    timeout: float = 180.0,
    note: str = "",
) -> Callable[[Measure], Bench]:
    """Make a row of a function; see `Bench`. Without a floor there is a baseline side only for `baseline=True`."""
    if floor is None and at_least is None and ceiling is None:
        msg = f"{name}: a row without a bound cannot fail; give floor, at_least or ceiling"
        raise ValueError(msg)
    if pairs < 5:
        msg = f"{name}: {pairs} pairs; a median of fewer than five is an anecdote"
        raise ValueError(msg)

    def register(measure: Measure) -> Bench:
        return Bench(
            name=name,
            measure=measure,
            title=title,
            unit=unit,
            floor=floor,
            at_least=at_least,
            ceiling=ceiling,
            higher_is_better=higher_is_better,
            has_baseline=floor is not None if baseline is None else baseline,
            pairs=pairs,
            timeout=timeout,
            note=note,
        )

    return register


@dataclass(frozen=True, slots=True)
class Result:
    """The numbers of one row, in the order in which they were measured."""

    bench: Bench
    ours: Sequence[float]
    baseline: Sequence[float] = ()
    error: str = ""
    ratios: Sequence[float] = field(init=False)

    def __post_init__(self) -> None:
        pairs = zip(self.ours, self.baseline, strict=False)
        better = self.bench.higher_is_better
        object.__setattr__(self, "ratios", [_ratio(a, b) if better else _ratio(b, a) for a, b in pairs])

    @property
    def value(self) -> float:
        """Our median, in the row's unit."""
        return statistics.median(self.ours)

    @property
    def ratio(self) -> float | None:
        """The median of the pairs' ratios."""
        return statistics.median(self.ratios) if self.ratios else None

    @property
    def passed(self) -> bool:
        """Whether every bound of the row holds."""
        row = self.bench
        if self.error or not self.ours:
            return False
        return (
            (row.floor is None or (self.ratio is not None and self.ratio >= row.floor))
            and (row.at_least is None or self.value >= row.at_least)
            and (row.ceiling is None or self.value <= row.ceiling)
        )

    def as_json(self) -> Mapping[str, object]:
        """For `--json`: plain values, every measurement included."""
        row = self.bench
        return {
            "name": row.name,
            "title": row.title,
            "unit": row.unit,
            "ours": list(self.ours),
            "baseline": list(self.baseline),
            "ratios": list(self.ratios),
            "ratio": self.ratio,
            "floor": row.floor,
            "at_least": row.at_least,
            "ceiling": row.ceiling,
            "passed": self.passed,
            "error": self.error,
        }


def _ratio(a: float, b: float) -> float:
    return a / b if b else float("inf")


RunSide = Callable[[Bench, Side], float]


def run_pairs(row: Bench, run_side: RunSide) -> Result:
    """All pairs of one row. The side that goes first changes, so that a machine growing slower favours neither."""
    numbers: dict[Side, list[float]] = {OURS: [], BASELINE: []}
    sides = (OURS, BASELINE) if row.has_baseline else (OURS,)
    try:
        for pair in range(row.pairs):
            for side in sides if pair % 2 == 0 else sides[::-1]:
                numbers[side].append(run_side(row, side))
    except BenchError as error:
        return Result(row, numbers[OURS], numbers[BASELINE], error=str(error))
    return Result(row, numbers[OURS], numbers[BASELINE])


def run_in_process(row: Bench, side: Side) -> float:
    """One side in a fresh interpreter; its last line of output is the number. Raises `BenchError` with the reason."""
    argv = [sys.executable, "-m", "tests.bench", "--in", row.module, "--one", row.name, side]
    # The child's server, accounts and history are its own: nothing of the caller's environment decides the number.
    env = {name: value for name, value in os.environ.items() if not name.startswith("SYSADMD_")}
    try:
        done = subprocess.run(
            argv, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=row.timeout
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{row.name} {side}: no number after {row.timeout:g} s") from None
    lines = done.stdout.splitlines()
    if done.returncode != 0 or not lines:
        tail = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no output"]
        raise BenchError(f"{row.name} {side}: exit {done.returncode}: {tail[0]}")
    return float(json.loads(lines[-1])["value"])


def rows_of(module: str) -> Iterator[Bench]:
    """The rows that a module defines, in the order of their definition."""
    for value in vars(importlib.import_module(module)).values():
        if isinstance(value, Bench):
            yield value
        elif isinstance(value, (list, tuple)):
            # Rows made in a loop, such as one for each number of subscribers.
            yield from (item for item in value if isinstance(item, Bench))


def modules() -> list[str]:
    """Every `tests/bench/bench_*.py`, by name."""
    return sorted(f"tests.bench.{path.stem}" for path in Path(__file__).parent.glob("bench_*.py"))


def select(rows: Sequence[Bench], names: Sequence[str]) -> list[Bench]:
    """The rows named, or whose name starts with `NAME.`; all for no name. Raises `BenchError` for an unknown one."""
    if not names:
        return list(rows)
    chosen: list[Bench] = []
    for name in names:
        found = [row for row in rows if row.name == name or row.name.startswith(f"{name}.")]
        if not found:
            raise BenchError(f"no benchmark {name!r}; there are: {', '.join(row.name for row in rows)}")
        chosen.extend(row for row in found if row not in chosen)
    return chosen
