from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.errors import BadRequest
from sysadmd.jobs.command import (
    ARGUMENT_MAX,
    COMMANDS_MAX,
    ProcessSpec,
    join_command,
    parse_command,
    parse_commands,
    process_spec,
    split_command,
)


@pytest.mark.parametrize(
    "line, argv",
    [
        ("ls", ("ls",)),
        ("  ls   -l  ", ("ls", "-l")),
        ('ls "My Files"', ("ls", "My Files")),
        ('a"b c"d', ("ab cd",)),
        ('printf ""', ("printf", "")),
        ("echo 'a b'", ("echo", "'a", "b'")),
        ("echo $HOME | cat > *", ("echo", "$HOME", "|", "cat", ">", "*")),
        ("echo a\\ b", ("echo", "a\\", "b")),
        ("echo a\tb", ("echo", "a\tb")),
        ("", ()),
    ],
)
def test_a_line_is_split_at_spaces_and_held_by_double_quotes(line: str, argv: tuple[str, ...]) -> None:
    assert split_command(line) == argv


@pytest.mark.parametrize("line", ['echo "', 'a "b" "c', '"""'])
def test_an_open_quote_is_refused_with_its_path(line: str) -> None:
    with pytest.raises(BadRequest, match="do not balance") as caught:
        split_command(line, "args.job.commands.0")
    assert caught.value.path == "args.job.commands.0"


@given(st.lists(st.text(st.characters(exclude_characters='"', exclude_categories=["Cs"]))))
def test_joining_is_undone_by_splitting(argv: list[str]) -> None:
    assert list(split_command(join_command(argv))) == argv


@given(st.text())
def test_splitting_any_text_gives_arguments_or_a_refusal(line: str) -> None:
    try:
        argv = split_command(line)
    except BadRequest:
        assert line.count('"') % 2 == 1
    else:
        assert "".join(argv) == line.replace('"', "").replace(" ", "") or " " in "".join(argv)


def test_an_argv_is_taken_as_it_is() -> None:
    assert parse_command(["sh", "-c", 'echo "$1"']) == ('sh -c "echo "$1""', ("sh", "-c", 'echo "$1"'))


@pytest.mark.parametrize("command", ["", "   ", '""', [], [""], ["", "x"]])
def test_a_command_without_a_program_is_refused(command: str | list[str]) -> None:
    with pytest.raises(BadRequest, match="needs a program"):
        parse_command(command)


def test_a_nul_is_refused() -> None:
    with pytest.raises(BadRequest, match="NUL"):
        parse_command("echo a\0b")


def test_an_argument_at_the_limit_is_taken_and_one_beyond_refused() -> None:
    assert parse_command(["echo", "x" * ARGUMENT_MAX])
    with pytest.raises(BadRequest, match="longer than"):
        parse_command(["echo", "x" * (ARGUMENT_MAX + 1)])


def test_an_argument_is_measured_in_bytes() -> None:
    with pytest.raises(BadRequest, match="longer than"):
        parse_command(["echo", "ä" * (ARGUMENT_MAX // 2 + 1)])


@pytest.mark.parametrize(
    "spec, path",
    [
        (ProcessSpec(()), "args.p"),
        (ProcessSpec(["true"] * (COMMANDS_MAX + 1)), "args.p"),
        (ProcessSpec(["true"], cwd="relative"), "args.p.cwd"),
        (ProcessSpec(["true"], cwd="/a\0b"), "args.p.cwd"),
        (ProcessSpec(["true"], user=""), "args.p.user"),
        (ProcessSpec(["true"], timeout=0), "args.p.timeout"),
        (ProcessSpec(["true"], timeout=float("inf")), "args.p.timeout"),
        (ProcessSpec(["true"], timeout=float("nan")), "args.p.timeout"),
        (ProcessSpec(["true", 'x "']), "args.p.commands.1"),
    ],
)
def test_a_bad_setting_is_refused_with_its_path(spec: ProcessSpec, path: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_commands(spec, "args.p")
    assert caught.value.path == path
    assert path in caught.value.message


def test_every_form_of_a_process_gives_a_spec() -> None:
    assert process_spec("a b", "p") == ProcessSpec(("a b",))
    assert process_spec(["a", ["b", "c"]], "p") == ProcessSpec(["a", ["b", "c"]])
    settings = {"lane": "x", "cwd": "/", "user": "u", "timeout": 3.0, "no_new_privs": True}
    assert process_spec({"commands": "a", **settings}, "p") == ProcessSpec(("a",), **settings)  # type: ignore[arg-type]
    spec = ProcessSpec(["a"])
    assert process_spec(spec, "p") is spec


@pytest.mark.parametrize("value", [{}, {"lane": "x"}, {"commands": "a", "comands": "b"}])
def test_an_object_with_wrong_keys_is_refused(value: dict[str, str]) -> None:
    with pytest.raises(BadRequest, match="commands"):
        process_spec(value, "args.p")
