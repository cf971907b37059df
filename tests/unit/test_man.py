"""The manual pages: one for each command, with every option, and nothing that a formatter complains about."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from sysadmd.cli.app import app
from sysadmd.cli.coco import coco
from sysadmd_reference import man


def tree(command: click.Command, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Every command with the name of its page."""
    yield context.command_path.replace(" ", "-"), command, context
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from tree(child, click.Context(child, parent=context, info_name=name))


COMMANDS = [
    *tree(app, click.Context(app, info_name="sysadmd")),
    *tree(coco, click.Context(coco, info_name="coco")),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    target = tmp_path_factory.mktemp("man")
    man.write(target)
    return {page.name: page.read_text() for page in target.iterdir()}


def test_every_command_has_a_page_and_no_other_is_there(pages: dict[str, str]) -> None:
    assert sorted(pages) == sorted(f"{name}.1" for name, _, _ in COMMANDS)


@pytest.mark.parametrize("name,command,context", COMMANDS, ids=[name for name, _, _ in COMMANDS])
def test_a_page_has_every_option_and_every_command_below(
    name: str, command: click.Command, context: click.Context, pages: dict[str, str]
) -> None:
    page = pages[f"{name}.1"].replace("\\-", "-")
    options = [option for parameter in command.params for option in parameter.opts if option.startswith("--")]
    below = command.list_commands(context) if isinstance(command, click.Group) else []
    assert [option for option in options if f"\\fB{option}" not in page and f" {option}" not in page] == []
    assert [child for child in below if f"{name}-{child}(1)" not in page] == []


def test_the_exit_codes_are_told(pages: dict[str, str]) -> None:
    assert "Exit codes: 1 refused" in pages["sysadmd.1"]


def test_examples_keep_their_lines(pages: dict[str, str]) -> None:
    assert ".nf\nsysadmd call rpc/query\nsysadmd call rpc/dispatcher/run" in pages["sysadmd-call.1"]


@pytest.mark.parametrize(
    "line,text",
    [(".profile", "\\&.profile"), ("'quoted'", "\\&'quoted'"), ("a\\b", "a\\eb"), ("--flag", "\\-\\-flag")],
)
def test_text_stays_text(line: str, text: str) -> None:
    assert man.escaped(line) == text


def test_a_page_that_is_no_longer_made_is_removed(tmp_path: Path) -> None:
    old = tmp_path / "sysadmd-old.1"
    old.write_text("")
    man.write(tmp_path)
    assert not old.exists()


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed; it would format the manual pages")
def test_a_formatter_finds_nothing_wrong(pages: dict[str, str]) -> None:
    for name, page in pages.items():
        done = subprocess.run(
            ["groff", "-man", "-ww", "-Tutf8", "-z"], input=page, capture_output=True, text=True, check=False
        )
        assert (name, done.returncode, done.stderr) == (name, 0, "")
