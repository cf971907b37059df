"""The audit trail of a running server: who did what, kept so that a change of it is found.

A record is text by the time `record` returns; the writer's thread links it into the chain (chain.py) within the
transaction that is next. Records that come before that transaction begins share one place in the log's FIFO and one
future, so that one costs the loop little more than its encoding. They may overtake changes that were submitted in
between, and never fall behind one that was submitted later: what a call does is not stored before the record of the
call.

Strangers write here too, by being refused. Of those records each address prefix, and all together, get so many a
second; what is beyond is counted, and the counts are a record of their own (`suppressed`).
"""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.abc import TaskStatus
from sqlalchemy import Connection

from sysadmd.auth import audit_table
from sysadmd.auth.audit_key import PUBLIC_FILE, public_bytes, read_public_key, signing_key
from sysadmd.auth.chain import Checkpoint, Verdict, key_id, statement, verify
from sysadmd.auth.flood import KINDS as FLOOD_KINDS
from sysadmd.auth.flood import Flood
from sysadmd.auth.identity import Peer
from sysadmd.auth.prefix import prefix_of
from sysadmd.auth.writing import Writer
from sysadmd.errors import StateError, SysadmdError, Unavailable
from sysadmd.store import Store

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

log = structlog.get_logger(__name__)

CHECKPOINT_RECORDS = 1000
"""Records after which the head is signed."""
CHECKPOINT_INTERVAL = 60.0
"""Seconds after which it is signed, if there are new ones."""
PENDING_RECORDS = 16_384
"""Records that wait for the disk; with one more, what has to be recorded is refused."""
STOP_DEADLINE = 2.0
"""Seconds that a stop waits for the last checkpoint."""

_encode = msgspec.json.Encoder(enc_hook=str).encode


def _text(fields: dict[str, Any]) -> str:
    try:
        return _encode(fields).decode()
    except (UnicodeEncodeError, TypeError, ValueError, OverflowError):
        # Half of a character, in a name that a stranger made up say, is written as its escape.
        return json.dumps(fields, default=str, skipkeys=True)


@dataclass(slots=True, eq=False)
class _Group:
    """Records that share a place in the log's FIFO. `taken`: the writer has them, and later ones need another."""

    texts: list[str]
    future: asyncio.Future[None] | None = None
    taken: bool = False


