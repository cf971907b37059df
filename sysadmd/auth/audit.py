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
import json
import os
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import msgspec
import structlog
from anyio.abc import TaskStatus
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from sysadmd.auth import audit_table
from sysadmd.auth.chain import Checkpoint, Verdict, key_id, statement, verify
from sysadmd.auth.identity import Peer
from sysadmd.auth.prefix import prefix_of
from sysadmd.auth.writing import Writer
from sysadmd.errors import StateError, SysadmdError, Unavailable
from sysadmd.store import Store

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

log = structlog.get_logger(__name__)

KEY_FILE = "audit.key"
PUBLIC_FILE = "audit.pub"
CHECKPOINT_RECORDS = 1000
"""Records after which the head is signed."""
CHECKPOINT_INTERVAL = 60.0
"""Seconds after which it is signed, if there are new ones."""
PENDING_RECORDS = 16_384
"""Records that wait for the disk; with one more, what has to be recorded is refused."""
STOP_DEADLINE = 2.0
"""Seconds that a stop waits for the last checkpoint."""
FLOOD_KINDS = frozenset({"refused", "login_failed"})
"""What strangers can cause without end."""
FLOOD_RATE, FLOOD_BURST = 5.0, 50.0
"""Such records a second of one address prefix, and at once."""
FLOOD_TOTAL = 20
"""How many prefixes' worth of them all together may cause."""
FLOOD_PREFIXES = 4096

_encode = msgspec.json.Encoder(enc_hook=str).encode


def _text(fields: dict[str, Any]) -> str:
    try:
        return _encode(fields).decode()
    except (UnicodeEncodeError, TypeError, ValueError):
        # Half of a character, in a name that a stranger made up say, is written as its escape.
        return json.dumps(fields, default=str)


class Audit:
    """The trail of one server; `Trail` for those who write it. Used on the event loop, but for `checked`."""

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
        self._flood = _Flood(monotonic)
        self._lock = threading.Lock()
        self._pending: list[str] = []
        self._future: asyncio.Future[None] | None = None
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
            fields["address"], fields["via"] = peer.address, peer.kind
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
        if not self._since_checkpoint:
            return
        try:
            if self._future is not None:
                await asyncio.shield(self._future)
            one = await anyio.to_thread.run_sync(self._signed)

            def write(connection: Connection) -> tuple[None, Sequence[object]]:
                audit_table.add_checkpoint(connection, one)
                return None, ()

            await asyncio.shield(self._writer.submit(write))
        except (SysadmdError, SQLAlchemyError, OSError) as error:
            log.warning("the audit trail's head is not signed", error=str(error))
            return
        self._since_checkpoint = 0
        # The anchor outside of the database: whoever keeps this line can tell whether the trail was written anew.
        log.info("audit checkpoint", seq=one.seq, hash=one.hash, key=one.key, signature=one.signature)

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
        with self._lock:
            if self._pending and self._future is not None:
                if len(self._pending) >= PENDING_RECORDS:
                    return _failed(Unavailable(f"{PENDING_RECORDS} audit records wait for the disk"))
                self._pending.append(text)
                return self._future
            self._pending.append(text)
        try:
            future = self._future = self._writer.submit(self._write)
        except SysadmdError as error:
            with self._lock:
                self._pending.clear()
            log.error("an audit record was not written", error=str(error))
            return _failed(error)
        future.add_done_callback(_complain)
        return future

    def _write(self, connection: Connection) -> tuple[None, Sequence[object]]:
        """In the writer's thread."""
        with self._lock:
            texts, self._pending = self._pending, []
        audit_table.append(connection, texts)
        return None, ()

    def _signed(self) -> Checkpoint:
        seq, head = self._store.read_now(audit_table.read_head)
        key = self._key = self._key or signing_key(self._key_dir)
        public = public_bytes(key)
        now = self._clock()
        signature = base64.b64encode(key.sign(statement(seq, head, now))).decode()
        return Checkpoint(seq, head, now, key_id(public), signature)


class _Flood:
    """A token bucket for each address prefix, the one that was quiet for longest forgotten first, and one for all."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        self._all = (FLOOD_BURST * FLOOD_TOTAL, monotonic())
        self._counts: Counter[str] = Counter()

    def admits(self, prefix: str, kind: str) -> bool:
        """Whether one more record fits."""
        now = self._monotonic()
        left, at = self._buckets.pop(prefix, (FLOOD_BURST, now))
        left = min(FLOOD_BURST, left + (now - at) * FLOOD_RATE)
        total = min(FLOOD_BURST * FLOOD_TOTAL, self._all[0] + (now - self._all[1]) * FLOOD_RATE * FLOOD_TOTAL)
        fits = left >= 1 and total >= 1
        self._buckets[prefix] = (left - fits, now)
        self._all = (total - fits, now)
        if len(self._buckets) > FLOOD_PREFIXES:
            self._buckets.popitem(last=False)
        if not fits:
            self._counts[kind] += 1
        return fits

    def taken(self) -> dict[str, int]:
        """How many were left out since the last time, by kind."""
        counts = dict(self._counts)
        self._counts.clear()
        return counts


def verify_store(store: Store, key_dir: Path, anchors: dict[int, str] | None = None) -> Verdict:
    """Look at the whole trail of an open database. Blocks; for a worker thread, or a command. Raises StateError."""

    def look(connection: Connection) -> Verdict:
        checkpoints = audit_table.read_checkpoints(connection)
        public_key = read_public_key(key_dir / PUBLIC_FILE)
        if checkpoints and public_key is None:
            raise StateError(f"{key_dir / PUBLIC_FILE}: is missing, so that no signature can be checked")
        return verify(
            lambda start: audit_table.read_rows(connection, start),
            checkpoints,
            public_key=public_key,
            head=audit_table.read_head(connection),
            anchors=anchors,
        )

    return store.read_now(look)


def signing_key(directory: Path) -> Ed25519PrivateKey:
    """The key of the checkpoints, made where there is none. Raises StateError for a file that holds none."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    path = directory / KEY_FILE
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        key = Ed25519PrivateKey.generate()
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        text = key.private_bytes(encoding, form, serialization.NoEncryption())
        _write_file(path, text, 0o600)
        _write_file(directory / PUBLIC_FILE, f"{base64.b64encode(public_bytes(key)).decode()}\n".encode(), 0o644)
        return key
    try:
        loaded = serialization.load_pem_private_key(text, None)
    except (ValueError, TypeError) as error:
        raise StateError(f"{path}: is not a private key in PEM") from error
    if not isinstance(loaded, Ed25519PrivateKey):
        raise StateError(f"{path}: is not an Ed25519 key")
    return loaded


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 bytes of the public key (RFC 8032)."""
    return key.public_key().public_bytes_raw()


def read_public_key(path: Path) -> bytes | None:
    """The public key in a file, base64 of 32 bytes; None where there is none yet. Raises StateError."""
    try:
        raw = base64.b64decode(path.read_text().strip(), validate=True)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StateError(f"{path}: is not the base64 of a public key") from error
    if len(raw) != 32:
        raise StateError(f"{path}: a public key of Ed25519 has 32 bytes, this has {len(raw)}")
    return raw


def _write_file(path: Path, data: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _complain(future: asyncio.Future[None]) -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("audit records were not written", error=str(error))


def _done() -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    return future


def _failed(error: Exception) -> asyncio.Future[None]:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(error)
    future.exception()  # whoever does not wait for it need not be told that nobody asked
    return future
