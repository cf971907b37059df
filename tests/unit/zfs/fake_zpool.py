"""Programs that answer as `zpool` does in releases that a test machine does not have.

Texts and columns are those of the releases: OpenZFS 2.2 on Linux and FreeBSD 14, and zfs-fuse 0.7. Each call appends
its arguments to the file `calls` beside the program.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

OPENZFS = {
    "tank": {
        "size": "107G",
        "allocated": "13.1G",
        "free": "93.9G",
        "checkpoint": "-",
        "expandsize": "-",
        "fragmentation": "6%",
        "capacity": "12%",
        "dedupratio": "1.00x",
        "health": "ONLINE",
        "altroot": "-",
    },
    "my pool": {
        "size": "9.50G",
        "allocated": "9.12G",
        "free": "389M",
        "checkpoint": "1.2G",
        "expandsize": "10G",
        "fragmentation": "71%",
        "capacity": "95%",
        "dedupratio": "1.37x",
        "health": "DEGRADED",
        "altroot": "/mnt",
    },
}

_UNKNOWN_TO_ZFS_FUSE = ("checkpoint", "expandsize", "fragmentation")
ZFS_FUSE = {"tank": {name: value for name, value in OPENZFS["tank"].items() if name not in _UNKNOWN_TO_ZFS_FUSE}}

_PROGRAM = """#!{python} -S
import sys
pools = {pools!r}
known = {known!r}
with open({calls!r}, "a") as calls:
    calls.write(" ".join(sys.argv[1:]) + "\\n")
arguments = sys.argv[1:]
if arguments[:3] != ["list", "-H", "-o"]:
    # What a person sees: the columns of OpenZFS 2, which nothing may rely on.
    print("NAME   SIZE  ALLOC   FREE  CKPOINT  EXPANDSZ   FRAG    CAP  DEDUP    HEALTH  ALTROOT")
    sys.exit(0)
properties = arguments[3].split(",")
for name in properties:
    if name != "name" and name not in known:
        print("bad property list: invalid property '%s'" % name, file=sys.stderr)
        print("usage:\\n\\tlist [-gHLpPv] [-o property[,...]] [pool] ...\\n" + "\\tfiller\\n" * 200, file=sys.stderr)
        sys.exit(2)
for name, values in pools.items():
    print("\\t".join([name, *(values[wanted] for wanted in properties[1:])]))
"""


def fake_zpool(directory: Path, pools: Mapping[str, Mapping[str, str]], known: frozenset[str] | None = None) -> Path:
    """A `zpool` with these pools, that knows these properties (None: those of the first pool)."""
    offered = sorted(known if known is not None else frozenset(next(iter(pools.values()))))
    text = _PROGRAM.format(
        python=sys.executable, pools={name: dict(pools[name]) for name in pools}, known=offered,
        calls=str(directory / "calls"),
    )  # fmt: skip
    return program(directory, text)


def program(directory: Path, text: str, name: str = "zpool") -> Path:
    """An executable script with this text."""
    path = directory / name
    path.write_text(text)
    path.chmod(0o755)
    return path


def calls(path: Path) -> list[str]:
    """What a fake was called with, one line for each call."""
    return (path.parent / "calls").read_text().splitlines()
