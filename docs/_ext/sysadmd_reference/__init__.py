"""Sphinx extension: the reference pages, written from what the program itself reads.

`schemas/` is the API, so no page about it is written by hand: methods, events and configuration keys come from the
schema files, limits from the docstrings of limits.py, error codes from the exception tree, commands from click. The
pages are written as Markdown into docs/reference/generated/ (which git ignores) before Sphinx looks for its sources; a
page that has not changed is not touched, so that incremental builds stay incremental.
"""

from __future__ import annotations

from pathlib import Path

from sphinx.application import Sphinx

from sysadmd_reference import commands, methods, tables

ROOT = Path(__file__).resolve().parent.parent.parent.parent


def pages(root: Path = ROOT) -> dict[str, str]:
    """Every generated page: path below reference/generated, without the suffix, to its Markdown."""
    return {
        **methods.pages(root / "schemas" / "methods"),
        "events": methods.events(root / "schemas" / "events"),
        "config": tables.config(root / "schemas" / "config.json"),
        "limits": tables.limits(root / "sysadmd" / "limits.py"),
        "errors": tables.errors(),
        "commands": commands.page(),
    }


def write(target: Path, wanted: dict[str, str]) -> None:
    """Make the directory hold exactly these pages."""
    for name, text in wanted.items():
        path = target / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
    for path in target.rglob("*.md"):
        if str(path.relative_to(target).with_suffix("")) not in wanted:
            path.unlink()


def generate(app: Sphinx) -> None:
    """Called when the builder exists and no source has been read."""
    write(Path(app.srcdir) / "reference" / "generated", pages())


def setup(app: Sphinx) -> dict[str, bool]:
    """What Sphinx calls."""
    app.connect("builder-inited", generate)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