class Audit:
    """The trail of one server; `Trail` for those who write it. Used on the event loop."""

    def __init__(
        self,
        store: Store,
        writer: Writer,
        *,
        node: str,
        key_dir: Path,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._writer, self._node, self._key_dir = store, writer, node, key_dir
        self._clock = clock
        self._flood = Flood(monotonic)
        self._lock = threading.Lock()
        self._group: _Group | None = None
        self._fault: Exception | None = None
        """Why the newest records were not written."""
        self._since_checkpoint = 0
        self._due = anyio.Event()
        self._key: Ed25519PrivateKey | None = None

    def record(
        self,
        kind: str,
        *,
        account: str | None = None,
        peer: Peer | None = None,
        session: str | None = None,
        **data: Any,
    ) -> asyncio.Future[None]:
        """Append one record (`Trail.record`). Whoever waits for the future has to shield it: it is others' too."""
        if kind in FLOOD_KINDS and peer is not None and not self._flood.admits(prefix_of(peer.address), kind):
            return _done()
        fields: dict[str, Any] = {"time": self._clock(), "kind": kind, "node": self._node}
        if account is not None:
            fields["account"] = account
        if peer is not None:
            fields |= _described(peer)
        if session is not None:
            fields["session"] = session
        fields.update(data)
        return self._append(_text(fields))

    async def run(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED, **start: Any) -> None:
        """Record the start, sign the head now and then, and record the stop, when cancelled."""
        self.record("start", pid=os.getpid(), uid=os.geteuid(), **start)
        task_status.started()
        try:
            while True:
                with anyio.move_on_after(CHECKPOINT_INTERVAL):
                    await self._due.wait()
                await self.checkpoint()
        finally:
            self.record("stop", pid=os.getpid())
            with anyio.move_on_after(STOP_DEADLINE, shield=True):
                await self.checkpoint()

    async def checkpoint(self) -> None:
        """Sign the newest record, if it is new, once everything recorded so far is written."""
        if counts := self._flood.taken():
            self.record("suppressed", counts=counts)
        self._due = anyio.Event()
        new = self._since_checkpoint
        if not new:
            return
        try:
            with anyio.fail_after(CHECKPOINT_INTERVAL):
                one = await self._sign()
        except Exception as error:  # noqa: BLE001  # a disk, a key file, a head that somebody changed: it is said, and
            # tried again; what the server does for others goes on
            log.warning("the audit trail's head is not signed", error=str(error))
            return
        self._since_checkpoint -= new
        if one is None:
            return
        # The anchor outside of the database: whoever keeps this line can tell whether the trail was written anew.
        log.info("audit checkpoint", seq=one.seq, hash=one.hash, at=one.time, key=one.key, signature=one.signature)

    async def list(
        self, *, since: int = 1, limit: int = 100, kind: str | None = None, account: str | None = None
    ) -> dict[str, Any]:
        """`records` from the number `since` on, and `next`, the number to go on from, None at the end."""
        found = await self._store.read(
            lambda connection: audit_table.find(connection, since=since, limit=limit, kind=kind, account=account)
        )
        return {"records": found[0], "next": found[1]}

    async def verify(self) -> Verdict:
        """Look at the whole trail, in a worker thread."""
        return await anyio.to_thread.run_sync(lambda: verify_store(self._store, self._key_dir))

    # Writing

    def _append(self, text: str) -> asyncio.Future[None]:
        self._since_checkpoint += 1
        if self._since_checkpoint == CHECKPOINT_RECORDS:
            self._due.set()
        future = self._join(text)
        if future is None:
            group = _Group([text])
            try:
                future = group.future = self._writer.submit(partial(self._write, group))
            except SysadmdError as error:
                log.error("an audit record was not written", error=str(error))
                return _failed(error)
            future.add_done_callback(self._settled)
            self._group = group
        if self._fault is not None:
            # This record tries whether the trail can be written again. What it is about is refused until that is known.
            return _failed(Unavailable(f"the audit trail could not be written: {self._fault}"))
        return future

    def _join(self, text: str) -> asyncio.Future[None] | None:
        """Put the record to those that wait for the writer; None where none wait."""
        group = self._group
        if group is None or group.future is None or group.future.done():
            return None  # a batch that failed as a whole has not taken its groups, and never will
        with self._lock:
            if group.taken:
                return None
            if len(group.texts) >= PENDING_RECORDS:
                return _failed(Unavailable(f"{PENDING_RECORDS} audit records wait for the disk"))
            group.texts.append(text)
        return group.future

    def _write(self, group: _Group, connection: Connection) -> tuple[None, Sequence[object]]:
        """In the writer's thread."""
        with self._lock:
            group.taken = True
        audit_table.append(connection, group.texts)
        return None, ()

    def _settled(self, future: asyncio.Future[None]) -> None:
        error = None if future.cancelled() else future.exception()
        if error is not None:
            log.error("audit records were not written", error=str(error))
        elif self._fault is not None:
            log.warning("the audit trail is written again")
        self._fault = error if isinstance(error, Exception) else None

    async def _sign(self) -> Checkpoint | None:
        """Store a checkpoint of the newest record, once what waits is written or has failed."""
        if self._group is not None and self._group.future is not None:
            await asyncio.wait([self._group.future])
        one = await anyio.to_thread.run_sync(self._signed)
        if one is not None:
            await asyncio.shield(self._writer.submit(partial(_add_checkpoint, one)))
        return one

    def _signed(self) -> Checkpoint | None:
        """In a worker thread: the signed head; None where there is no record yet."""
        seq, head = self._store.read_now(audit_table.read_head)
        if not seq:
            return None
        key = self._key = self._key or signing_key(self._key_dir)
        public = public_bytes(key)
        now = self._clock()
        signature = base64.b64encode(key.sign(statement(seq, head, now))).decode()
        return Checkpoint(seq, head, now, key_id(public), signature)


def verify_store(
    store: Store, key_dir: Path, anchors: dict[int, str] | None = None, public_key: bytes | None = None
) -> Verdict:
    """Look at the whole trail of an open database. Blocks; for a worker thread, or a command. `public_key` None: the
    one in `key_dir`. Raises StateError.
    """

    def look(connection: Connection) -> Verdict:
        checkpoints = audit_table.read_checkpoints(connection)
        key = public_key or read_public_key(key_dir / PUBLIC_FILE)
        if checkpoints and key is None:
            raise StateError(f"{key_dir / PUBLIC_FILE}: is missing, so that no signature can be checked")
        try:
            head, damage = audit_table.read_head(connection), None
        except StateError as error:
            head, damage = None, f"changed: {error}"
        rows = partial(audit_table.read_rows, connection)
        found = verify(rows, checkpoints, public_key=key, head=head, anchors=anchors)
        if damage is not None and found.ok:
            return dataclasses.replace(found, first_bad=max(found.records, 1), reason=damage)
        return found

    return store.read_now(look)


def _add_checkpoint(one: Checkpoint, connection: Connection) -> tuple[None, Sequence[object]]:
    audit_table.add_checkpoint(connection, one)
    return None, ()


def _described(peer: Peer) -> dict[str, Any]:
    """Where somebody comes from, and what is unusual about the way."""
    fields: dict[str, Any] = {"address": peer.address, "via": peer.kind}
    if peer.link:
        fields["link"] = peer.link
    if peer.insecure:
        fields["insecure"] = True
    return fields


def _done() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


def _failed(error: Exception) -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    future.exception()  # whoever does not wait for it need not be told that nobody asked
    return future
