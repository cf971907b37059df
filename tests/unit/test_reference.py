"""The pages that the build writes: they hold what the schemas say, and nothing breaks their tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from sysadmd_reference import ROOT, commands, methods, tables, write
from sysadmd_reference.schema_text import Row, rows, rule_text, table, type_text


def only(schema: dict[str, Any]) -> Row:
    (found,) = rows({"properties": {"a": schema}})
    return found


@pytest.mark.parametrize(
    "schema,text",
    [
        ({"type": "string"}, "string"),
        ({"type": ["string", "null"]}, "string or null"),
        ({"type": "array", "items": {"type": "integer"}}, "list of integer"),
        ({"enum": ["gap", 1]}, '`"gap"` or `1`'),
        ({"const": True}, "`true`"),
        ({"oneOf": [{"title": "One name", "type": "string"}, {"type": "array"}]}, "One name; or list of anything"),
        ({"type": "string", "format": "duration"}, "duration"),
        ({}, "anything"),
    ],
)
def test_a_type_reads_as_words(schema: dict[str, Any], text: str) -> None:
    assert type_text(schema, schema) == text


@pytest.mark.parametrize(
    "schema,text",
    [
        ({"minimum": 1, "maximum": 65535}, "1 to 65,535"),
        ({"maximum": 3}, "at most 3"),
        ({"minLength": 1}, "not empty"),
        ({"minItems": 2}, "at least 2 items"),
        ({"exclusiveMinimum": 0}, "above 0"),
        ({"pattern": "^/"}, "matches `^/`"),
        ({"pattern": "^/", "minLength": 1, "x-rule": "must be a path"}, "must be a path"),
        ({"default": []}, "default `[]`"),
        ({}, ""),
    ],
)
def test_a_rule_reads_as_words(schema: dict[str, Any], text: str) -> None:
    assert rule_text(schema, required=False) == text


def test_a_required_key_says_so() -> None:
    assert rows({"required": ["a"], "properties": {"a": {}}})[0].rule == "required"


def test_nested_keys_have_dotted_paths() -> None:
    inner = {"type": "object", "properties": {"b": {"type": "string"}}}
    assert [row.path for row in rows({"properties": {"a": inner}})] == ["a", "a.b"]


def test_keys_of_any_name_are_a_star() -> None:
    schema = {"additionalProperties": {"type": "object", "properties": {"b": {}}}}
    assert [row.path for row in rows(schema)] == ["*", "*.b"]


def test_keys_of_an_alternative_are_listed() -> None:
    option = {"type": "object", "properties": {"b": {}}}
    assert [row.path for row in rows({"properties": {"a": {"oneOf": [{"type": "string"}, option]}}})] == ["a", "a.b"]


def test_a_reference_is_followed_and_what_stands_beside_it_wins() -> None:
    schema = {
        "$defs": {"name": {"type": "string", "description": "general"}},
        "properties": {"a": {"$ref": "#/$defs/name", "description": "special"}},
    }
    assert rows(schema) == [Row("a", "string", "", "special")]


def test_a_schema_that_holds_itself_ends() -> None:
    schema = {"$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}}}, "$ref": "#/$defs/node"}
    assert len(rows(schema)) < 10


def test_a_pipe_in_a_description_does_not_end_its_cell() -> None:
    assert "this \\| that" in table([only({"description": "this | that\nthen"})])
    assert "that then" in table([only({"description": "this | that\nthen"})])


def test_an_example_is_shown_as_the_frames_that_go_over_the_wire() -> None:
    declared = methods.Declared("rpc/dispatcher/run", {})
    text = methods.exchange(declared, {"args": {"a": "date"}, "result": {"started": ["a"]}})
    frames = [json.loads(part.removeprefix("json\n")) for part in text.split("```")[1::2]]
    assert frames == [
        {"namespace": "rpc", "name": "dispatcher", "id": "1", "args": {"action": "run", "a": "date"}},
        {"namespace": "rpc", "name": "response", "id": "1", "args": {"started": ["a"]}},
    ]


def test_every_method_has_its_section() -> None:
    pages = methods.pages(ROOT / "schemas" / "methods")
    for declared in methods.load(ROOT / "schemas" / "methods"):
        assert f"Permission: `call:{declared.key}`" in pages[f"methods/{declared.page}"]
        assert f"`{declared.key}`" in pages["methods/index"]


def test_every_configuration_key_has_its_row() -> None:
    text = tables.config(ROOT / "schemas" / "config.json")
    for key in json.loads((ROOT / "schemas" / "config.json").read_text())["properties"]:
        assert f"| `{key}` |" in text


def test_every_limit_has_its_reason() -> None:
    text = tables.limits(ROOT / "sysadmd" / "limits.py")
    assert "| `frame_authenticated` | 1 MiB | One frame after authentication. |" in text
    assert "| `token_absolute` | 12 h |" in text
    assert "| `disk_ceiling` | 0.95 |" in text


def test_every_code_is_listed_once() -> None:
    codes = [line.split("|")[1].strip() for line in tables.errors().splitlines() if line.startswith("| ")]
    assert codes[1:] == sorted(set(codes[1:]), key=int)
    assert "404" in codes


def test_a_command_is_shown_with_its_usage_and_options() -> None:
    @click.command(help="Say it.\n\n\b\na\n  b")
    @click.argument("name")
    @click.option("--loud", is_flag=True, help="This | that.")
    def say(name: str, loud: bool) -> None: ...

    text = "\n".join(commands.describe(say, click.Context(say, info_name="sysadmd say")))
    assert "## sysadmd say" in text
    assert "sysadmd say [OPTIONS] NAME" in text
    assert "| `--loud` | This \\| that. |" in text
    assert "```text\na\n  b\n```" in text


def test_pages_that_are_no_longer_wanted_go(tmp_path: Path) -> None:
    write(tmp_path, {"a": "A", "b/c": "C"})
    write(tmp_path, {"b/c": "C"})
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.md")] == ["b/c.md"]


def test_a_page_that_has_not_changed_is_not_touched(tmp_path: Path) -> None:
    write(tmp_path, {"a": "A"})
    before = (tmp_path / "a.md").stat().st_mtime_ns
    write(tmp_path, {"a": "A"})
    assert (tmp_path / "a.md").stat().st_mtime_ns == before
