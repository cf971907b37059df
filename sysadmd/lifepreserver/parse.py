"""What the lines of lpreserver's logs say (spec sysadm §5.4). Pure.

The main log is written by `echo "$(date): message"`, so a line split at ":" has the date in its first three fields (two
of its colons belong to the time), the message in the fourth and a detail in the fifth::

    Mon Jan  4 18:00:00 EST 2016: Starting replication on tank: /var/log/lpreserver/lastrep-send-log

A replication log is what `zfs send -v` writes to standard error::

    send from @a to tank/home@b estimated size is 1.5G
    total estimated size is 1.5G
    TIME        SENT   SNAPSHOT
    18:00:01    312M   tank/home@b

Messages keep the words, and the lower case, that clients of the protocol know.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Literal

Payload = dict[str, Any]
"""The canonical payload of `life_preserver`: `message`, `priority` 0 to 10, `class` "snapshot" or "replication"."""

_SIZE = r"\d+(?:\.\d+)?[BKMGTPEZ]?"
_ESTIMATE = re.compile(rf"estimated size is\s+({_SIZE})B?\s*$")
# Three columns and nothing else: a line that is no progress, whatever file it comes from, is never shown to anybody.
_ROW = re.compile(rf"\s*\d\d:\d\d:\d\d\s+({_SIZE})B?\s+([A-Za-z][\w.:-]*)(?:[/@][^\t\n]*)?\s*$", re.ASCII)
_UNITS = {unit: 1024**power for power, unit in enumerate("BKMGTPEZ")}


@dataclass(frozen=True, slots=True)
class Notice:
    """A line of the main log that is an event.

    `replication` is the data set, as the line has it, of the replication that began or ended, `log` its log's path.
    """

    kind: Literal["snapshot", "started", "finished", "failed"]
    payload: Payload
    replication: str = ""
    log: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a replication log has said so far: the estimated total and the size sent, in the words of zfs."""

    total: str = ""
    sent: str = ""


def notice(line: str) -> Notice | None:
    """The event that a line of the main log is; None for one that is none."""
    fields = line.split(":")
    if len(fields) < 4:
        return None
    stamp, text = _collapse(":".join(fields[:3])), _collapse(fields[3]).lower()
    if "creating snapshot" in text:
        return Notice("snapshot", _payload("snapshot", 1, f"{stamp}: New snapshot of {text.rsplit(' ', 1)[-1]}"))
    if "starting replication" in text:
        target = text.partition(" on ")[2]
        log = _collapse(fields[4]) if len(fields) > 4 else ""
        message = f"{stamp}: Starting replication for {target}"
        return Notice("started", _payload("replication", 1, message), _source(target), log)
    if "finished replication task" in text:
        source = _source(text)
        return Notice("finished", _payload("replication", 1, f"{stamp}: Finished replication for {source}"), source)
    if "failed replication" in text:
        source, log = _source(text), _collapse(line.partition("LOGFILE:")[2])
        message = f"{stamp}: Replication Failed for {source}\nLogfile available at: {log}"
        return Notice("failed", _payload("replication", 7, message), source)
    return None


def progress(line: str, before: Progress) -> tuple[Progress, Payload | None]:
    """Read one line of a replication log; the payload is None unless the line says that another size has been sent."""
    if estimate := _ESTIMATE.search(line):
        return replace(before, total=estimate[1]), None
    row = _ROW.match(line)
    if row is None or row[1] == before.sent:
        return before, None
    after = replace(before, sent=row[1])
    return after, _payload("replication", 0, f"Replicating {row[2]}: {after.sent}/{after.total or '??'}{_part(after)}")


def _part(state: Progress) -> str:
    """The part sent as ` (12.3%)`; nothing where the total is unknown or zero. Cut, not rounded: 100 % means all."""
    total = _bytes(state.total)
    return f" ({math.floor(_bytes(state.sent) * 1000 / total) / 10:.1f}%)" if total else ""


def _bytes(size: str) -> float:
    if not size:
        return 0.0
    return float(size[:-1]) * _UNITS[size[-1]] if size[-1] in _UNITS else float(size)


def _payload(kind: Literal["snapshot", "replication"], priority: int, message: str) -> Payload:
    return {"message": message, "priority": priority, "class": kind}


def _collapse(text: str) -> str:
    return " ".join(text.split())


def _source(text: str) -> str:
    """The data set that is replicated: the last word before the arrow, or the last word of all."""
    return text.partition(" -> ")[0].rstrip().rsplit(" ", 1)[-1]
