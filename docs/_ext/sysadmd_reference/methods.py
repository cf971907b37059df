"""Method pages, one for each namespace/name, and the page of the events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sysadmd_reference.schema_text import block, rows, table, type_text

ACCESS = {
    "public": "Open to everybody, without a log-in.",
    "read": "For every account whose role may read: `viewer`, `operator`, `admin`.",
    "run": "For `operator` and `admin`.",
    "admin": "For `admin`.",
}


EVENTS = """\
What a subscriber of the plain form (`events/subscribe` with a topic or a list) receives, in the documented dialect.
Subscribers of the extended form get `epoch`, `seq`, `time` and `node` beside `args`."""


@dataclass(frozen=True, slots=True)
class Declared:
    """One schema file: `rpc/dispatcher/run` and what the file says."""

    key: str
    schema: Mapping[str, Any]

    @property
    def page(self) -> str:
        """`rpc/dispatcher`: the page it is on."""
        return "/".join(self.key.split("/")[:2])

    @property
    def action(self) -> str | None:
        """`run`, or None for a method without actions."""
        parts = self.key.split("/")
        return parts[2] if len(parts) == 3 else None


def load(root: Path) -> list[Declared]:
    """All schema files below a directory, by key."""
    files = sorted(root.rglob("*.json"))
    return [Declared(str(path.relative_to(root).with_suffix("")), json.loads(path.read_text())) for path in files]


def pages(root: Path) -> dict[str, str]:
    """`methods/rpc/dispatcher` and its like to their Markdown, and `methods/index`."""
    declared = load(root)
    names = sorted({method.page for method in declared})
    made = {f"methods/{name}": page(name, [m for m in declared if m.page == name]) for name in names}
    return {**made, "methods/index": index(names, declared)}


def index(names: list[str], declared: list[Declared]) -> str:
    """The list of all methods, with their page tree."""
    lines = ["# Methods", "", "| method | what it does | access |", "|---|---|---|"]
    lines += [f"| [`{m.key}`]({m.page}.md) | {m.schema['title']} | {m.schema['access']} |" for m in declared]
    lines += ["", "```{toctree}", ":hidden:", "", *names, "```", ""]
    return "\n".join(lines)


def page(name: str, declared: list[Declared]) -> str:
    """One namespace/name with all its actions."""
    return "\n".join([f"# {name}", "", *(section(method) for method in declared)])


def section(method: Declared) -> str:
    """One method: what it does, who may, what goes in and out, how it fails, examples."""
    schema = method.schema
    parts = [
        f"## {method.key}: {schema['title'][:1].lower()}{schema['title'][1:]}" if method.action else "",
        f"{schema['description']}",
        f"{ACCESS[schema['access']]} Permission: `call:{method.key}`."
        + (" It changes something on the machine." if schema.get("mutates") else ""),
        "### Arguments" if method.action else "## Arguments",
        described(schema.get("args", {})),
        "### Result" if method.action else "## Result",
        described(schema.get("returns", {})),
    ]
    if schema.get("errors"):
        parts.append("### Errors" if method.action else "## Errors")
        parts.append("\n".join(f"- {error['code']}: {error['when']}" for error in schema["errors"]))
    for example in schema.get("examples", ()):
        parts.append(f"### Example: {example['title']}" if method.action else f"## Example: {example['title']}")
        parts.append(exchange(method, example))
    return "\n\n".join(part for part in parts if part) + "\n"


def described(schema: Mapping[str, Any]) -> str:
    """What a value may be: its description, its kind, its keys."""
    found = table(rows(schema))
    kind = type_text(schema, schema)
    said = str(schema.get("description", ""))
    if not said and not (found and kind == "object"):
        said = f"{kind[:1].upper()}{kind[1:]}."
    return "\n\n".join(part for part in (said, found) if part)


def exchange(method: Declared, example: Mapping[str, Any]) -> str:
    """An example as the two frames of the documented dialect."""
    namespace, name = method.page.split("/")
    args = example.get("args", {})
    if method.action and isinstance(args, Mapping):
        args = {"action": method.action, **args}
    request = {"namespace": namespace, "name": name, "id": "1", "args": args}
    if "error" in example:
        answer = f"The answer is an error with code {example['error']['code']}.\n"
    else:
        answer = block({"namespace": namespace, "name": "response", "id": "1", "args": example.get("result")})
    return block(request) + "\n" + answer


def events(root: Path) -> str:
    """The page of the topics: what their frames hold, as subscribers of the plain form get them."""
    parts = ["# Events", EVENTS]
    for declared in load(root):
        schema = declared.schema
        parts += [f"## {schema.get('title', declared.key)}", str(schema.get("description", ""))]
        parts.append(table(rows(schema)))
        for example in schema.get("examples", ()):
            if isinstance(example, Mapping) and "frame" in example:
                parts += [str(example.get("title", "")), block(example["frame"])]
            else:
                parts.append(block(example))
    return "\n\n".join(part for part in parts if part) + "\n"
