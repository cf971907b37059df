"""`python -m tests.bench [NAME]... [--json] [--write PAGE] [--pairs N] [--list]`.

Exit code 0 when every row holds its bound, 1 when one does not, 2 for wrong usage.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.bench import harness, report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the rows that are asked for and print them, or be the child that measures one side."""
    options = parse(argv)
    try:
        if options.one:
            name, side = options.one
            (row,) = harness.select([r for m in options.modules for r in harness.rows_of(m)], [name])
            print(json.dumps({"value": row.run(side)}))
            return 0
        every = [row for module in options.modules for row in harness.rows_of(module)]
        chosen = harness.select(every, options.names)
    except harness.BenchError as error:
        print(error, file=sys.stderr)
        return 2
    if options.list:
        print("\n".join(f"{row.name:<32} {row.title}: {report.bound(row)}" for row in chosen))
        return 0
    return measure(chosen, [row.name for row in every], options)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure sysadmd beside its baselines.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="a row, or the first words of several (all rows)")
    parser.add_argument("--json", action="store_true", help="every measurement, as one JSON document")
    parser.add_argument("--list", action="store_true", help="name the rows and measure nothing")
    parser.add_argument("--pairs", type=int, metavar="N", help="at least N pairs for each row (5)")
    parser.add_argument("--write", type=Path, metavar="PAGE", help="put the table between the page's markers")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SIDE"), help="measure one side here and print its number")
    parser.add_argument("--in", dest="modules", action="append", metavar="MODULE", help="look for rows only there")
    options = parser.parse_args(argv)
    options.modules = options.modules or harness.modules()
    if options.one and options.one[1] not in (harness.OURS, harness.BASELINE):
        parser.error(f"a side is {harness.OURS} or {harness.BASELINE}, not {options.one[1]}")
    return options


def measure(rows: Sequence[harness.Bench], order: Sequence[str], options: argparse.Namespace) -> int:
    """Run the rows one after the other; results are shown as they come, the table at the end."""
    results = []
    for row in rows:
        asked = dataclasses.replace(row, pairs=max(row.pairs, options.pairs or 0))
        result = harness.run_pairs(asked, harness.run_in_process)
        results.append(result)
        print(report.line(result), file=sys.stderr, flush=True)
    if options.json:
        document = {"machine": report.machine(), "rows": [result.as_json() for result in results]}
        print(json.dumps(document, indent=2))
    else:
        print(report.table(results))
    if options.write:
        report.write(options.write, results, order)
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
