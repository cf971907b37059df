"""Names on the wire: any bytes survive, and no text leads out of a root."""

from __future__ import annotations

import json
import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysadmd.jobs.transfers import names
from sysadmd.jobs.transfers.names import decode, encode, join, parse, shown


@given(st.binary(max_size=50) | st.text(max_size=20).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_come_back(raw: bytes) -> None:
    assert encode(decode(raw)) == raw


@given(
    st.lists(st.sampled_from([b"\xee\xbe\x80", b"\xee\xbf\xbf", b"\x80", b"\xee", b"a", "é".encode()])).map(b"".join)
)
def test_names_that_hold_the_private_characters_come_back(raw: bytes) -> None:
    assert encode(decode(raw)) == raw


@given(st.binary(max_size=50))
def test_the_text_of_any_name_fits_into_a_message(raw: bytes) -> None:
    text = decode(raw)
    assert json.loads(json.dumps(text)) == text
    assert msgspec.json.decode(msgspec.json.encode(text)) == text


@given(st.text(st.characters(exclude_categories=["Cs", "Co"]), max_size=30))
def test_a_utf_8_name_reads_as_itself(text: str) -> None:
    assert decode(text.encode()) == text


def test_a_name_that_python_escaped_is_understood_as_well() -> None:
    assert encode(os.fsdecode(b"caf\xe9")) == b"caf\xe9"


@pytest.mark.parametrize(
    "text, anchor, parts",
    [
        ("/", "/", ()),
        ("~", "~/", ()),
        ("~/", "~/", ()),
        ("/a", "/", (b"a",)),
        ("~/a", "~/", (b"a",)),
        ("a", "~/", (b"a",)),
        ("./a", "~/", (b"a",)),
        ("//a///b/./c", "/", (b"a", b"b", b"c")),
        ("/~", "/", (b"~",)),
        ("/~root/x", "/", (b"~root", b"x")),
        ("/a b/-rf", "/", (b"a b", b"-rf")),
        ("/a\nb'\"$x", "/", (b"a\nb'\"$x",)),
        ("/...", "/", (b"...",)),
    ],
)
def test_a_path_is_below_the_root(text: str, anchor: str, parts: tuple[bytes, ...]) -> None:
    path = parse(text)
    assert (path.anchor, path.parts) == (anchor, parts)
    assert parse(path.text) == names.SitePath(anchor, parts, slash=not parts)


@pytest.mark.parametrize("text", ["/a/", "/a/.", "~/a/", "a/"])
def test_a_slash_at_the_end_is_kept_in_mind(text: str) -> None:
    assert parse(text).slash
    assert not parse(text.rstrip("/.")).slash


@pytest.mark.parametrize(
    "text, rule",
    [
        ("", "must not be empty"),
        ("/a\0b", "NUL"),
        ("..", "must not contain"),
        ("/a/../b", "must not contain"),
        ("~/..", "must not contain"),
        ("/a/..", "must not contain"),
        ("~root", "somebody else"),
        ("~root/x", "somebody else"),
        ("/" + "a" * 256, "no name above 255"),
        ("/a" * 2048 + "/", "at most 4096"),
    ],
)
def test_what_is_no_path(text: str, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        parse(text)


def test_the_longest_path_and_name_pass() -> None:
    assert len(parse("/" + "a" * 255).name) == 255
    assert len(parse("/a" * 2048).parts) == 2048


@given(st.lists(st.binary(min_size=1, max_size=20), max_size=5))
def test_every_path_is_spelled_in_one_way(raw: list[bytes]) -> None:
    parts = tuple(each.replace(b"/", b"_").replace(b"\0", b"_") for each in raw)
    if any(each in {b".", b".."} for each in parts):
        return
    path = names.SitePath("/", parts)
    assert parse(path.text).parts == parts
    text = "/"
    for part in parts:
        text = join(text, decode(part))
    assert text == path.text


def test_parents_and_children() -> None:
    assert parse("/a/b").parent.text == "/a"
    assert parse("/").parent.text == "/"
    assert parse("~").child(b"x").text == "~/x"
    with pytest.raises(ValueError, match="root"):
        assert parse("/").name


def test_a_log_line_stays_one_line() -> None:
    assert shown("a\nb\x1b[2J\u202e") == r"a\nb\x1b[2J\u202e"
    assert shown("größe ☂") == "größe ☂"
    assert len(shown("\udcff\x85\u2028").splitlines()) == 1
