"""From a request to its first step, and from the listing that this brought to all others.

::

    LIST    step 0 LIST
    MKDIR   step 0 MKDIR
    COPY    step 0 LIST ─► stage 1: one COPY for each regular file
    REMOVE  step 0 LIST ─► stage 1: one REMOVE for each file ─► stages 2…: the directories, deepest first
    RENAME  step 0 LIST ─► stage 1: one RENAME

Stages are barriers, so no directory is tried before its content is gone, however many workers there are; a file that
could not be removed keeps its directory (spec job-queues §2.5, §3.4). Links and other special files are not copied, but
they are removed. Directories of a copy are made by the files in them, so empty ones are skipped.

A step's spec is `{"src", "src_site"}` with what else it needs of `dst`, `dst_site`, `opts`, `protocol`; the LIST of
another request carries that request's type as `then`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from stat import S_ISDIR, S_ISLNK, S_ISREG
from typing import Any, Literal, TypeAlias

from sysadmd.errors import BadRequest, SysadmdError
from sysadmd.jobs.spec import StepSpec
from sysadmd.jobs.transfers.names import SitePath, join, parse
from sysadmd.jobs.transfers.options import options

Kind: TypeAlias = Literal["LIST", "COPY", "REMOVE", "RENAME", "MKDIR"]
Listing: TypeAlias = Mapping[str, Sequence[Mapping[str, Any]]]
"""Directory -> its entries, `{"name", "st_mode", "st_size", …}`; of a file: its directory with that one entry."""

KINDS: frozenset[str] = frozenset({"LIST", "COPY", "REMOVE", "RENAME", "MKDIR"})


class NothingToDo(SysadmdError):
    """The listing holds something that this request cannot be done to; the text says what and why."""


def first(
    kind: Kind,
    *,
    src_site: int,
    src: str,
    dst_site: int | None = None,
    dst: str | None = None,
    opts: Mapping[str, Any] | None = None,
    protocol: str | None = None,
) -> StepSpec:
    """The step that a request starts with. Raises BadRequest naming the field and the rule.

    A RENAME stays on its site whatever `dst_site` says. `protocol`: "DUMMY" pretends, whatever the sites are.
    """
    options(opts)
    source = _path("src_filepath", src)
    spec: dict[str, Any] = {"src": src, "src_site": src_site, "opts": dict(opts or {})}
    if protocol == "DUMMY":
        spec["protocol"] = protocol
    if kind in {"REMOVE", "RENAME", "MKDIR"} and not source.parts:
        raise BadRequest("src_filepath: must not be the root of the site", path="src_filepath")
    if kind in {"COPY", "RENAME"}:
        if dst is None:
            raise BadRequest(f"dst_filepath: is required for {kind}", path="dst_filepath")
        spec |= {"dst": dst, "dst_site": src_site if kind == "RENAME" else dst_site}
        if spec["dst_site"] is None:
            raise BadRequest(f"dst_siteid: is required for {kind}", path="dst_siteid")
        _check_target(kind, spec, source, _path("dst_filepath", dst))
    if kind in {"LIST", "MKDIR"}:
        return StepSpec(type=kind, spec=spec)
    return StepSpec(type="LIST", spec={**spec, "then": kind})


def expand(spec: Mapping[str, Any], listing: Listing) -> list[StepSpec]:
    """The steps that follow a LIST with the given spec and result. Raises NothingToDo."""
    after = spec.get("then")
    if after == "COPY":
        return _copies(spec, listing)
    if after == "REMOVE":
        return _removals(spec, listing)
    if after == "RENAME":
        return [_element("RENAME", spec, spec["src"], spec["dst"])]
    return []


def _check_target(kind: str, spec: Mapping[str, Any], source: SitePath, target: SitePath) -> None:
    """What makes no sense whatever is there: a tree into itself."""
    if spec["src_site"] != spec["dst_site"]:
        return
    if source.parts == target.parts and not (kind == "COPY" and target.slash):
        raise BadRequest("dst_filepath: must not be the source itself", path="dst_filepath")
    if kind == "RENAME" and target.parts[: len(source.parts)] == source.parts:
        raise BadRequest("dst_filepath: must not be inside the source", path="dst_filepath")


def _path(field: str, text: str) -> SitePath:
    try:
        return parse(text)
    except ValueError as error:
        raise BadRequest(f"{field}: {error}", path=field) from None


def _copies(spec: Mapping[str, Any], listing: Listing) -> list[StepSpec]:
    source, target = parse(spec["src"]).text, parse(spec["dst"])
    if source not in listing:
        return _single_copy(spec, listing, target)
    found: list[StepSpec] = []
    below = target.text
    for directory in sorted(listing, key=len):
        inner = directory[len(source) :].strip("/")
        into = join(below, inner) if inner else below
        for entry in listing[directory]:
            if S_ISREG(entry["st_mode"]):
                name = entry["name"]
                found.append(_element("COPY", spec, join(directory, name), join(into, name), size=entry["st_size"]))
    return found


def _single_copy(spec: Mapping[str, Any], listing: Listing, target: SitePath) -> list[StepSpec]:
    """A source that is no directory. A destination that ends with a slash is the directory to copy it into."""
    found: list[StepSpec] = []
    for entries in listing.values():
        for entry in entries:
            if not S_ISREG(entry["st_mode"]):
                what = "a symbolic link" if S_ISLNK(entry["st_mode"]) else "a special file"
                raise NothingToDo(f"{spec['src']} is {what}: only regular files and directories are copied")
            into = join(target.text, entry["name"]) if target.slash else target.text
            found.append(_element("COPY", spec, spec["src"], into, size=entry["st_size"]))
    return found


def _removals(spec: Mapping[str, Any], listing: Listing) -> list[StepSpec]:
    source = parse(spec["src"]).text
    ordered = sorted(listing, key=len, reverse=True)
    found: list[StepSpec] = []
    for directory in ordered:
        for entry in listing[directory]:
            if not S_ISDIR(entry["st_mode"]):
                path = join(directory, entry["name"])
                found.append(_element("REMOVE", spec, path, size=entry["st_size"]))
    # Of a single file only its directory's name is listed, and that stays.
    directories = [(each.count("/"), each) for each in ordered if source in listing]
    deepest = max((depth for depth, _ in directories), default=0)
    for depth, directory in sorted(directories, key=lambda each: -each[0]):
        found.append(_element("REMOVE", spec, f"{directory}/", stage=2 + deepest - depth))
    return found


def _element(
    kind: Kind, spec: Mapping[str, Any], src: str, dst: str | None = None, *, stage: int = 1, size: int = 0
) -> StepSpec:
    made = {"src": src, "src_site": spec["src_site"], "opts": spec["opts"]}
    if dst is not None:
        made |= {"dst": dst, "dst_site": spec["dst_site"]}
    if "protocol" in spec:
        made["protocol"] = spec["protocol"]
    return StepSpec(type=kind, spec=made, stage=stage, size=size)
