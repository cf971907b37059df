"""The page of the commands, made by walking the click tree."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from sysadmd.cli.app import app
from sysadmd.cli.coco import coco
from sysadmd_reference.schema_text import cell


def page() -> str:
    """Every command with its usage, its text and its options."""
    parts = ["# Commands", "", *_walk(app, click.Context(app, info_name="sysadmd"))]
    if app.epilog:
        parts.append(app.epilog)
    parts += ["", *describe(coco, click.Context(coco, info_name="coco"))]
    return "\n".join(parts) + "\n"


def _walk(command: click.Command, context: click.Context) -> Iterator[str]:
    if command.hidden:
        return
    yield from describe(command, context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            if child is not None:
                yield from _walk(child, click.Context(child, parent=context, info_name=name))


def describe(command: click.Command, context: click.Context) -> Iterator[str]:
    """One command: a heading, its usage line, its help, a table of its options."""
    yield f"## {context.command_path}\n"
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield f"```text\n{usage}\n```\n"
    if command.help:
        yield text_of(command.help) + "\n"
    records = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    options = [(names, text) for names, text in records if "--help" not in names]
    if options:
        yield "| option | meaning |\n|---|---|"
        yield "\n".join(f"| `{cell(names)}` | {cell(text)} |" for names, text in options) + "\n"


def text_of(help_text: str) -> str:
    """Help as Markdown: a paragraph that click must not wrap (it starts with a backspace) becomes a block of code."""
    paragraphs = inspect.cleandoc(help_text).replace("\f", "").split("\n\n")
    return "\n\n".join(
        "```text\n" + paragraph.removeprefix("\b\n") + "\n```" if paragraph.startswith("\b") else paragraph
        for paragraph in paragraphs
    )
