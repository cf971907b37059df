"""Manual pages, one for each command: `python -m sysadmd_reference.man DIRECTORY`.

click-man writes the pages of a click program whose commands are loaded and whose help is plain prose. Ours are loaded
when they are used, and their help has examples that must keep their lines. So the tree is copied first, complete and
with help in roff: what click-man puts into the page as it is.
"""

from __future__ import annotations

import copy
import inspect
import sys
from pathlib import Path

import click
from click_man.core import write_man_pages

from sysadmd import __version__
from sysadmd.cli.app import app
from sysadmd.cli.coco import coco


def write(target: Path) -> None:
    """Make the directory hold exactly the pages of this version."""
    target.mkdir(parents=True, exist_ok=True)
    for page in [*target.glob("sysadmd*.1"), *target.glob("coco*.1")]:
        page.unlink()
    write_man_pages("sysadmd", readable(app, click.Context(app)), version=__version__, target_dir=str(target))
    write_man_pages("coco", readable(coco, click.Context(coco)), version=__version__, target_dir=str(target))
    for page in target.glob("sysadmd*.1"):
        # click-man refers from sysadmd-user(1) to "sysadmd user-add(1)".
        page.write_text(page.read_text().replace(f"{page.stem.replace('-', ' ')}-", f"{page.stem}-"))


def readable(command: click.Command, context: click.Context) -> click.Command:
    """A copy of a command and of those below it, as click-man reads them."""
    first_line = (command.help or "").strip().split("\n")[0]
    body = roff(command.help or "", command.epilog)
    if isinstance(command, click.Group):
        children = {name: command.get_command(context, name) for name in command.list_commands(context)}
        loaded = {name: readable(child, context) for name, child in children.items() if child and not child.hidden}
        page: click.Command = click.Group(command.name, commands=loaded)
    else:
        page = click.Command(command.name)
    page.params = [_described(parameter) for parameter in command.params]
    page.help, page.short_help = body, escaped(first_line.removesuffix("."))
    return page


def roff(help_text: str, epilog: str | None = None) -> str:
    """Help as roff: paragraphs, and those that click must not wrap (they start with a backspace) as they stand."""
    blocks = []
    for paragraph in inspect.cleandoc(help_text).replace("\f", "").split("\n\n"):
        text = "\n".join(escaped(line) for line in paragraph.removeprefix("\b\n").split("\n"))
        blocks.append(f".nf\n{text}\n.fi" if paragraph.startswith("\b") else text)
    if epilog:
        blocks.append(escaped(epilog))
    return "\n\n".join(blocks)


def escaped(line: str) -> str:
    """A line of text that roff takes for nothing else (groff(7), Escape sequences and Requests)."""
    line = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{line}" if line.startswith((".", "'")) else line


def _described(parameter: click.Parameter) -> click.Parameter:
    described = copy.copy(parameter)
    if isinstance(described, click.Option) and described.help:
        described.help = escaped(described.help)
    return described


if __name__ == "__main__":
    write(Path(sys.argv[1]))
