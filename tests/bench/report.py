"""The table in docs/performance.md, and the description of the machine that it was measured on."""

from __future__ import annotations

import datetime
import os
import platform
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.bench.harness import Bench, Result

BEGIN = "<!-- measured: begin (written by make bench) -->"
END = "<!-- measured: end -->"
HEADER = (
    "| row | what | ours | baseline | ratio (min–max) | bound | holds |\n"
    "|---|---|---:|---:|---:|---:|---|"
)  # fmt: skip
# Their versions decide the ratios: the first two are baselines, the others accelerate us.
PACKAGES = ("websockets", "msgspec", "sqlalchemy", "jsonschema-rs", "uvloop", "huey")


def number(value: float) -> str:
    """Three significant digits, thousands separated: more would pretend."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        digits = 3 - len(str(int(abs(value))))
        return f"{round(value, digits):,.0f}"
    return f"{value:.3g}"


def bound(row: Bench) -> str:
    """What the row promises, in words short enough for a table."""
    parts = []
    if row.floor is not None:
        parts.append(f"ratio ≥ {row.floor:g}")
    if row.at_least is not None:
        parts.append(f"≥ {number(row.at_least)} {row.unit}")
    if row.ceiling is not None:
        parts.append(f"≤ {number(row.ceiling)} {row.unit}")
    return ", ".join(parts)


def line(result: Result) -> str:
    """One row of the Markdown table."""
    row = result.bench
    ours = f"{number(result.value)} {row.unit}" if result.ours else "–"
    theirs = f"{number(statistics.median(result.baseline))} {row.unit}" if result.baseline else "–"
    ratio = "–"
    if result.ratio is not None:
        ratio = f"{result.ratio:.2f} ({min(result.ratios):.2f}–{max(result.ratios):.2f})"
    holds = "yes" if result.passed else f"**no** {result.error}".rstrip().replace("|", "/")
    return f"| `{row.name}` | {row.title} | {ours} | {theirs} | {ratio} | {bound(row)} | {holds} |"


def machine() -> str:
    """One sentence: processor, cores, memory, kernel, Python, packages."""
    packages = ", ".join(f"{name} {found}" for name in PACKAGES if (found := _version(name)))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return (
        f"{_processor()}, {_cores()} cores, {memory:.0f} GiB, {platform.system()} {platform.release()}, "
        f"{platform.python_implementation()} {platform.python_version()} ({packages})"
    )


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _cores() -> int:
    # What this process may use, which a container or a CI runner makes fewer than the machine has.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for entry in info.read_text().splitlines():
            if entry.startswith("model name"):
                return entry.partition(":")[2].strip()
    else:
        asked = subprocess.run(["sysctl", "-n", "hw.model"], capture_output=True, text=True, check=False)
        if asked.returncode == 0:
            return asked.stdout.strip()
    return platform.machine()


def table(results: Sequence[Result]) -> str:
    """The table alone, for the terminal."""
    return "\n".join([HEADER, *(line(result) for result in results)])


def section(page: str, results: Sequence[Result], order: Sequence[str], *, about: str, today: datetime.date) -> str:
    """What stands between the markers after this run.

    Rows that were not measured now are kept, if the machine is the same one: their ratios still say something there.
    `order` is the order of all rows that exist; a row that no longer exists goes.
    """
    kept = _rows(page) if f"Machine: {about}" in page else {}
    rows: dict[str, str] = {**kept, **{result.bench.name: line(result) for result in results}}
    lines = [f"Machine: {about}", "", f"Last measured {today.isoformat()}.", "", HEADER]
    lines += [rows[name] for name in order if name in rows]
    notes = [f"- `{r.bench.name}`: {r.bench.note}" for r in results if r.bench.note and not r.passed]
    return "\n".join([BEGIN, "", *lines, "", *notes, *([""] if notes else []), END])


def _rows(page: str) -> Mapping[str, str]:
    return {entry.split("`")[1]: entry for entry in _between(page).splitlines() if entry.startswith("| `")}


def _between(page: str) -> str:
    _, found, rest = page.partition(BEGIN)
    inside, closed, _ = rest.partition(END)
    if not found or not closed:
        msg = f"the page has no place for the table: {BEGIN} … {END}"
        raise ValueError(msg)
    return inside


def write(path: Path, results: Sequence[Result], order: Sequence[str]) -> None:
    """Replace the part of the page between the markers. Raises `ValueError` for a page without them."""
    page = path.read_text()
    _between(page)
    before, after = page.partition(BEGIN)[0], page.partition(END)[2]
    today = datetime.datetime.now(datetime.UTC).date()
    path.write_text(before + section(page, results, order, about=machine(), today=today) + after)
