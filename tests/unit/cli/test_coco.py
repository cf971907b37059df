"""`coco`: what needs no server."""

from __future__ import annotations

import tomllib
from importlib import import_module
from pathlib import Path

import click
import pytest

from sysadmd.cli import coco_actions, main
from sysadmd.cli.coco import ACTIONS, WORDS
from sysadmd.cli.coco import main as coco_main
from sysadmd.cli.coco_actions import arguments


def test_every_action_is_there_and_says_how_many_words_it_takes() -> None:
    assert ACTIONS.keys() == WORDS.keys()
    assert [name for name in ACTIONS if name != "worker" and not callable(getattr(coco_actions, name, None))] == []


def test_the_script_is_installed(repository: Path) -> None:
    module, _, name = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["scripts"][
        "coco"
    ].partition(":")
    assert getattr(import_module(module), name) is coco_main


def test_arguments_have_three_forms() -> None:
    assert arguments(["a=1", "b:x"]) == {"a": 1, "b": "x"}
    assert arguments(['{"a": {"b": 1}}']) == {"a": {"b": 1}}
    assert arguments([]) == {}


@pytest.mark.parametrize("words", [["{"], ["[1]"], ["{} {}"], ["{1: 2}"], ["word"]])
def test_what_is_no_argument_is_refused(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        arguments(words)


def test_without_a_server_it_cannot_connect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert coco_main(["--info", "--state-dir", str(tmp_path)]) == 3
    assert capsys.readouterr().err.startswith("coco: unix://")


def test_its_completion_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash", "--program", "coco"]) == 0
    assert "_COCO_COMPLETE" in capsys.readouterr().out
