"""The harness itself: what is a ratio, what passes, what a broken side does."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.bench import __main__ as command
from tests.bench import report
from tests.bench.harness import (
    BASELINE,
    OURS,
    ROOT,
    Bench,
    BenchError,
    Result,
    bench,
    run_in_process,
    run_pairs,
    select,
)

ABOUT = "a machine"
TODAY = datetime.date(2025, 1, 2)


def one(side: str) -> float:
    return 1.0 if side == OURS else 2.0


def row(
    name: str = "a.b",
    floor: float | None = None,
    at_least: float | None = None,
    ceiling: float | None = None,
    higher_is_better: bool = True,
) -> Bench:
    return Bench(name, one, "a thing", "s", floor, at_least, ceiling, higher_is_better)


def test_sides_take_turns_in_going_first() -> None:
    order: list[str] = []

    def run(_: Bench, side: str) -> float:
        order.append(side)
        return 1.0

    run_pairs(row(floor=1.0), run)
    assert order == [OURS, BASELINE, BASELINE, OURS] * 2 + [OURS, BASELINE]


def test_the_result_is_the_median_of_the_pairs_ratios() -> None:
    result = Result(row(floor=1.0), ours=[2, 9, 3], baseline=[1, 1, 1])
    assert result.ratio == 3


def test_less_is_better_turns_the_ratio_round() -> None:
    result = Result(row(floor=1.0, higher_is_better=False), ours=[1.0], baseline=[2.0])
    assert result.ratio == 2.0
    assert result.passed


@pytest.mark.parametrize(
    "bounds,passed",
    [
        ({"floor": 2.0}, True),
        ({"floor": 2.1}, False),
        ({"at_least": 4.0}, True),
        ({"at_least": 4.1}, False),
        ({"ceiling": 4.0}, True),
        ({"ceiling": 3.9}, False),
        ({"floor": 2.0, "ceiling": 3.9}, False),
    ],
)
def test_every_bound_must_hold(bounds: dict[str, Any], passed: bool) -> None:
    assert Result(row("a", **bounds), ours=[4.0], baseline=[2.0]).passed is passed


def test_a_row_without_a_floor_runs_no_baseline() -> None:
    made = bench("x", title="t", unit="KiB", ceiling=24)(one)
    result = run_pairs(made, lambda row, side: row.run(side))
    assert (list(result.ours), list(result.baseline)) == ([1.0] * 5, [])


def test_a_row_needs_a_bound() -> None:
    with pytest.raises(ValueError, match="without a bound"):
        bench("x", title="t", unit="s")


def test_a_row_needs_five_pairs() -> None:
    with pytest.raises(ValueError, match="fewer than five"):
        bench("x", title="t", unit="s", floor=1, pairs=4)


def test_a_coroutine_function_is_run() -> None:
    async def measure(side: str) -> float:
        return float(len(side))

    assert bench("x", title="t", unit="s", ceiling=1)(measure).run(OURS) == 4.0


def test_a_side_without_a_number_fails_the_row() -> None:
    def run(_: Bench, side: str) -> float:
        if side == BASELINE:
            raise BenchError("it broke")
        return 1.0

    result = run_pairs(row(floor=0.1), run)
    assert not result.passed
    assert "it broke" in report.line(result)


def test_a_side_runs_in_a_process_of_its_own() -> None:
    sample = Bench(name="sample", measure=SAMPLE.measure, title="t", unit="", ceiling=1)
    assert run_in_process(sample, OURS) == 1.0


def test_a_side_that_raises_is_reported_with_its_last_line() -> None:
    with pytest.raises(BenchError, match="no number today"):
        run_in_process(BROKEN, OURS)


def test_a_side_that_hangs_is_given_up() -> None:
    slow = Bench(name="sample", measure=one, title="t", unit="", ceiling=1, timeout=0.001)
    with pytest.raises(BenchError, match=r"no number after 0\.001 s"):
        run_in_process(slow, OURS)


def test_rows_are_chosen_by_name_or_first_words() -> None:
    rows = [row("a.b"), row("a.c"), row("ab")]
    assert [found.name for found in select(rows, ["a"])] == ["a.b", "a.c"]
    assert [found.name for found in select(rows, ["ab", "a.c"])] == ["ab", "a.c"]
    assert select(rows, []) == rows
    with pytest.raises(BenchError, match=r"no benchmark 'b'; there are: a\.b, a\.c, ab"):
        select(rows, ["b"])


def test_the_table_replaces_only_what_is_between_the_markers(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"before\n{report.BEGIN}\nstale\n{report.END}\nafter\n")
    report.write(page, [Result(row(floor=1.0), [2.0], [1.0])], ["a.b"])
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "stale" not in text
    assert "| `a.b` | a thing | 2 s | 1 s | 2.00 (2.00–2.00) | ratio ≥ 1 | yes |" in text


def test_a_page_without_markers_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("nothing here")
    with pytest.raises(ValueError, match="no place for the table"):
        report.write(page, [Result(row(floor=1.0), [2.0], [1.0])], ["a.b"])
    assert page.read_text() == "nothing here"


def test_rows_not_measured_now_are_kept_on_the_same_machine() -> None:
    first = section("", [Result(row("a"), [1.0]), Result(row("b"), [2.0])])
    second = section(first, [Result(row("b"), [7.0])])
    assert "| `a` | a thing | 1 s" in second
    assert "| `b` | a thing | 7 s" in second


def test_rows_of_another_machine_are_dropped() -> None:
    first = section("", [Result(row("a"), [1.0])]).replace(ABOUT, "another machine")
    assert "`a`" not in section(first, [Result(row("b"), [7.0])])


def test_rows_that_no_longer_exist_are_dropped() -> None:
    first = section("", [Result(row("a"), [1.0]), Result(row("gone"), [1.0])], order=["a", "gone"])
    assert "gone" not in section(first, [])


def test_a_note_is_shown_when_its_row_fails() -> None:
    failed = Bench(name="a", measure=one, title="t", unit="s", ceiling=1, note="the disk is slow")
    assert "- `a`: the disk is slow" in section("", [Result(failed, [2.0])])
    assert "the disk is slow" not in section("", [Result(failed, [1.0])])


@pytest.mark.parametrize(
    "value,text",
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.5, "1.5"),
        (99.94, "99.9"),
        (123.4, "123"),
        (20123, "20,100"),
        (1e6, "1,000,000"),
    ],
)
def test_numbers_have_three_significant_digits(value: float, text: str) -> None:
    assert report.number(value) == text


def test_the_machine_is_described() -> None:
    about = report.machine()
    assert " cores, " in about
    assert "Python " in about


def test_an_unknown_row_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["nothing.such", "--in", __name__]) == 2
    assert "no benchmark 'nothing.such'" in capsys.readouterr().err


def test_rows_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list", "--in", __name__]) == 0
    assert "sample" in capsys.readouterr().out


def test_every_benchmark_module_imports_and_names_each_row_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--list"]) == 0
    names = [entry.split()[0] for entry in capsys.readouterr().out.splitlines() if entry]
    assert len(names) == len(set(names))


def test_the_performance_page_has_a_place_for_the_table() -> None:
    page = (ROOT / "docs" / "performance.md").read_text()
    assert page.count(report.BEGIN) == page.count(report.END) == 1


def section(page: str, results: list[Result], order: list[str] | None = None) -> str:
    return report.section(page, results, order or ["a", "b"], about=ABOUT, today=TODAY)


@bench("sample", title="always one", unit="", ceiling=1)
def SAMPLE(side: str) -> float:  # noqa: N802  # the decorator makes a constant of it
    return one(side)


@bench("broken", title="never a number", unit="", ceiling=1)
def BROKEN(side: str) -> float:  # noqa: N802
    raise RuntimeError(f"no number today for {side}")
