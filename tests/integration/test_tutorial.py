"""The pages that are executed do what they say. The grammar of their blocks is in console.py."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.integration.console import TutorialError, begins, blocks, matches, session, steps
from tests.integration.servers import end_executor

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed; the pages show it")
@pytest.mark.parametrize("name", ["tutorial.md", "bridge.md", "jobs.md"])
async def test_every_block_of_the_page_does_what_it_says(tmp_path: Path, name: str) -> None:
    try:
        with session(tmp_path, os.environ) as page:
            assert page.run((DOCS / name).read_text()) > 0
    finally:
        await end_executor(tmp_path / "state")


def console(text: str) -> str:
    return f"```console\n{text}\n```\n"


def run(tmp_path: Path, page: str) -> int:
    with session(tmp_path, os.environ) as opened:
        return opened.run(page)


def test_output_that_differs_fails_and_shows_both(tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match=r"(?s)line 1: echo one.*expected.*two.*came.*one"):
        run(tmp_path, console("$ echo one\ntwo"))


def test_a_command_that_fails_fails_the_page(tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match="exit 1"):
        run(tmp_path, console("$ false"))


def test_an_expected_failure_is_one_of_the_last_command(tmp_path: Path) -> None:
    assert run(tmp_path, "<!-- exit: 3 -->\n" + console("$ true\n$ exit 3")) == 2


def test_files_stay_between_commands(tmp_path: Path) -> None:
    assert run(tmp_path, console("$ echo kept > file") + "text\n" + console("$ cat file\nkept")) == 2


def test_a_file_block_is_written(tmp_path: Path) -> None:
    run(tmp_path, '<!-- file: a.toml -->\n```toml\nnode = "vault"\n```\n' + console('$ cat a.toml\nnode = "vault"'))


def test_a_block_that_is_not_run_says_so(tmp_path: Path) -> None:
    assert run(tmp_path, "<!-- not run: it needs FreeBSD -->\n" + console("$ false")) == 0


def test_a_block_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match="a block of json is not executed"):
        run(tmp_path, "```json\n{}\n```\n")


def test_a_script_is_compared_with_the_text_after_it(tmp_path: Path) -> None:
    assert run(tmp_path, "```python\nprint(6 * 7)\n```\n\nprints\n\n```text\n42\n```\n") == 1
    with pytest.raises(TutorialError):
        run(tmp_path, "```python\nprint(6 * 7)\n```\n\n```text\n43\n```\n")


def test_a_background_command_runs_until_the_page_ends(tmp_path: Path) -> None:
    page = "<!-- background -->\n" + console("$ sh -c 'echo ready; echo $$ > pid; exec sleep 60'\nready")
    run(tmp_path, page + console("$ sleep 0.1; kill -0 $(cat pid)"))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_background_command_that_ends_early_fails(tmp_path: Path) -> None:
    with pytest.raises(TutorialError, match=r"(?s)ready.*oh no"):
        run(tmp_path, "<!-- background -->\n" + console("$ sh -c 'echo oh no'\nready"))


def test_the_usual_ports_are_exchanged_for_free_ones(tmp_path: Path) -> None:
    with session(tmp_path, os.environ) as opened:
        text = opened.local("on 12150 and 12151, not 121500")
    assert text != "on 12150 and 12151, not 121500"
    assert text.endswith("not 121500")


@pytest.mark.parametrize(
    "expected,output,same",
    [
        ("a", "a\n", True),
        ("a", "a  \n\n", True),
        ("a", "b\n", False),
        ("", "", True),
        ("", "a\n", False),
        ("...", "", True),
        ("...", "a\nb\n", True),
        ("a\n...\nz", "a\nz\n", True),
        ("a\n...\nz", "a\nb\nc\nz\n", True),
        ("a\n...\nz", "a\nb\n", False),
        ("took ... s", "took 1.5 s\n", True),
        ("took ... s", "took 1.5\n s\n", False),
        ("(a|b)*", "(a|b)*\n", True),
        ("(a|b)*", "aaa\n", False),
    ],
)
def test_expected_output_has_wildcards_and_nothing_else(expected: str, output: str, same: bool) -> None:
    assert matches(expected, output) is same


def test_what_a_running_command_prints_later_does_not_matter() -> None:
    assert begins("...\nready ...", "starting\nready on 1\nmore\n")
    assert not begins("ready", "starting\n")


def test_a_command_goes_on_over_lines() -> None:
    (block,) = blocks(console("$ echo '\n> '\nout"))
    assert [(step.command, step.expected) for step in steps(block)] == [("echo '\n'", "out")]


def test_output_without_a_command_is_an_error() -> None:
    with pytest.raises(TutorialError, match="output without a command"):
        steps(blocks(console("lost"))[0])
