"""One main log and the replication logs that it names: a state and what the files hold give a new state and events.

A look is synchronous and changes nothing but open descriptors. Its caller stores the new state and the events in one
transaction, and looks again from the old state when that failed: no line is lost and none tells its event twice.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from sysadmd.lifepreserver import parse
from sysadmd.lifepreserver.parse import Notice, Payload, Progress
from sysadmd.lifepreserver.tail import LogRefused, Position, Tail, open_configured, open_named

log = structlog.get_logger(__name__)

FOLLOWS = 8
"""Replication logs read beside one main log. lpreserver runs few replications at once, and a crashed one never ends."""
CHUNKS = 256
"""Chunks of a replication log read in one look; it has a line a second."""
PROGRESS_EVERY = 1.0
"""Seconds between two progress events of one replication."""

_START, _SILENT = Position(), Progress()


@dataclass(frozen=True, slots=True)
class Follow:
    """A replication that runs. `waiting` is its newest progress, held back until a second after `told`."""

    replication: str
    log: str
    position: Position = _START
    progress: Progress = _SILENT
    waiting: Payload | None = None
    told: float = float("-inf")


@dataclass(frozen=True, slots=True)
class State:
    """How far a main log is read, and the replications that run, the oldest first."""

    position: Position = _START
    follows: tuple[Follow, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """The outcome of a look. `more`: the main log has more lines to read now."""

    state: State
    payloads: tuple[Payload, ...]
    more: bool


class Watch:
    """Looks at one main log."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tail = Tail(path, partial(open_configured, path))
        self._tails: dict[str, Tail] = {}
        self._told: dict[Path, str] = {}

    def close(self) -> None:
        """Close every file."""
        for tail in (self._tail, *self._tails.values()):
            tail.close()

    def begin(self) -> State:
        """The state of a first start: near the end of the log, or before a log that is not there yet."""
        try:
            return State(self._tail.end())
        except FileNotFoundError:
            return State()

    def look(self, state: State, now: float) -> Look:
        """Read what is new at the monotonic time `now`. A file that cannot be read is reported once and tried again."""
        payloads: list[Payload] = []
        # Progress first: a line "finished" that comes in the same look ends what these logs still have to say.
        follows = [read for follow in state.follows if (read := self._read(follow, now, payloads))]
        position, lines, more = self._main(state.position)
        fresh: list[str] = []
        for notice in filter(None, map(parse.notice, lines)):
            if notice.kind in {"finished", "failed"}:
                follows = self._end(notice, follows, now, payloads)
            payloads.append(notice.payload)
            if notice.kind == "started":
                follows = _start(notice, follows)
                fresh.append(notice.log)
        follows = [
            read for follow in follows if (read := self._read(follow, now, payloads) if follow.log in fresh else follow)
        ]
        self._forget(follows)
        return Look(State(position, tuple(follows)), tuple(payloads), more)

    def _main(self, position: Position) -> tuple[Position, tuple[str, ...], bool]:
        try:
            read = self._tail.read(position)
        except FileNotFoundError:
            return position, (), False  # lpreserver has not run yet, or the log is being rotated
        except (OSError, LogRefused) as error:
            self._report(self.path, error)
            return position, (), False
        self._told.pop(self.path, None)
        if read.restarted and position.offset:
            log.info("log begins anew", path=str(self.path), was_at=position.offset)
        return read.position, read.lines, read.more

    def _end(self, notice: Notice, follows: list[Follow], now: float, payloads: list[Payload]) -> list[Follow]:
        for follow in follows:
            if follow.replication == notice.replication:
                self._read(follow, now, payloads)
        return [follow for follow in follows if follow.replication != notice.replication]

    def _read(self, follow: Follow, now: float, payloads: list[Payload]) -> Follow | None:
        """What a replication log has to say; None when it may not be read."""
        path = Path(follow.log)
        if follow.log not in self._tails:
            self._tails[follow.log] = Tail(path, partial(open_named, path, self.path.parent))
        try:
            for _ in range(CHUNKS):
                follow, more = _advance(follow, self._tails[follow.log])
                if not more:
                    break
        except FileNotFoundError:
            pass
        except LogRefused as error:
            log.warning("replication log refused", log=str(self.path), reason=str(error))
            return None
        except OSError as error:
            self._report(path, error)
        if follow.waiting is None or now - follow.told < PROGRESS_EVERY:
            return follow
        payloads.append(follow.waiting)
        return replace(follow, waiting=None, told=now)

    def _forget(self, follows: list[Follow]) -> None:
        """Close the logs of replications that have ended."""
        for path in set(self._tails) - {follow.log for follow in follows}:
            self._tails.pop(path).close()

    def _report(self, path: Path, error: Exception) -> None:
        """Once for each reason: a look comes every second."""
        if self._told.get(path) != str(error):
            self._told[path] = str(error)
            log.warning("log cannot be read", path=str(path), reason=str(error))


def _advance(follow: Follow, tail: Tail) -> tuple[Follow, bool]:
    read = tail.read(follow.position)
    progress = Progress() if read.restarted else follow.progress
    waiting = follow.waiting
    for line in read.lines:
        progress, payload = parse.progress(line, progress)
        waiting = payload or waiting
    if read.position.inode != follow.position.inode and not read.restarted:
        progress = Progress()  # the next lines come from another file
    return replace(follow, position=read.position, progress=progress, waiting=waiting), read.more


def _start(notice: Notice, follows: list[Follow]) -> list[Follow]:
    """A new replication takes the place of one of the same data set, and of one whose log it writes over."""
    left = [follow for follow in follows if notice.replication != follow.replication and notice.log != follow.log]
    if not notice.log:
        return left
    if len(left) == FOLLOWS:
        log.warning("too many replications at once, the oldest is no longer followed", log=left[0].log)
    return [*left[-(FOLLOWS - 1) :], Follow(notice.replication, notice.log)]
