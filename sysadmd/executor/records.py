"""What the executor must still know when it is started again: attempts that run, exits nobody has acknowledged.

One journal, `<state>/executor/journal`, of JSON lines: an attempt's start, its exit, the acknowledgement. Each is one
write(2) to the end, some microseconds, where a file for each record would cost a create, a rename and an unlink for
every attempt. It is rewritten with what still counts when it has grown.

No fsync. The journal is for an executor that died on a living kernel, whose page cache has every write. After a power
cut the attempts are gone with the kernel, and an exit that is gone too is reported by the server as `lost`, which is as
much as anybody knows of a command that a power cut ended. A sync would cost each attempt milliseconds to know no more.

A disk that is full stops nothing: records stay in memory, the log says so, and the journal is made anew when there is
room.

An attempt is noted twice: before the fork, without a process id, and after it. Of an executor that was killed between
the two the successor knows which output file the child, if there is one, writes to, and finds it by that (orphans.py).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from sysadmd.executor.frames import Ack, Exit, Frame, Started

REWRITE_BYTES = 1024 * 1024
"""Size at which the journal is rewritten; four times what it then holds, if that is more."""
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
RETRY_SECONDS = 1.0
"""Time between two attempts to rewrite a journal that could not be written."""


class Epoch(Frame, frozen=True, tag="epoch"):
    """First line of a journal: whose children the lines after it are."""

    instance: str
    boot_id: str


class Live(Frame, frozen=True, tag="live"):
    """A started attempt; the process id is 0 before the fork. The file's device and inode are evidence of who its
    orphans are.
    """

    started: Started
    device: int
    inode: int


_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(Epoch | Live | Exit | Ack)


class Records:
    """The running attempts and the unacknowledged exits of this executor, and their journal."""

    def __init__(self, path: Path, log: Callable[[str], None], clock: Callable[[], float]) -> None:
        """`clock` is monotonic seconds. Nothing is read or written before `load` and `begin`."""
        self._path, self._log, self._clock = path, log, clock
        self._file = -1
        self._size = 0
        self._rewrite_at = REWRITE_BYTES
        self._retry_at = 0.0
        self._epoch = Epoch("", "")
        self.behind = False
        """Whether the journal lacks something that memory has."""
        self.live: dict[str, Live] = {}
        self.exits: dict[str, Exit] = {}

    def load(self) -> Epoch | None:
        """Read the journal of the executor before this one; None when there was none. A torn last line is no error."""
        try:
            lines = self._path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return None
        epoch: Epoch | None = None
        bad = 0
        for line in filter(None, lines):
            try:
                entry = _DECODER.decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                bad += 1
                continue
            if isinstance(entry, Epoch):
                epoch = entry
            else:
                self._apply(entry)
        if bad:
            self._log(f"the journal has {bad} line(s) that cannot be read; they are ignored")
        return epoch

    def begin(self, instance: str, boot_id: str, lost: Iterable[Exit] = ()) -> None:
        """Open the journal for this executor: what was loaded, with `lost` for what was live in it.

        Raises OSError: a start may fail where later nothing may.
        """
        self._epoch = Epoch(instance, boot_id)
        for entry in lost:
            self._apply(entry)
        self._rewrite()

    def started(self, live: Live) -> None:
        """Note a running attempt."""
        self._change(live)

    def finished(self, exits: Iterable[Exit]) -> None:
        """Note ended attempts: they are live no more, and held until acknowledged."""
        self._change(*exits)

    def acknowledged(self, attempt: str) -> bool:
        """Forget an exit; False when there is none."""
        known = attempt in self.exits
        if known:
            self._change(Ack(attempt))
        return known

    def retry(self) -> None:
        """Write what could not be written, if it is time to try again."""
        if self.behind and self._clock() >= self._retry_at:
            self._try_rewrite()

    def close(self) -> None:
        """Close the journal; what it holds is for the next executor."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _apply(self, entry: Live | Exit | Ack) -> None:
        match entry:
            case Live():
                self.live[entry.started.attempt] = entry
            case Exit():
                self.live.pop(entry.attempt, None)
                self.exits[entry.attempt] = entry
            case Ack():
                self.exits.pop(entry.attempt, None)

    def _change(self, *entries: Live | Exit | Ack) -> None:
        for entry in entries:
            self._apply(entry)
        if self.behind:
            self.retry()
            return
        data = _ENCODER.encode_lines(entries)
        try:
            _write_all(self._file, data)
        except OSError as error:
            self._fell_behind(error)
            return
        self._size += len(data)
        if self._size > self._rewrite_at or (not self.live and not self.exits and self._size > REWRITE_BYTES // 16):
            self._try_rewrite()

    def _fell_behind(self, error: OSError) -> None:
        self._log(f"cannot write the journal ({error.strerror}); {len(self.exits)} exit(s) are kept in memory only")
        self.behind = True
        self._retry_at = self._clock() + RETRY_SECONDS
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._size)  # no half line before a later whole one

    def _try_rewrite(self) -> None:
        try:
            self._rewrite()
        except OSError as error:
            if not self.behind:
                self._fell_behind(error)
            self._retry_at = self._clock() + RETRY_SECONDS
            return
        if self.behind:
            self.behind = False
            self._log("the journal is written again")

    def _rewrite(self) -> None:
        """A new journal of what counts now, put in the old one's place in one step. Raises OSError."""
        data = _ENCODER.encode_lines([self._epoch, *self.live.values(), *self.exits.values()])
        fresh = self._path.with_name(self._path.name + ".new")
        file = os.open(fresh, _FLAGS, 0o600)
        try:
            _write_all(file, data)
            os.replace(fresh, self._path)
        except OSError:
            os.close(file)
            with contextlib.suppress(OSError):
                os.unlink(fresh)
            raise
        self.close()
        self._file, self._size = file, len(data)
        self._rewrite_at = max(REWRITE_BYTES, 4 * len(data))


def _write_all(file: int, data: bytes) -> None:
    while data:
        data = data[os.write(file, data) :]
