"""What is printed for people and for programs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, redirect_stdout

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.cli.render import compact, flat, one_line, print_json, print_rows, safe

HOSTILE = "\x1b[2J\x9b31m\u202eevil\x07\x7f"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


OnTerminal = Callable[[], AbstractContextManager[Terminal]]
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], AbstractContextManager[Terminal]]:
    """`with terminal() as screen:`; only inside the test, since pytest puts its own standard output there first."""
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return lambda: redirect_stdout(Terminal())


def test_a_pipe_gets_one_compact_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [1, {"b": "ü"}]})
    assert capsys.readouterr().out == '{"a":[1,{"b":"ü"}]}\n'


def test_a_terminal_gets_indented_and_coloured_json(terminal: OnTerminal) -> None:
    with terminal() as screen:
        print_json({"a": 1})
    assert screen.getvalue().count("\n") == 3
    assert "\x1b[" in screen.getvalue()


def test_no_color_is_honoured(terminal: OnTerminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with terminal() as screen:
        print_json({"a": 1})
    assert "\x1b[3" not in screen.getvalue()


@given(values)
def test_compact_json_is_the_same_value_on_one_safe_line(value: object) -> None:
    text = compact(value)
    assert json.loads(text) == value
    assert safe(text) == text
    assert "\n" not in text


def test_control_sequences_do_not_reach_a_terminal_as_json(terminal: OnTerminal) -> None:
    with terminal() as screen:
        print_json({"name": HOSTILE})
    plain = screen.getvalue()
    for character in ("\x9b", "\u202e", "\x07", "\x7f", "\x1b[2J"):
        assert character not in plain


def test_safe_text_shows_what_it_replaced() -> None:
    assert safe(HOSTILE) == "\\x1b[2J\\x9b31m\\u202eevil\\x07\\x7f"
    assert safe("tab\tand\nnewline, ü, 漢") == "tab\tand\nnewline, ü, 漢"


def test_one_line_is_one_line() -> None:
    assert one_line("a\nb\rc") == "a b\\x0dc"


def test_rows_in_a_pipe_are_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_rows({"name": "Name"}, [{"name": "a", "more": 1}, {"name": "b"}], as_json=False)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == [
        {"name": "a", "more": 1},
        {"name": "b"},
    ]


def test_rows_on_a_terminal_are_a_table(terminal: OnTerminal) -> None:
    with terminal() as screen:
        print_rows({"name": "Name", "roles": "Roles"}, [{"name": "[bold]x", "roles": ["a", "b"]}], as_json=False)
    assert "Name" in screen.getvalue()
    assert "[bold]x" in screen.getvalue()  # a cell is text, not markup
    assert "a, b" in screen.getvalue()


def test_rows_on_a_terminal_are_json_where_asked(terminal: OnTerminal) -> None:
    with terminal() as screen:
        print_rows({"name": "Name"}, [{"name": "a"}], as_json=True)
    assert screen.getvalue() == '{"name":"a"}\n'


def test_nested_objects_are_flattened_to_paths() -> None:
    found = dict(flat({"a": {"b.c": 1, "d": [1, 2]}, "e": {}, "f": None}))
    assert found == {'a."b.c"': 1, "a.d": [1, 2], "e": {}, "f": None}


def test_a_leaf_alone_has_an_empty_path() -> None:
    assert list(flat("x")) == [("", "x")]
